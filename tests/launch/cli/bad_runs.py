"""Bad run directories, settings, models and texts, and flags that contradict each other."""

from pathlib import Path

from tests.launch.cli.bad_files import DEEP, NO_TABLES, TARGET, Case, case

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
    "verify broken/KIND --rung no", f"export broken/KIND/{RUN_ID} --to hf new",
    f"replay broken/KIND/{RUN_ID}",
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
    "export runs.csv --to hf new", "export runs.csv --to no new", "export runs/mine --to hf afile",
    "export . --to hf new", "export runs.csv -o out.csv --to hf new", "export runs.csv runs.csv --to hf new",
    "export runs.csv --to hf",
    "export runs.csv -o out.csv --where run", "export runs.csv -o out.csv --where =a", "fit runs.csv --weights value",
    "export runs.csv runs.csv -o out.csv", "export runs.csv losses.csv -o out.csv", "fit runs.csv --y value",
    "fit runs.csv --runs run", "fit losses.csv --against piqa --law transfer", "predict losses.csv", "predict runs.csv",
    "predict runs.csv --method paper --bootstrap 5", "predict runs.csv --method best", "design runs.csv",
    "compare runs.csv runs.csv", "fit losses.csv --published kaplan", "fit losses.csv --published hoffmann --seed 1",
    "allocate losses.csv --budget 1e21 --vary a --unique 1e9", "allocate losses.csv --budget 1e21 --vary n=params",
    "allocate losses.csv --budget 1e21 --vary n=params,no", "allocate losses.csv --budget 1e21 --vary loss=a,b",
    "train runs/mine/a --rung x --vmap seeds=2", "fit losses.csv losses.csv", "submit demo --backend slurm --at-once 2",
    "submit demo --backend gke", "submit demo --backend tpu", "watch demo", "status demo --root no", "logs demo",
    "cancel demo", "verify demo", "new my.txt --target 7B,4T", "new my.py --target 7B", "new my.py --target 10K,1M",
    "new my.py --target 7B,4T --budget 1e12", "new losses.csv --target 7B,4T", "track demo --to tensorboard",
    "new my.py --target 7B,4T --tokenizer foo", "new my.py --target x", "new my.py --target 7B,4T,1e24", "track",
    "new no/my.py --target 7B,4T", "track nowhere --to wandb", "track runs/mine --to TensorBoard",
    "track runs/mine", "track no/such --to tensorboard", "track runs/mine --to disk",
    "status no/such", "fit", "no-such-verb", "--no-such-flag", "plan demo --devices",
    "plan demo demo", "fit losses.csv --drop-above 0.001", "fit losses.csv --reach 0.001", "fit losses.csv --reach 2",
    "fit losses.csv --starts grid --law kaplan-nd", "extrapolate losses.csv", "conclude no/such", "conclude afile",
    "extrapolate runs.csv --task piqa --metric bpb --n no", "study runs.csv --run no", "conclude .", "train no/such",
    "replay afile", "replay .",
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
