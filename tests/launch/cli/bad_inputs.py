"""Bad inputs for every verb of the command: commands as a stranger may type them, on the files that `write` makes.

A case is a line of words, in the folder of those files, and a part of the message that names the true cause ("" where
any one line will do). Most are products: a kind of fault times the verbs that can meet it.
"""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

MACHINE = 75  # exit code where the machine is at fault
USAGE = "<usage>"  # in place of a message: the box in which tyro says that a flag cannot be read


@dataclass(frozen=True)
class Case:
    words: tuple[str, ...]
    says: str = ""

    @property
    def verb(self) -> str:
        return self.words[0] if self.words else ""

    def __str__(self) -> str:
        return " ".join(word if word and " " not in word else repr(word)[:60] for word in self.words)


def case(command: str, says: str = "", **words: str) -> Case:
    """A case from one line; a word in capitals that is named in `words` becomes that text, blanks and all."""
    return Case(tuple(words.get(word, word) for word in command.split()), says)


# --- files -------------------------------------------------------------------------------------------------------

LOSSES = "params,tokens,loss\n" + "".join(
    f"{n:.6g},{n * r:.6g},{1.8 + 480 / n**0.35 + 2000 / (n * r) ** 0.37:.6f}\n"
    for n in (1e7, 3e7, 1e8, 3e8, 1e9, 3e9)
    for r in (5, 20, 80)
)
RUNS_HEADER = "run,n_params,tokens,step,task,metric,value"
RUNS = RUNS_HEADER + "\n" + "".join(
    f"{n:.0e}-{r}xC,{n:.6g},{20 * n * r:.6g},100,{task},bpb,{0.5 + 90 / n**0.3 + 300 / (20 * n * r) ** 0.3:.6f}\n"
    for n in (1e7, 3e7, 1e8, 3e8, 1e9)
    for r in (1, 2, 5)
    for task in ("piqa", "arc")
)  # fmt: skip
DEEP = 200_000  # levels of JSON

# Files that are no table: their bytes, and what the message says.
NO_TABLES = {
    "empty.csv": (b"", "the file is empty"),
    "blanks.csv": (b" \n\t\n  \n", "the file is empty"),
    "random.csv": (bytes(range(256)) * 8, ""),
    "nul.csv": (LOSSES.encode()[:40] + b"\0\0\0" + LOSSES.encode()[40:], "holds zero bytes"),
    "utf16.csv": (LOSSES.encode("utf-16-le"), "holds zero bytes"),
    "utf16cut.csv": (b"\xff\xfe" + LOSSES.encode("utf-16-le")[:-1], "begins as UTF-16 but is not"),
    "latin1.csv": ("größe,loss\n1,2\n".encode("latin-1"), "is not UTF-8"),
    "cut.csv.gz": (gzip.compress(LOSSES.encode() * 9)[:-30], "the .gz is cut off"),
    "damaged.csv.gz": (gzip.compress(LOSSES.encode())[:20] + b"\xff" * 200, "damaged .gz"),
    "endless.csv.gz": (gzip.compress(b"1,2,3\n" * 2_000_000), "unpacks to more than"),
    "sheet.xlsx": (b"PK\x03\x04" + bytes(200), "Excel workbook"),
    "table.parquet": (b"PAR1" + bytes(200), "a Parquet file"),
    "table.csv.xz": (b"\xfd7zXZ\x00" + bytes(50), "compressed by xz"),
    "table.csv.zst": (b"\x28\xb5\x2f\xfd" + bytes(50), "compressed by Zstandard"),
    "page.csv": (b"<!DOCTYPE html><html></html>", "a web page"),
    "pointer.csv": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "deep.json": (b"[" * DEEP, "nested too deeply"),
    "deepobject.json": (b'{"a":' * DEEP, "nested too deeply"),
    "cut.json": (json.dumps([{"run": "a", "loss": 1.5}] * 9).encode()[:-9], "cut off"),
    "cut.jsonl": (b'{"run": "a"}\n{"run": "b', "not a JSON object"),
    "numbers.json": (b"[1, 2, 3]", "is not an object"),
    "results.json": (b'{"results": {"piqa": {"acc": 0.5}}}', "one JSON object"),
    "header.csv": (f"{RUNS_HEADER},params,loss\n".encode(), "has a header and no rows"),
    "ragged.csv": (b"run,n_params,tokens,step,task,metric,value,params,loss\n1,2\n", "fields, the header has"),
    "quote.csv": (b'run,loss\n"a,1\nb,2\n', "not CSV"),
    "twice.csv": (f"{RUNS_HEADER},params,loss,loss\n{'1,' * 9}1\n".encode(), "appears twice"),
    "unnamed.csv": (b"run,,,loss\n1,2,3,4\n", "have no name"),
    "other.csv": (b"colour,shape\nred,round\n", "no column"),
    "prose.csv": (b"Dear reader,\nthis is no table, is it?\n", ""),
}  # fmt: skip
UNREADABLE = {"no/such.csv": "no such file or folder", "afolder": "", "afile/table.csv": "", "x" * 300: ""}

