"""The verb `track`: the metrics of runs in TensorBoard or Weights & Biases."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ladder.errors import InputError
from ladder.rundir.files import absolute
from launch import terminal
from launch.cli.options import RUNS, Name, Root, refuse_rung, root_of
from launch.scheduler import runs


def track(
    name: Name,
    /,
    *,
    to: Literal["tensorboard", "wandb"],
    rung: Annotated[str | None, arg(help="only this run: its label or the start of its run_id")] = None,
    dir: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: tensorboard; with wandb: .)")] = None,
    follow: Annotated[bool, arg(aliases=["-f"])] = False,
    root: Root = RUNS,
) -> None:
    """Copy the metrics of a ladder's runs to TensorBoard or Weights & Biases, beside ladder submit or after it.

    Every value is written once, however often runs and this command are stopped; the same command again goes on. A run
    publishes its metrics with each checkpoint, so new ones arrive every save_every steps.

    Example: ladder track demo --to tensorboard --follow

    Example: WANDB_MODE=offline ladder track runs/mine --to wandb

    Args:
        to: tensorboard writes event files; wandb sends to the server, or writes folders where WANDB_MODE is offline
        dir: the folder to write to
        follow: wait for new metrics, until all runs and the fit are over
    """
    from launch.trackers.follow import Progress
    from launch.trackers.follow import follow as copy
    from launch.trackers.tracker import alone_in

    refuse_rung(name, rung)
    folder = runs.directory(name, rung, root_of(name, root)) if rung else runs.folder(name, root_of(name, root))
    run = (folder / "config.json").exists()
    ladder = (absolute(folder).parent if run else absolute(folder)).name
    directory = dir or Path("tensorboard" if to == "tensorboard" else ".")
    console = terminal.console()

    def show(progress: Progress) -> None:
        line = f"{progress.values:,} values written; {progress.over} of {progress.runs} runs are over"
        line += f"; the bucket does not answer, asking again ({progress.busy})" if progress.busy else ""
        if line != shown[-1]:
            shown.append(line)
            bar.update(task, description=line)
            if follow:
                console.print(line)

    with alone_in(directory, ladder):
        tracker = _tracker(to, directory, ladder)
        with terminal.progress() as bar:
            task, shown = bar.add_task("reading the runs", total=None), [""]
            try:
                progress = copy(folder, tracker, follow, show)
            finally:
                tracker.close()
    if not follow:
        console.print(shown[-1])
    console.print(f"to look at them: {tracker.how_to_look()}")
    if progress.left_out:
        *more, first = reversed(progress.left_out.values())
        raise InputError(first + (f" (and {len(more)} more runs that cannot be read)" if more else ""))


def _tracker(to: str, directory: Path, ladder: str):
    if to == "tensorboard":
        from launch.trackers.tensorboard import TensorBoard

        return TensorBoard(directory)
    from launch.trackers.wandb_client import Client
    from launch.trackers.wandb_offline import Offline
    from launch.trackers.wandb_online import Online

    client = Client(directory)
    return (Offline if client.offline else Online)(client, ladder)
