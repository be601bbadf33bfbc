"""The last job of a ladder: predict its targets from the runs that are done, and write the page."""

import hashlib

from ladder.errors import InputError
from ladder.rundir.lease import Lease
from ladder.rundir.record import Record
from launch import terminal


def conclude(directory) -> None:
    """Fit the runs that the fit directory's config.json names; write prediction.json, report.html, then DONE.json.

    A run that diverged is left out, and the report and DONE.json say so. Raises InputError where a run has not ended.
    """
    record = Record(directory)
    config = record.read_config()
    folder = record.directory.parent.parent
    with Lease(record.directory) as record.lease:
        states = {run: Record(folder / run).state() for run in config["runs"]}
        left_out = {run: f"{s.name}: {s.detail}" for run, s in states.items() if s.name != "done"}
        unfinished = [run for run in left_out if states[run].name != "diverged" and not _skipped(folder, run, states)]
        if unfinished:
            raise InputError(f"{folder}: {', '.join(unfinished)} not over yet; to train what is left: ladder submit")
        from fitting.forecasting import predict
        from fitting.report import task_report
        from fitting.tables import points, runs_table

        table = runs_table.read(folder)
        read = table.select(run=[run for run in states if run not in left_out])
        damaged = {run: why for run, _, why in (line.partition(": ") for line in table.left_out) if run in states}
        left_out = damaged | left_out
        targets = [points.Target(t["name"], t["n_params"], t["tokens"]) for t in config["targets"]]
        predicted = predict.predict(read, targets, n_resamples=config["resamples"])
        terminal.write_json(record.directory / "prediction.json", predicted.json())
        about = {
            "title": f"ladder {config['ladder']}: prediction",
            "commands": [f"ladder conclude {directory}"],
            "facts": {"left out": "; ".join(f"{run} {why}" for run, why in left_out.items()) or "nothing"},
        }
        (record.directory / "report.html").write_text(task_report.page(read, predicted, about))
        outputs = {name: (record.directory / name).read_bytes() for name in ("prediction.json", "report.html")}
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in outputs.items()}
        record.finish(step=0, loss=None, left_out=left_out, outputs=hashes)


def _skipped(folder, run: str, states) -> bool:
    """Whether the run never began because its trunk diverged."""
    parent = Record(folder / run).read_config()["derived"]["parent_run"]
    return parent in states and states[parent].name == "diverged"