LADDERS = {
    "syntax.py": ("def ladder(:\n", "invalid syntax"),
    "raises.py": ("def ladder():\n    return 1 / 0\n", "ZeroDivisionError"),
    "exits.py": ("import sys\nsys.exit(3)\n", "ends the program"),
    "nothing.py": ("", "has no function"),
    "number.py": ("def ladder():\n    return 7\n", "not a ladder.config.Ladder"),
    "argument.py": ("def ladder(size):\n    return size\n", "TypeError"),
    "missing_package.py": ("import no_such_package\n", "no_such_package"),
    "recursion.py": ("def ladder():\n    return ladder()\n", "RecursionError"),
    "nul.py": ("a\0b", ""),
    "latin.py": ("# gr\xf6\xdfe\n", ""),
}


def write(folder: Path) -> None:
    """The files that the cases read."""
    for name, (raw, _) in NO_TABLES.items():
        (folder / name).write_bytes(raw)
    for name, (text, _) in LADDERS.items():
        (folder / name).write_text(text, encoding="latin-1")
    (folder / "losses.csv").write_text(LOSSES)
    (folder / "runs.csv").write_text(RUNS)
    (folder / "afile").write_text("a file")
    (folder / "afolder").mkdir()
    for (kind, column, _), text in CELLS.items():
        (folder / f"{kind}-{column}.csv").write_text(text)
    write_more(folder)


# --- products ----------------------------------------------------------------------------------------------------

TARGET = "7B=7e9,1e12"
OF_TABLES = {
    "fit": "fit FILE",
    "allocate": "allocate FILE --budget 1e21",
    "extrapolate": "extrapolate FILE",
    "predict": f"predict FILE --target {TARGET}",
    "backtest": "backtest FILE",
    "compare": f"compare FILE runs.csv --target {TARGET}",
    "compare-other": f"compare runs.csv FILE --target {TARGET}",
    "design": f"design FILE --target {TARGET}",
    "study": "study FILE",
    "report": "report FILE -o out.html",
    "export": "export FILE -o out.csv",
}
OF_IMPORTERS = {
    "paper": "export FILE --source paper -o out.csv",
    "lm-eval": "export FILE --source lm-eval --run a=1e9,1e10 -o out.csv",
    "llm-foundry": "export FILE --source llm-foundry --run a=1e9,1e10 -o out.csv",
    "wandb": "export FILE --source wandb --run a=1e9 -o out.csv",
}
A_RESULT = case(OF_IMPORTERS["lm-eval"], FILE="results.json")  # which is none for the others
OF_LADDERS = {
    "plan": "plan NAME",
    "check": "check NAME --rung x --topology v5e:4x4",
    "train": "train NAME --rung x",
    "data": "data build NAME",
    "submit": "submit NAME",
    "watch": "watch NAME",
    "status": "status NAME",
    "logs": "logs NAME",
    "cancel": "cancel NAME",
    "verify": "verify NAME",
    "eval": "eval NAME",
}


