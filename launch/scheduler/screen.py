"""`ladder watch`: the status table, kept true while the loop runs under it."""

import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ladder.errors import Preempted
from launch.scheduler import loop, status
from launch.scheduler.loop import Round
from launch.scheduler.reconcile import OVER, SETTLED, standing
from launch.scheduler.submission import Submission


def watch(folder: Path, there: Submission, every: float, console: Console) -> int:
    """Keep the ladder going until it is settled. While another submitter does, only look; when that one is gone, go on
    in its place. Returns the exit code."""
    backend, last = there.engine.open(), None
    with Live(console=console, auto_refresh=False) as live:

        def show(round_: Round) -> None:
            for line in round_.did:
                live.console.print(line, markup=False)
            live.update(_page(round_), refresh=True)

        while last is None:
            try:
                with loop.alone(folder) as lease:
                    last = loop.until_settled(there.jobs, backend, lease, every, show)
            except Preempted:  # another is at it
                runs = loop.observe(there.jobs)
                round_ = Round(runs, standing(there.jobs, runs, {}), ())
                show(round_)
                if all(stand in SETTLED for stand in round_.stands.values()):
                    last = round_
                else:
                    time.sleep(every)
    return _code(last)


def _page(round_: Round) -> Group:
    parts = [status.table(list(round_.runs.values()), round_.stands)]
    if round_.busy:
        parts.append(Text(f"the engine did not answer ({round_.busy}); asking again"))
    return Group(*parts)


def _code(last: Round) -> int:
    states = {*last.stands.values()}
    if "diverged" in states:
        return 78
    return 1 if states & {*OVER, "blocked"} - {"done"} else 0
