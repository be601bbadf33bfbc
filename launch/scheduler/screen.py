"""`ladder watch`: the loop, with a live status table."""

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ladder.errors import Preempted
from launch.scheduler import loop, status
from launch.scheduler.estimate import Spent
from launch.scheduler.loop import Round
from launch.scheduler.reconcile import OVER, ladder_states
from launch.scheduler.submission import Submission


def watch(
    folder: Path,
    submission: Submission,
    every: float,
    console: Console,
    follow: Callable[[Round], None] = lambda _: None,
) -> int:
    """Run the loop every `every` seconds until nothing is left to do. While another process submits this ladder, only
    show the status; when that process ends, take over. follow: what else is shown each round. Returns the exit code."""
    jobs, backend, last = submission.jobs, submission.config.open(), None
    with Live(console=console, auto_refresh=False) as live:

        def show(round_: Round) -> None:
            for line in round_.log:
                live.console.print(line, markup=False)
            live.update(_page(round_, submission.config.spent(round_.runs.values())), refresh=True)
            follow(round_)

        while last is None:
            try:
                with loop.submit_lease(folder) as lease:
                    last = loop.until_settled(jobs, backend, lease, every, show)
            except Preempted:  # another submitter has the lease
                runs = loop.observe(jobs)
                round_ = Round(runs, ladder_states(jobs, runs, {}), ())
                show(round_)
                if round_.settled:
                    last = round_
                else:
                    time.sleep(every)
    states = {*last.states.values()}
    if "diverged" in states:
        return 78
    return 1 if states & {*OVER, "blocked"} - {"done"} else 0


def _page(round_: Round, spent: Spent | None) -> Group:
    lines = [Text(str(spent))] if spent else []
    busy = [Text(f"the backend did not answer ({round_.busy}); asking again")] if round_.busy else []
    return Group(status.table(list(round_.runs.values()), round_.states), *lines, *busy)