def files() -> list[Case]:
    """Every verb that reads a table, every kind of file that is none."""
    kinds = {name: says for name, (_, says) in NO_TABLES.items()} | UNREADABLE
    tables = [case(command, says, FILE=name) for command in OF_TABLES.values() for name, says in kinds.items()]
    others = [case(command, FILE=name) for command in OF_IMPORTERS.values() for name in kinds]
    return tables + [case for case in others if case != A_RESULT]


# Texts that are no number in a column of numbers, and how a message shows them.
NOT_NUMBERS = {
    "nan": "nan", "inf": "inf", "minus": "-1e8", "zero": "0", "text": "large", "huge": "1e400", "none": "",
    "comma": '"1,5"', "percent": "50%", "hex": "0x10", "bracket": "[/red]",
}  # fmt: skip
CELLS: dict[tuple[str, str, str], str] = {}
for _kind, _text in NOT_NUMBERS.items():
    for _column in ("params", "tokens", "loss"):
        _header, *_rows = [line.split(",") for line in LOSSES.splitlines()]
        _rows[4][_header.index(_column)] = _text
        CELLS[_kind, _column, "losses.csv"] = "\n".join(map(",".join, [_header, *_rows]))
    for _column in ("n_params", "tokens", "step", "value"):
        _header, *_rows = [line.split(",") for line in RUNS.splitlines()]
        _rows[4][_header.index(_column)] = _text
        CELLS[_kind, f"runs-{_column}", "runs.csv"] = "\n".join(map(",".join, [_header, *_rows]))


def cells() -> list[Case]:
    """A cell of a column of numbers that holds none."""
    cases = []
    for kind, column, good in CELLS:
        name = f"{kind}-{column}.csv"
        if good == "losses.csv" and (kind, column) != ("none", "loss"):  # a run without a loss is left out, and listed
            cases += [case(f"fit {name}", ":6"), case(f"allocate {name} --budget 1e21", ":6")]
        if good == "runs.csv" and (kind, column) != ("zero", "runs-step"):
            is_zero = (kind, column) == ("zero", "runs-value")  # of a task that is not used it is no fault
            says, verbs = ("must be positive", ()) if is_zero else (":6", ("study", "export -o out.csv"))
            for verb in ("predict", "backtest", "design", "report -o out.html", *verbs):
                target = f" --target {TARGET}" if verb in ("predict", "design", "report -o out.html") else ""
                cases.append(case(f"{verb} {name}{target}", says))
    return cases


