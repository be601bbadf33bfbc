"""Bad inputs for every verb of the command: commands as a stranger may type them, on the files that `write` makes.

A case is a line of words, in the folder of those files, and a part of the message that names the true cause ("" where
any one line will do). Most are products: a kind of fault times the verbs that can meet it.
"""

from pathlib import Path

from tests.launch.cli.bad_files import LADDERS, LOSSES, NO_TABLES, RUNS, TARGET, UNREADABLE, USAGE, Case, case
from tests.launch.cli.bad_runs import others, runs, write_more


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
    "replay runs/mine --step": ("-1", "99", "1.5", "x", ""),
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
    "data.max_bytes": ("0", "-1", "x", "1.5", "1e-9"),
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
    f"predict runs.csv --target {TARGET} --seal": "json",
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
    "doctor --json": "json",
    "eval runs/mine --json": "json",
    "replay runs/mine --json": "json",
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


def groups() -> dict[str, list[Case]]:
    return {f.__name__: f() for f in (files, cells, flags, names, overrides, outputs, runs, others)}
