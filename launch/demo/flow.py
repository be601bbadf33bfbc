"""A demo from its beginning to its end: train a small ladder, seal a forecast of its targets, train them, compare."""

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from configs import loader
from ladder.config import Ladder
from ladder.errors import Diverged, InputError
from ladder.evaluation.held_out.tasks import Settings
from ladder.sizes import n_params
from launch import display, plan, prepare, terminal
from launch import sealed as sealed_forecasts
from launch.backends.local import Local
from launch.demo import closing, compute, questions, seal
from launch.page.writer import Page
from launch.scheduler import foreground

RESAMPLES = 200


def ladder_of(name: str, seed: int, text: tuple[str, ...]) -> Ladder:
    """A built-in demo ladder, with a name of its own for every seed. text: files of the user to train on, if any."""
    if seed < 0:
        raise InputError(f"--seed {seed}: must not be negative")
    ladder = loader.BUILT_IN[name](seed)
    if seed:
        ladder = replace(ladder, name=f"{name}-s{seed}")
    if text:
        ladder = ladder.map(lambda rung: replace(rung, data=replace(rung.data, text=text)))
    return ladder


def run(
    ladder: Ladder,
    root: Path,
    corpora: Path,
    console: Console,
    at_once: int = 1,
    asked: Sequence[Settings] = (),
    against_compute: bool = False,
    floor: str = "families",
) -> Path:
    """Corpus, rungs (at_once at a time), forecast, targets, report; called again, it resumes. -> path of the report.

    ladder: any that has rungs and targets. asked: questions to make from its held-out text, besides its own tasks.
    against_compute: show the forecast beside a law of compute alone. floor: as fitting.forecast takes it. The forecast
    is sealed before the targets are trained, from the rungs alone, and is never written over. status.html shows all of
    it while it happens.
    """
    prepare.check_tasks(ladder)
    stages, folder = Stages(console), root / ladder.name
    with stages("corpus"):
        built = prepare.build(ladder, corpora)
        display.flags(built.notes)
        if against_compute:
            compute.check_text(built)
        if asked:
            built = _with_questions(built, asked, folder)
        rungs, targets = prepare.write(built, built.ladder.rungs, root), _targets(built.ladder)
        status_page = Page(folder, folder / "status.html", f"ladder {ladder.name}", targets=targets)
        console.print(f"progress, as a page to open in a browser: {status_page.path}", soft_wrap=True)
    with stages("rungs"):
        _train(rungs, console, status_page, at_once)
    with stages("prediction"):
        forecast, sealed = _forecast(built.ladder, folder, rungs, targets, floor, console)
    with stages("target"):
        held_out = prepare.write(built, built.ladder.targets, root)
        _train(held_out, console, status_page)
    with stages("report"):
        measured, page = _read_runs(folder, rungs + held_out), folder / "report.html"
        entries, (said, changed) = sealed_forecasts.compared(sealed, measured), sealed_forecasts.facts(sealed, measured)
        about = _about(built, folder, targets, floor) | {"sealed": {"lines": [*said, *changed], "entries": entries}}
        if against_compute:
            about["sections"] = [compute.compare(sealed, entries, forecast, folder, console)]
        _report(measured, forecast, page, about)
        status_page.finish({"The report of the prediction": page.name})
    terminal.write_json(folder / "stages.json", stages.to_json())
    console.print(str(stages))
    closing.show(entries, seal.line(sealed, changed), page, console)
    return page


def _with_questions(built: prepare.Built, asked: Sequence[Settings], folder: Path) -> prepare.Built:
    """Also with the questions of its corpus at the ends of its runs; says in a line which kinds the text lacks."""
    with terminal.working("making questions from the held-out text"):
        paths, lines = questions.write(built, asked, folder)
    display.flags(lines)
    return replace(built, ladder=questions.added(built.ladder, paths))


def _targets(ladder: Ladder) -> list:
    from fitting.tables.points import Target

    return [Target(t.run_id, float(n_params(t.model)), float(t.steps * t.batch_tokens)) for t in ladder.targets]