# Flags of a number: the command with the flag last, and the values that it refuses.
SEEDS = ("-1", "1.5", "x", "", "nan", "1e400", "99999999999999999999999999", str(2**63))
COUNTS = ("-1", "0", "1", "1.5", "x", "", "inf", "99999999999999999999999999")
POSITIVE = ("-1", "0", "nan", "inf", "-inf", "1e400", "x", "")
NUMBERS = {
    "fit losses.csv --seed": SEEDS,
    "allocate losses.csv --budget 1e21 --seed": SEEDS,
    f"predict runs.csv --target {TARGET} --seed": SEEDS,
    f"compare runs.csv runs.csv --target {TARGET} --seed": SEEDS,
    f"report runs.csv --target {TARGET} -o out.html --seed": SEEDS,
    "demo --seed": SEEDS,
    "fit losses.csv --bootstrap": COUNTS,
    "allocate losses.csv --budget 1e21 --bootstrap": COUNTS,
    f"predict runs.csv --target {TARGET} --bootstrap": COUNTS,
    f"compare runs.csv runs.csv --target {TARGET} --bootstrap": COUNTS,
    f"report runs.csv --target {TARGET} -o out.html --bootstrap": COUNTS,
    "fit losses.csv --huber": POSITIVE,
    "fit losses.csv --overestimate-penalty": POSITIVE,
    "fit losses.csv --drop-above": ("-1", "0", "nan", "-inf", "x", ""),
    "fit losses.csv --reach": ("-1", "0", "nan", "inf", "x", ""),
    "fit losses.csv --critical-batch": ("1", "1,2,3", "0,1", "1,nan", "x,y", "", "inf,1"),
    "fit losses.csv --precision": ("float16", "", "64"),
    "fit losses.csv --starts": ("many", "", "-1"),
    "allocate losses.csv --huber 0.1 --budget": POSITIVE,
    "allocate losses.csv --budget 1e21 --approach": ("0", "4", "-1", "x", "", "1.0"),
    "allocate losses.csv --budget 1e21 --unique": POSITIVE,
    "allocate losses.csv --budget 1e21 --approach 2 --isoflop": POSITIVE,
    "allocate --published hoffmann --budget": (*POSITIVE, "1000"),
    "design runs.csv --budget": POSITIVE,
    "extrapolate runs.csv --first": ("-1", "0", "1", "1.5", "nan", "inf", "x", ""),
    "plan demo --devices": ("-1", "0", "1.5", "x", "", "nan", "99999999999999999999999999"),
    "check demo --rung d24-trunk --topology v5e:4x4 --slices": ("-1", "0", "1.5", "x", ""),
    "check demo --rung d24-trunk --topology": ("", "x", "v5e", "v5e:", "v5e:0x4", "v5e:4", "v9:2x2", "v5e:-4x4",
                                               "v5e:4x4x4", "v5e:axb", "v5e:99999999999x99999999999"),
    "demo --at-once": ("-1", "0", "1.5", "x", ""),
    "eval runs/mine --max-docs": ("-1", "0", "1.5", "x", ""),
    "eval runs/mine --step": ("-1", "99", "1.5", "x", ""),
    "logs runs/mine --rung a --lines": ("-1", "0", "1.5", "x", ""),
    "watch runs/mine --every": ("-1", "0", "nan", "inf", "x", "", "1e9"),
    "submit demo --at-once": ("-1", "0", "x", ""),
    "submit demo --processes": ("-1", "0", "x", ""),
    "submit demo --backend": ("aws", "", "-1"),
    "train demo --rung d24-trunk --vmap": ("", "seeds=", "seeds=0", "seeds=-1", "seeds=x", "peak_lr=", "peak_lr=nan",
                                           "peak_lr=-1,1", "rate=3", "seeds=1e9", "seeds=1000000000",
                                           "peak_lr=1e-3,1e-3"),
    "train demo --rung d24-trunk --processes": ("x", "", "1.5"),
    "export losses.csv --source wandb --run a=1e9 -o out.csv --tokens": ("-1", "0", "nan", "none", ""),
    "export other.csv --source lm-eval --run a=1e9,1e10 -o out.csv --step": ("-1", "nan", "inf", "x", ""),
}  # fmt: skip
TARGETS = (
    "7B", "7B=", "=1e9,1e10", "7B=1e9", "7B=1e9,1e10,1e20,1", "7B=0,1", "7B=-1,1e9", "7B=nan,1e9", "7B=1e9,inf",
    "7B=a,b", "7B=1e9,1e10,1", "", "[/red]", "7B=1e400,1e10", "7B=1e9;1e10", "7B=1e9,1e10,", "7B=7,1e12", "7B=7e9,1",
)  # fmt: skip
RUNS_OF_EXPORT = ("a", "a=", "=1e9,1e10", "a=1e9", "a=1e9,1e10,3", "a=0,1", "a=nan,1", "a=x,y", "a=-1,5", "a=1e400,1")


def flags() -> list[Case]:
    numbers = [case(f"{command} VALUE", VALUE=value) for command, values in NUMBERS.items() for value in values]
    targets = [
        case(f"{verb} --target VALUE", VALUE=text)
        for verb in ("predict runs.csv", "design runs.csv", "compare runs.csv runs.csv", "study runs.csv")
        for text in TARGETS
    ]
    runs = [
        case(f"export header.csv --source {source} -o out.csv --run VALUE", "--run", VALUE=text)
        for source in ("lm-eval", "llm-foundry")
        for text in RUNS_OF_EXPORT
    ]
    unknown = [case(f"{command} --no-such-flag", USAGE) for command in (*OF_TABLES.values(), *OF_LADDERS.values())]
    return numbers + targets + runs + unknown


