"""`ladder study`: measure on your own runs what the papers measured on theirs."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ladder.errors import InputError
from ladder.rundir.files import as_path
from launch import display, terminal
from launch.cli.options import CORPORA, RUNS, Corpora, Json, Root, Targets, refuse
from launch.cli.verbs import ladder as ladders
from launch.cli.verbs import task_law
from launch.settings import FILE

Study = Annotated[
    Positional[str], arg(metavar="STUDY", help="shape, scaling, batch, branches or noise; or errors, with a TABLE")
]
Rest = Annotated[
    Positional[tuple[str, ...]],
    arg(
        metavar="[TABLE | KEY=VALUE ...]",
        help="a runs table to report on, without training; or overrides for every run, such as data.text=my/notes",
        help_behavior_hint="",
    ),
]


def study(
    name: Study,
    rest: Rest = (),
    /,
    *,
    ladder: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None,
    backend: Literal["local", "slurm", "gke", "tpu"] = "local",
    at_once: int | None = None,
    retry: bool = False,
    dry_run: bool = False,
    settings: Annotated[Path, arg(metavar="FILE")] = FILE,
    target: Targets = (),
    run: Annotated[str | None, arg(metavar="RUN", help_behavior_hint="")] = None,
    batch_study: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = None,
    out: Annotated[Path | None, arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")] = None,
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
) -> int:
    """Train the runs of a study and report what they say of the papers' statements: runs/study-NAME/report.html.

    The same command again resumes it, and reports again. shape: depth, width and heads at a fixed size. scaling: loss
    against size, data and compute. batch: the critical batch size. branches: one decayed trunk against a cosine run for
    each length. noise: how much seeds differ. errors: the task-ladder paper's error analysis of a table.

    Example: ladder study branches data.text=my/notes
    Example: ladder study noise my/runs.csv.gz -o noise.html
    Example: ladder study errors runs.csv.gz --run 1B-10xC

    Args:
        ladder: the runs: a ladder (study-NAME-tpu) or path/to/file.py:function; default: study-NAME, at CPU size
        backend: where to train; with others than local, repeat the command to submit what follows and to report
        at_once: local: how many runs at a time; default: one, or with JAX_PLATFORMS=cpu one per core (at most 4)
        retry: try again the runs that failed, diverged or were stuck
        dry_run: only print what would be submitted; nothing is written
        settings: partitions, images, topologies, prices
        target: errors: a model whose own run is in the table; without it, the first target there
        batch_study: scaling: study.json of ladder study batch on the same text, for C_min; default: the one of
            study-batch beside the runs, if there is one
        run: errors: whose last ten evaluations say how noisy a task is; without it, the largest run
        out: the page of a TABLE; default: report.html
    """
    from launch import study as studies

    if name != "scaling":
        refuse(f"with ladder study {name}", {"batch_study": batch_study})
    training = {"ladder": ladder, "at_once": at_once, "retry": retry, "dry_run": dry_run, "backend": backend != "local"}
    of_errors = {"target": target, "run": run}
    if name == studies.ERRORS or studies.is_table(name):
        refuse("with a table", training | {"out": out})
        task_law.error_analysis(_one_table(rest if name == studies.ERRORS else (name, *rest)), target, run, json)
        return 0
    studies.check_name(name)
    refuse(f"with ladder study {name}", of_errors)
    if rest and "=" not in rest[0]:
        refuse("with a table", training)
        return _of_table(name, _one_table(rest), out or Path("report.html"), json, batch_study)
    refuse("without a table", {"out": out, "json": json})
    return _trained(name, rest, ladder, backend, at_once, retry, dry_run, settings, root, corpora, batch_study)


def _of_table(name: str, table: str, page: Path, json: Path | None, batch_study: Path | None) -> int:
    from launch import study as studies

    command = ["ladder", "study", name, table, *_option(batch_study), "-o", str(page)]
    with terminal.working(f"analysing {table}"):
        studies.report_table(name, table, page, command, json, batch_study)
    print(page)
    return 0


def _option(batch_study: Path | None) -> list[str]:
    return [] if batch_study is None else ["--batch-study", str(batch_study)]


def _one_table(tables: tuple[str, ...]) -> str:
    if len(tables) != 1:
        raise InputError(f"name one table, and these are {len(tables)}; for example: ladder study errors runs.csv.gz")
    return tables[0]


def _trained(
    name, overrides, ladder, backend, at_once, retry, dry_run, settings, root, corpora, batch_study=None
) -> int:
    """Train what is not done yet, then report what is done, also where runs failed."""
    from configs import loader
    from launch import study as studies
    from launch.backends import local
    from launch.scheduler.foreground import Failed

    chosen, failed = ladder or f"study-{name}", None
    at_once = at_once or (local.runs_at_once() if backend == "local" else 1)
    how = {"backend": backend, "at_once": at_once, "retry": retry, "dry_run": dry_run, "settings": settings}
    try:
        code = ladders.submit(chosen, overrides, **how, root=root, corpora=corpora)
    except Failed as error:
        failed = error
    if dry_run:
        return code
    command = ["ladder", "study", name, *overrides, *(["--ladder", ladder] if ladder else [])]
    command += _option(batch_study)
    with terminal.working("analysing the runs"):
        reported = studies.report(name, as_path(root) / loader.load(chosen).name, command, batch_study)
    display.flags(f"missing: {line}" if reported.page else line for line in reported.lines)
    if reported.page:
        print(reported.page)
    if failed:
        raise failed
    return code
