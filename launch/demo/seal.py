"""The sealed forecast of a demo. It is written once; a demo that is run again reads the file."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ladder.config import Ladder, canonical_json
from ladder.rundir.record import Record
from launch import sealed


def path_of(ladder: Ladder, folder: Path) -> Path:
    """The file of the forecast of these runs: another text or configuration has another."""
    run_ids = canonical_json(sorted(run.run_id for run in ladder.all))
    return folder / f"sealed-{hashlib.sha256(run_ids.encode()).hexdigest()[:8]}.json"


def once(ladder: Ladder, folder: Path, forecast, targets: Sequence, settings: dict) -> sealed.Sealed:
    """Seal a `fitting.Forecast` unless the folder holds one of these runs; returns the sealed one. settings: as
    sealed.write takes them."""
    path = path_of(ladder, folder)
    if not path.exists():
        trained = [run.run_id for run in ladder.targets if Record(folder / run.run_id).is_done()]
        sealed.write(path, forecast.table, targets, forecast, settings, trained)
    return sealed.read(path)


def line(forecast: sealed.Sealed, changed: Sequence[str]) -> str:
    """Whether a sealed forecast stands as it was made. changed: of sealed.facts."""
    order = "after" if forecast.contents["measured_before"] else "before"
    said = "; ".join(changed) or "unchanged since"
    return f"sealed {order} the target was trained, {said}: sha256 {forecast.sha256[:12]}..."