NAMES = (
    "", " ", "nope", "Demo", "demo ", "[bold]", "[/]", "[/red]", ":smile:", "..", "../..", "/", "a/b", "a\nb", "~", "*",
    "x" * 300, "demo/../demo", "no/such.py:ladder", "afolder:ladder", "losses.csv", "losses.csv:ladder", "demo:", ":",
    "afile", "gs:/x", "-", "\u202edemo", "nothing.py", "\x1b[31mred",
)  # fmt: skip
COLUMNS = ("no", "", "[/red]", "x" * 300, "a\nb", "Loss", "loss ")


def names() -> list[Case]:
    """Ladders, rungs, laws, tasks and columns that there are not."""
    ladders = [case(command, NAME=name) for command in OF_LADDERS.values() for name in NAMES]
    code = [
        case(f"{verb} {file}:ladder", says)
        for verb in ("plan", "train", "submit", "data build")
        for file, (_, says) in LADDERS.items()
    ]
    rungs = [
        case(f"{command} --rung VALUE", VALUE=rung)
        for command in ("train demo", "check demo --topology v5e:4x4")
        for rung in ("", "no", "d", "d24", "[/red]", "x" * 300, "..", "a\nb")
    ]
    laws = [
        case(f"{command} VALUE", VALUE=law)
        for command in ("fit losses.csv --law", "allocate losses.csv --budget 1e21 --law", "fit losses.csv --published",
                        "allocate --budget 1e21 --published")
        for law in ("no", "", "Chinchilla", "[/red]", "task", "sigmoid", "a\nb")
    ]  # fmt: skip
    columns = [
        case(f"fit losses.csv --{flag} VALUE", VALUE=column)
        for flag in ("n", "d", "c", "y", "weights", "runs")
        for column in COLUMNS
    ]
    tasks = [
        case(f"{command} VALUE", VALUE=task)
        for command in ("predict runs.csv --target 7B=7e9,1e12 --tasks", "fit runs.csv --metric bpb --task",
                        "extrapolate runs.csv --metric bpb --task", "study runs.csv --run",
                        "fit runs.csv --task piqa --metric",
                        "export runs.csv -o out.csv --where")
        for task in ("no", "", "[/red]", "a\nb", "x" * 300)
    ]  # fmt: skip
    roles = [
        case(f"fit losses.csv {flags}", "column")
        for flags in ("--n loss", "--d loss", "--n tokens", "--d params", "--y params", "--weights loss", "--y tokens",
                      "--c loss", "--n params --d params")
    ]  # fmt: skip
    return ladders + code + rungs + laws + columns + tasks + roles


OVERRIDES = {
    "multiple": ("1e308", "1e10", "0", "-1", "nan", "inf"),
    "save_at": ("0", "-1", "x"),
    "model.vocab_size": ("1e23", "0", "255", "1", "-5", "x", "", "99999999999999999999999", "nan", "4294967296"),
    "model.d_model": ("0", "-1", "7", "1.5", "x", "", "1e9", "99999999999999999999999"),
    "model.n_layers": ("0", "-1", "x", "99999999999999999999999"),
    "model.n_heads": ("0", "-2", "5", "99999999999999999999999"),
    "model.n_kv_heads": ("0", "3", "-1"),
    "model.d_ff": ("0", "-1", "99999999999999999999999"),
    "model.seq_len": ("0", "-1", "7", "99999999999999999999999"),
    "model.family": ("gpt5", "", "LLAMA"),
    "model.rope_theta": ("0", "nan", "inf", "1e400", "-1"),
    "model.norm_eps": ("0", "nan", "-1"),
    "model.init_std": ("0", "inf", "x"),
    "model.param_dtype": ("float64", "int8"),
    "optimizer.peak_lr": ("0", "1", "nan", "inf", "-1", "x", "1e400"),
    "optimizer.beta1": ("1", "-0.1", "nan"),
    "optimizer.beta2": ("1", "2"),
    "optimizer.eps": ("0", "-1"),
    "optimizer.grad_clip": ("0", "nan"),
    "optimizer.decay_fraction": ("0", "2"),
    "optimizer.schedule": ("linear", ""),
    "optimizer.warmup_tokens": ("-1", "x", "99999999999999999999999"),
    "optimizer.weight_decay": ("-1", "inf"),
    "data.tokenizer": ("", "bpe", "bpe:0", "bpe:10", "bpe:x", "gpt2", "deep.json", "no/such.json", "cut.json",
                       "numbers.json", "losses.csv", "bpe:99999999999999999999999", "afolder.json"),
    "data.validation": ("0", "0.5", "1", "nan", "-1"),
    "data.max_bytes": ("0", "-1", "x", "1e9"),
    "data.text": ("",),
    "eval.every": ("-1", "x"),
    "eval.max_docs": ("0", "-1"),
    "eval.validation_tokens": ("-1", "x"),
    "mesh.fsdp": ("0", "-2", "x"),
    "mesh.tensor": ("0", "-1"),
    "mesh.accumulation": ("0", "7", "-1"),
    "mesh.remat": ("some", ""),
    "batch_tokens": ("0", "-1", "100", "x", "1e5"),
    "tokens": ("0", "-1", "nan", "x"),
    "seed": ("-1", "x", "1.5", "99999999999999999999999999"),
    "size": ("", "a b", "../x", "a-b", "[bold]"),
    "kind": ("half", "trunk", "branch"),
    "save_every": ("-1", "x"),
    "no_such": ("1",),
    "model.no_such": ("1",),
    "model": ("1",),
    "model.d_model.x": ("1",),
    "": ("1",),
}  # fmt: skip
MALFORMED = (
    "model.d_model",
    "d_model",
    "=",
    "=5",
    "model.=5",
    ".=5",
    "--model.d_model=64",
    "model..d_model=64",
    "[/red]",
)


