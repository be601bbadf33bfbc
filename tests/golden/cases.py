"""Results that a change of structure must not move: what `ladder` and `fitting` answered, recorded as JSON.

python -m tests.golden.cases record [NAME ...]     write tests/golden/NAME.json
python -m tests.golden.cases compare [NAME ...]    compare with what is recorded (`make proof-goldens`); exit code 1 if
                                                   anything differs

Fits are compared to 1e-9 of each number. A trained run is compared bit for bit on the machine that recorded it, and to
1e-4 elsewhere, because XLA generates other code for other processors. Cases that need ../shared are skipped aloud.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np

from fitting.loss_laws import loss_fit
from fitting.tables import loss_points, runs_table
from launch import cli, terminal
from tests.fitting.conftest import SHARED, simulated
from tests.ladder.conftest import World

HERE = Path(__file__).parent
TARGET = "7B-4T=6887575552,3945065873408,1.949343e23"
SIMULATED_TARGET = "target-2xC=190000,7600000"
RELATIVE = 1e-9
VOLATILE = {"seconds"}


def command(*arguments: str) -> dict:
    """What `ladder ARGUMENTS --json FILE` writes."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = cli.main([*arguments, "--json", "out.json"])
    assert code == 0, f"ladder {' '.join(arguments)} ended with {code}"
    return json.loads(Path("out.json").read_text())


def shared(name: str) -> str:
    """A copy in the working folder, so that results name no path of this machine."""
    if not (SHARED / name).exists():
        raise FileNotFoundError(f"../shared/data/{name}")
    Path(name).write_bytes((SHARED / name).read_bytes())
    return name


def ladder_table(name: str, **settings) -> str:
    """A simulated ladder (tests/fitting/conftest.py) as a file."""
    runs_table.write(simulated(**settings), name)
    return name


def losses(name: str) -> str:
    """Thirty-two runs of Chinchilla's law with 0.3 % of noise, on eight sizes."""
    rng = np.random.default_rng(3)
    n, ratio = np.repeat(np.geomspace(1e7, 3e9, 8), 4), np.tile(np.geomspace(5, 100, 4), 8)
    loss = (1.8 + 480 / n**0.35 + 2000 / (ratio * n) ** 0.37) * np.exp(0.003 * rng.standard_normal(32))
    lines = [f"{a:.17g},{r * a:.17g},{y:.17g}" for a, r, y in zip(n, ratio, loss, strict=True)]
    Path(name).write_text("\n".join(["params,tokens,loss", *lines]) + "\n")
    return name


def isoflops(name: str) -> str:
    """Nine sizes at each of four budgets, 0.1 % of noise."""
    rng, lines = np.random.default_rng(4), []
    for c in (1e18, 1e19, 1e20, 1e21):
        for n in 0.09 * c**0.5 * np.geomspace(0.25, 4, 9):
            loss = (1.8 + 480 / n**0.35 + 2000 / (c / 6 / n) ** 0.37) * np.exp(0.001 * rng.standard_normal())
            lines.append(f"{n:.17g},{c:.17g},{loss:.17g}")
    Path(name).write_text("\n".join(["params,flops,loss", *lines]) + "\n")
    return name


def given_resamples() -> dict:
    """Chinchilla's law on Chinchilla's points, with 4,000 resamples that are handed in."""
    points = loss_points.read(shared("chinchilla_points.csv"))
    draws_Rn = np.random.default_rng(0).multinomial(len(points), np.full(len(points), 1 / len(points)), 4000)
    fitted = loss_fit.fit(points, resamples_Rn=draws_Rn)
    return json.loads(terminal.to_json_text(fitted.json()))


def trained() -> dict:
    """Metrics, evaluations and final parameters of a full run, a trunk and its branch, of the tiny world."""
    from configs.wsd import trunk_and_branches
    from ladder.loop import train
    from ladder.loop.evaluate import evaluate
    from ladder.loop.run import open_run
    from ladder.rundir.checkpoint import Checkpoints
    from ladder.rundir.record import Record

    world = World(Path.cwd())
    world.requests = Path(world.requests.name)  # the evaluation's name and hash hold no path of this machine
    full = world.rung()
    trunk, branch = trunk_and_branches(full, (0.5,))
    directories = world((full, trunk, branch), Path("runs"))
    out = {"machine": machine()}
    for directory in directories:
        with contextlib.redirect_stdout(io.StringIO()):
            train.train(directory)
        record = Record(directory)
        run = open_run(record)
        checkpoints = Checkpoints(record.directory / "checkpoints")
        state = checkpoints.read(run.steps, run.program.abstract_state)
        import jax

        leaves = {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree_util.tree_leaves_with_path(state)}
        [evaluated] = evaluate(directory, (str(world.requests),), max_docs=5)
        out[directory.name] = {
            "metrics": list(record.rows()),
            "leaves": {k: float(np.sum(np.abs(v), dtype=np.float64)) for k, v in leaves.items()},
            "bits": {k: hashlib.sha256(v.tobytes()).hexdigest()[:16] for k, v in leaves.items()},
            "evaluation": {"hash": evaluated.hash, "tokens": evaluated.tokens, "rows": list(evaluated.rows)},
        }
    return out