def _forecast(ladder: Ladder, folder: Path, rungs: list[Path], targets: list, floor: str, console: Console) -> tuple:
    """(the forecast of the rungs, the Sealed one), which are the same unless the rungs have changed since."""
    import fitting
    from fitting.report import task_tables
    from fitting.tables import runs_table

    # The rungs alone, so that `ladder predict` on this file gives the same forecast again.
    table = folder / "rungs.csv.gz"
    runs_table.write(_read_runs(folder, rungs), table)
    with terminal.working("fitting the task laws"):
        settings = {"resamples": RESAMPLES, "seed": 0, "tasks": None, "floor": floor}
        forecast = fitting.forecast(runs_table.read(table), targets, **settings)
        sealed = seal.once(ladder, folder, forecast, targets, settings)
    metric = forecast.prediction.measurements.metric
    display.tables(task_tables.predictions(sealed_forecasts.compared(sealed, forecast.table), (), metric), console)
    console.print(f"the forecast is sealed in {seal.path_of(ladder, folder)}", soft_wrap=True)
    for lines in sealed_forecasts.facts(sealed, forecast.table):
        display.flags(lines)
    return forecast, sealed


def _report(measured, forecast, page: Path, about: dict) -> None:
    """Write the page and its first figure. measured: the runs table with the targets."""
    from fitting.report import task_report

    task_report.report(measured, forecast.prediction, page, about)
    task_report.hero(measured, forecast.prediction, page.with_name("prediction.png"))


def _about(built: prepare.Built, folder: Path, targets: list, floor: str) -> dict:
    """Title, commands and facts of the report: where its numbers come from, and how to reproduce them."""
    costs, first = plan.make(built.ladder), built.ladder.rungs[0]
    share = costs.shares[costs.targets[0].label]
    predict = f"ladder predict {folder / 'rungs.csv.gz'} --bootstrap {RESAMPLES}"
    predict += "" if floor == "families" else f" --floor {floor}"
    facts = {
        "text": ", ".join(first.data.text),
        "corpus": first.data.corpus,
        "tokenizer": first.data.tokenizer,
        "rungs": f"{len(costs.rungs)} runs, {costs.flops:.2e} FLOPs, {share:.0%} of the target's",
        "seed": str(first.seed),
        "packages": ", ".join(f"{name} {version}" for name, version in prepare.packages().items()),
    }
    return {
        "title": f"ladder {built.ladder.name}: prediction and truth",
        "commands": [
            _command(built.ladder),
            f"{predict} --target " + " ".join(f"{t.name}={t.N:.0f},{t.D:.0f}" for t in targets),
            f"ladder report {folder} -o report.html",
        ],
        "facts": facts,
    }


def _command(ladder: Ladder) -> str:
    """The command that trained this demo."""
    first = ladder.rungs[0]
    flags = [flag for flag in ("--quick", "--full", "--forecast") if flag.strip("-") in ladder.name]
    flags += ["--seed", str(first.seed)] if first.seed else []
    flags += ["--text", *first.data.text] if first.data.text != ("python",) else []
    return shlex.join(["ladder", "demo", *flags])


def _train(directories: list[Path], console: Console, page: Page, at_once: int = 1) -> None:
    outcome = foreground.train(directories, console, Local(at_once), lambda r: page.follow(r, console.print, more=True))
    if outcome.diverged:
        raise Diverged(f"{', '.join(outcome.diverged)}; a demo needs all its runs")


def _read_runs(folder: Path, directories: list[Path]):
    """The runs table of these runs only: a folder may also hold runs of another text or configuration."""
    from fitting.tables import runs_table

    names, table = [path.name for path in directories], runs_table.read(folder)
    for line in table.left_out:
        if line.partition(":")[0] in names:
            raise InputError(f"{folder}: a demo needs all its runs, but {line}")
    return table.select(run=names)


@dataclass
class Stages:
    """Wall time by stage."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.console.rule(name, align="left")
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    def to_json(self) -> dict:
        stages = [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.seconds.items()]
        return {"stages": stages, "total_seconds": round(sum(self.seconds.values()), 3)}

    def __str__(self) -> str:
        each = ", ".join(f"{name} {terminal.duration(seconds)}" for name, seconds in self.seconds.items())
        return f"wall time {terminal.duration(sum(self.seconds.values()))}: {each}"