def overrides() -> list[Case]:
    cases = [
        case(f"{verb} OVERRIDE", OVERRIDE=f"{key}={value}")
        for verb in ("plan demo-quick", "train demo-quick --rung d8-0.25xC")
        for key, values in OVERRIDES.items()
        for value in values
    ]
    malformed = [
        case(f"{verb} OVERRIDE", OVERRIDE=text)
        for verb in ("plan demo", "train demo --rung d24-trunk", "submit demo")
        for text in MALFORMED
    ]
    return cases + malformed


# Where no file can be written.
OUTPUTS = ("afolder", "", ".", "/", "afile/out.FORM", "x" * 300 + ".FORM", "/dev/full/out.FORM")
OF_OUTPUTS = {
    "fit losses.csv --json": "json",
    "fit losses.csv --plot": "png",
    "allocate losses.csv --budget 1e21 --json": "json",
    "allocate losses.csv --budget 1e21 --plot": "png",
    "extrapolate runs.csv --task piqa --metric bpb --json": "json",
    "extrapolate runs.csv --task piqa --metric bpb --plot": "svg",
    f"predict runs.csv --target {TARGET} --json": "json",
    "backtest runs.csv --json": "json",
    "bench afolder --json": "json",
    "bench afolder -o": "html",
    "bench afolder --calibrate": "json",
    "bench afolder --markdown": "md",
    f"compare runs.csv runs.csv --target {TARGET} --json": "json",
    f"design runs.csv --target {TARGET} --json": "json",
    "study runs.csv --json": "json",
    f"report runs.csv --target {TARGET} -o": "html",
    "export runs.csv -o": "csv",
    "plan demo --json": "json",
    "check demo --rung d24-trunk --topology v5e:4x4 --json": "json",
    "eval runs/mine --json": "json",
    "status runs/mine --json": "json",
    "verify runs/mine --json": "json",
}


def outputs() -> list[Case]:
    paths = [
        case(f"{command} OUT", OUT=path.replace("FORM", form))
        for command, form in OF_OUTPUTS.items()
        for path in OUTPUTS
    ]
    figures = [
        case(f"{command} --plot {name}")
        for command in ("fit losses.csv", "allocate losses.csv --budget 1e21", "extrapolate runs.csv")
        for name in ("out", "out.docx", "out.", ".png")
    ]
    folders = {"no/such": "no such folder", "afile": "not a folder", "runs.csv": "not a folder", "afolder": "no table"}
    folders |= {"[bold]": "no such folder", "[/]": "no such folder", "x" * 300: ""}
    figures += [case("bench FILE", said, FILE=name) for name, said in folders.items()]
    return paths + figures + [case(f"export runs.csv -o {name}") for name in ("out", "out.json", "out.csv.zip")]