def machine() -> str:
    """What decides the last bits of a trained run."""
    import jax

    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    text = f"{platform.machine()} {sorted(flags.split())} {os.cpu_count()} {jax.__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


CASES = {
    "predict-default": lambda: command(
        "predict", shared("olmo_ladder_runs.csv.gz"), "--target", TARGET, "--bootstrap", "200"
    ),
    "predict-paper": lambda: command(
        "predict", shared("olmo_ladder_runs.csv.gz"), "--target", TARGET, "--method", "paper"
    ),
    "predict-paper-c": lambda: command(
        "predict", shared("olmo_ladder_runs.csv.gz"), "--target", TARGET, "--method", "paper-c"
    ),
    "predict-paper-single": lambda: command(
        "predict", shared("olmo_ladder_runs.csv.gz"), "--target", TARGET, "--method", "paper-single"
    ),
    "predict-simulated": lambda: command("predict", ladder_table("a.csv"), "--bootstrap", "200"),
    "backtest": lambda: command("backtest", shared("olmo_ladder_runs.csv.gz")),
    "design": lambda: command("design", shared("olmo_ladder_runs.csv.gz"), "--target", TARGET, "--budget", "7e20"),
    "compare": lambda: command(
        "compare", ladder_table("a.csv"), ladder_table("b.csv", seed=5, noise=0.003), "--target", SIMULATED_TARGET,
        "--bootstrap", "200",
    ),
    "fit-chinchilla-given-resamples": given_resamples,
    "fit-chinchilla": lambda: command("fit", losses("losses.csv"), "--bootstrap", "200"),
    "fit-few-runs": lambda: command("fit", few(losses("losses.csv")), "--bootstrap", "200"),
    "fit-kaplan-nd": lambda: command("fit", losses("losses.csv"), "--law", "kaplan-nd", "--bootstrap", "200"),
    "fit-kaplan-n": lambda: command("fit", losses("losses.csv"), "--law", "kaplan-n", "--bootstrap", "200"),
    "fit-published": lambda: command("fit", losses("losses.csv"), "--law", "kaplan-nd", "--published", "kaplan"),
    "allocate-law": lambda: command("allocate", losses("losses.csv"), "--budget", "1e22", "--bootstrap", "200"),
    "allocate-isoflop": lambda: command(
        "allocate", isoflops("grid.csv"), "--approach", "2", "--budget", "1e22", "--bootstrap", "200"
    ),
    "allocate-published": lambda: command("allocate", "--published", "kaplan", "--budget", "1e21", "1e22"),
    "trained": trained,
}  # fmt: skip


def few(path: str) -> str:
    """Every third row: eleven runs."""
    header, *rows = Path(path).read_text().splitlines()
    Path("few.csv").write_text("\n".join([header, *rows[::3]]) + "\n")
    return "few.csv"


def differences(recorded, now, relative: float, path: str = "") -> list[str]:
    """One line for each difference; numbers may differ by `relative`, and VOLATILE entries are not compared."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        lines = [f"{path}: keys {sorted(recorded.keys() ^ now.keys())}"] if recorded.keys() != now.keys() else []
        for key in recorded.keys() & now.keys() - VOLATILE:
            lines += differences(recorded[key], now[key], relative, f"{path}.{key}")
        return lines
    if isinstance(recorded, list) and isinstance(now, list) and len(recorded) == len(now):
        return [
            line for i, pair in enumerate(zip(recorded, now, strict=True))
            for line in differences(*pair, relative, f"{path}[{i}]")
        ]  # fmt: skip
    numbers = isinstance(recorded, float) and isinstance(now, float)
    same = math.isclose(recorded, now, rel_tol=relative, abs_tol=1e-300) if numbers else recorded == now
    return [] if same else [f"{path}: {recorded!r} is now {now!r}"]


def compared(name: str, now: dict, relative: float = RELATIVE) -> list[str]:
    recorded = json.loads((HERE / f"{name}.json").read_text())
    if name != "trained":
        return differences(recorded, now, relative)
    if recorded["machine"] == now["machine"]:
        return differences(recorded, now, 0.0)
    for results in (recorded, now):  # other bits, the same numbers but for rounding
        del results["machine"]
        for run in results.values():
            del run["bits"]
    return differences(recorded, now, 1e-4)


def main(action: str, *names: str) -> int:
    failed, home = 0, os.getcwd()
    for name in names or CASES:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                now = CASES[name]()
            except FileNotFoundError as error:
                print(f"{name}: skipped, {error} is not there", flush=True)
                continue
            finally:
                os.chdir(home)
        if action == "record":
            (HERE / f"{name}.json").write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
            print(f"{name}: recorded", flush=True)
            continue
        lines = compared(name, json.loads(json.dumps(now)))
        failed += bool(lines)
        print(f"{name}: " + (f"{len(lines)} differences" if lines else "equal"), flush=True)
        for line in lines[:20]:
            print(f"  {line}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
