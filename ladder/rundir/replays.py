"""Steps to repeat: RUN_DIR/replay/<step>.json, what is known of a step that diverged or was skipped.

Each file is written atomically and holds its own hash. It is small: rows are named, not copied.
"""

from ladder.errors import DamagedError
from ladder.rundir.files import read_sealed, sealed, write_atomic


def write(directory, step: int, bundle: dict) -> None:
    """Keep the bundle of a step (loop/divergence.py) in the run directory."""
    folder = directory / "replay"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{step}.json", sealed({"run_id": directory.name, "step": step} | bundle))


def steps(directory) -> list[int]:
    """The steps of the kept bundles, ascending."""
    folder = directory / "replay"
    names = [path.name.removesuffix(".json") for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def read(directory, step: int) -> dict | None:
    """The bundle of a step, None if there is none. Raises DamagedError if it is damaged or another run's."""
    path = directory / "replay" / f"{step}.json"
    try:
        bundle = read_sealed(path)
    except FileNotFoundError:
        return None
    if (bundle.get("run_id"), bundle.get("step")) != (directory.name, step):
        raise DamagedError(f"{path}: belongs to step {bundle.get('step')} of {bundle.get('run_id')}; delete it")
    return bundle