# --- runs, settings, models, texts -------------------------------------------------------------------------------

CONFIGS = {
    "empty": b"", "cut": b'{"run_id": "a", "derived": {', "deep": b'{"a":' * DEEP, "list": b"[]", "text": b'"a"',
    "null": b"null", "random": bytes(range(256)), "nul": b'{"run_id": "a\0"}', "number": b'{"run_id": 3}',
    "without": b'{"run_id": "RUN"}', "edited": b'{"run_id": "RUN", "derived": {}, "rung": {}, "sha256": "0"}',
    "nan": b'{"run_id": "RUN", "derived": {"steps": NaN}}', "long": b'{"run_id": "' + b"x" * 5000 + b'"}',
    "utf16": '{"run_id": "RUN"}'.encode("utf-16"), "surrogate": b'{"run_id": "\\ud800"}',
}  # fmt: skip
RUN_ID = "d8-1xC-s0-12345678"
OF_RUNS = (
    f"train broken/KIND/{RUN_ID}", f"eval broken/KIND/{RUN_ID}", "eval broken/KIND", "watch broken/KIND",
    "cancel broken/KIND", f"conclude broken/KIND/fit/{RUN_ID}", "fit broken/KIND", "extrapolate broken/KIND",
    f"predict broken/KIND --target {TARGET}", "study broken/KIND", "export broken/KIND -o out.csv",
    "report broken/KIND -o out.html", f"eval broken/KIND/{RUN_ID}/checkpoints/4", "logs broken/KIND --rung no",
    "verify broken/KIND --rung no",
)  # fmt: skip
SETTINGS = {
    "words": "words", "cut": "[slurm", "twice": "[slurm]\na=1\na=1", "unknown": "[slrm]\n",
    "key": "[slurm]\npartitions='a'", "type": "[slurm]\nnodes='2'", "zero": "[slurm]\nnodes=0",
    "minus": "[slurm]\nnodes=-1", "bool": "[slurm]\nnodes=true", "newline": '[slurm]\npartition="a\\nb"',
    "shell": "[slurm]\npartition='a;rm'", "option": "[slurm]\noptions=['x']", "list": "[slurm]\noptions='--x'",
    "secret": "[env]\nAPI_KEY='x'", "value": "[env]\nA='sk-012345678901234567890123'", "name": "[env]\na-b='x'",
    "number": "[env]\nA=1", "table": "slurm=1", "topology": "[gke]\ntopology={default='v5e:3'}",
    "nan": "[tpu]\nwait_hours=nan", "bucket": "[tpu]\narchive='x'", "both": "[tpu]\nspot=true\nreservation='r'",
}  # fmt: skip
TEXTS = (
    "no/such.txt", "empty.csv", "random.csv", "cut.csv.gz", "damaged.csv.gz", "afolder", "sheet.xlsx", "nul.csv",
    "utf16cut.csv", "latin1.csv", "cut.jsonl", "numbers.jsonl", "deep.jsonl", "notext.jsonl", "tfds:",
    "tfds:no_such_set_of_data",
)  # fmt: skip
CONTRADICTIONS = (
    "demo --quick --full", "data olmes demo", "data build", "data no", "allocate --budget 1e21", "train demo",
    "allocate losses.csv --published hoffmann --budget 1e21", "allocate losses.csv", "predict", "compare runs.csv",
    "eval runs/mine --missing --step 3", "eval runs/mine/checkpoints/7 --step 3", "export -o out.csv",
    "export runs.csv", "export runs.csv -o out.csv --run a=1,2", "export runs.csv -o out.csv --tokens 5",
    "export runs.csv -o runs.csv", "fit losses.csv --json losses.csv", "fit losses.csv --json a.json --plot a.json",
    "fit losses.csv --json a.png --plot a.png", "export runs.csv -o out.csv --where no=1", "plan demo --json ./",
    "export runs.csv runs.csv -o out.csv --source lm-eval --run a=1,2 b=1,2 c=1,2", "fit losses.csv --figure law",
    "export runs.csv -o out.csv --where run", "export runs.csv -o out.csv --where =a", "fit runs.csv --weights value",
    "export runs.csv runs.csv -o out.csv", "export runs.csv losses.csv -o out.csv", "fit runs.csv --y value",
    "fit runs.csv --runs run", "fit losses.csv --against piqa --law transfer", "predict losses.csv", "predict runs.csv",
    "predict runs.csv --method paper --bootstrap 5", "predict runs.csv --method best", "design runs.csv",
    "compare runs.csv runs.csv", "fit losses.csv --published kaplan", "fit losses.csv --published hoffmann --seed 1",
    "allocate losses.csv --budget 1e21 --vary a --unique 1e9", "allocate losses.csv --budget 1e21 --vary n=params",
    "allocate losses.csv --budget 1e21 --vary n=params,no", "allocate losses.csv --budget 1e21 --vary loss=a,b",
    "train runs/mine/a --rung x --vmap seeds=2", "fit losses.csv losses.csv", "submit demo --backend slurm --at-once 2",
    "submit demo --backend gke", "submit demo --backend tpu", "watch demo", "status demo --root no", "logs demo",
    "cancel demo", "verify demo", "status no/such", "fit", "", "no-such-verb", "--no-such-flag", "plan demo --devices",
    "plan demo demo", "fit losses.csv --drop-above 0.001", "fit losses.csv --reach 0.001", "fit losses.csv --reach 2",
    "fit losses.csv --starts grid --law kaplan-nd", "extrapolate losses.csv", "conclude no/such", "conclude afile",
    "extrapolate runs.csv --task piqa --metric bpb --n no", "study runs.csv --run no", "conclude .", "train no/such",
    "train afile", "train .", "eval afile", "eval .", "train runs --coordinator x:1", "watch demo --every 0",
    "check demo --rung d24-trunk --topology v5e:4x4 --recommend --slices 0",
)  # fmt: skip


def runs() -> list[Case]:
    return [case(command.replace("KIND", kind)) for command in OF_RUNS for kind in CONFIGS]


def others() -> list[Case]:
    kinds = [name for name in NO_TABLES if name != "results.json"]
    cases = [case(f"submit demo-quick --backend slurm --settings {kind}.toml", f"{kind}.toml") for kind in SETTINGS]
    cases += [
        case(f"submit demo-quick --settings {name}") for name in (*kinds[2:], "afolder", "no/such.toml", "afile/x")
    ]
    cases += [case(f"eval {kind}.gguf --tasks losses.csv", f"{kind}.gguf") for kind in CONFIGS]
    requests = (*kinds, "no", "afolder", "x" * 300)
    cases += [case(f"train demo-quick --rung d8-0.25xC eval.tasks={name}") for name in requests]
    cases += [case(f"data build demo-quick data.text={name}") for name in TEXTS]
    return cases + [Case(tuple(command.split())) for command in CONTRADICTIONS]


def write_more(folder: Path) -> None:
    """The files of `runs` and `others`."""
    for kind, raw in CONFIGS.items():
        raw = raw.replace(b"RUN", RUN_ID.encode())
        for run in (RUN_ID, f"fit/{RUN_ID}"):
            (folder / "broken" / kind / run).mkdir(parents=True)
            (folder / "broken" / kind / run / "config.json").write_bytes(raw)
        (folder / "broken" / kind / "submit.json").write_bytes(raw)
        (folder / f"{kind}.gguf").write_bytes(raw)
    for kind, text in SETTINGS.items():
        (folder / f"{kind}.toml").write_text(text)
    (folder / "numbers.jsonl").write_text("1\n2\n")
    (folder / "notext.jsonl").write_text('{"words": "a"}\n')
    (folder / "deep.jsonl").write_bytes(b"[" * DEEP)
    (folder / "afolder.json").mkdir()
    (folder / "corpora").mkdir()


def groups() -> dict[str, list[Case]]:
    return {f.__name__: f() for f in (files, cells, flags, names, overrides, outputs, runs, others)}
