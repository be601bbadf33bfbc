"""What was submitted, and to which backend: submit.json beside the run directories, so that watch, logs and cancel need
neither the ladder's code nor flags."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ladder.config import Ladder, Rung
from ladder.errors import InputError
from ladder.rundir.files import read_sealed, sealed, write_atomic
from launch import prepare, settings
from launch.backends.archive import Code
from launch.backends.bucket_mount import Placement
from launch.backends.protocol import Backend, Job
from launch.scheduler import jobs
from launch.scheduler.estimate import Estimate, Spent, estimate, spent
from launch.scheduler.status import Status
from launch.settings import Gke, Settings, Tpu

FILE = "submit.json"
BACKENDS = ("local", "slurm", "gke", "tpu")


@dataclass(frozen=True)
class BackendConfig:
    """backend: its name. at_once, processes: of local. settings: of ladder.toml. code: what TPU machines fetch.
    placement: how machines of Google Cloud reach the corpora."""

    backend: str = "local"
    at_once: int = 1
    processes: int = 1
    settings: Settings = field(default_factory=Settings)
    code: Code = field(default_factory=Code)
    placement: Placement = field(default_factory=Placement)

    @property
    def tpu(self) -> Gke | Tpu | None:
        """The settings of the backend whose machines are TPU slices; None for the other backends."""
        return {"gke": self.settings.gke, "tpu": self.settings.tpu}.get(self.backend)

    def spent(self, runs: Iterable[Status]) -> Spent | None:
        """On these runs so far; None where machines are not paid for by the hour."""
        return self.tpu and spent(runs, self.tpu.slice_of, self.tpu.slices, self.settings.prices)

    def open(self) -> Backend:
        """The backend. Raises InputError where a setting or a package is missing."""
        if self.backend == "local":
            from launch.backends.local import Local

            return Local(self.at_once, self.processes)
        from launch.backends import gke, slurm, tpu

        if self.backend == "slurm":
            return slurm.Cluster(self.settings.slurm, self.settings.environment)
        if self.backend == "gke":
            return gke.Cluster(self.settings.gke, self.settings.environment, placement=self.placement)
        return tpu.Cluster(self.settings.tpu, self.settings.environment, self.code, placement=self.placement)


@dataclass(frozen=True)
class Submission:
    jobs: tuple[Job, ...]
    config: BackendConfig

    def cost(self, runs: Mapping[str, Status]) -> Estimate:
        """Of the runs that are not done."""
        tpu = self.config.tpu
        return estimate(self.jobs, runs, tpu and tpu.slice_of, self.config.settings.prices)


def planned(
    ladder: Ladder, rungs: Sequence[Rung], root, config: BackendConfig, name: Callable[[str], str] = str
) -> Submission:
    """What `write` would submit; nothing is read or written. name: changes a run_id that is not final."""
    configs = []
    for rung in rungs:
        one = prepare.run_config(ladder, rung)
        one["run_id"], parent = name(one["run_id"]), one["derived"]["parent_run"]
        one["derived"]["parent_run"] = parent and name(parent)
        configs.append((str(root / ladder.name / one["run_id"]), one))
    fit = prepare.fit_id(ladder, tuple(rungs))
    return Submission(jobs.of_configs(configs, fit and root / ladder.name / "fit" / name(fit)), config)


def write(built: prepare.Built, targets: bool, root: Path, config: BackendConfig) -> Submission:
    """Write a ladder's run directories, its fit directory and submit.json."""
    rungs = built.ladder.all if targets else built.ladder.rungs
    directories = prepare.write(built, rungs, root)
    fit = prepare.write_fit(built, rungs, root)
    value = {"runs": [path.name for path in directories], "fit": fit.name if fit else None, "engine": asdict(config)}
    write_atomic(root / built.ladder.name / FILE, sealed(value))
    return Submission(jobs.read(directories, fit), config)


class NothingSubmitted(InputError):
    """The runs of a folder are trained by hand."""


def read(folder: Path) -> Submission:
    """Raises NothingSubmitted, and InputError where submit.json is damaged."""
    names, fit, config = _read(folder)
    return Submission(jobs.read([folder / name for name in names], folder / "fit" / fit if fit else None), config)


def spent_on(folder: Path, runs: Sequence[Status]) -> Spent | None:
    """On those of `runs` that were submitted; raises and returns as `read` and `BackendConfig.spent`. Reads only
    submit.json, so that a ladder of 1,000 runs in a bucket costs no 1,000 requests."""
    names, _, config = _read(folder)
    return config.spent(run for run in runs if run.run_id in names)


def _read(folder: Path) -> tuple[list[str], str | None, BackendConfig]:
    """(names of the run directories, name of the fit directory, backend) of submit.json; raises as `read`."""
    try:
        value = read_sealed(folder / FILE)
    except FileNotFoundError:
        raise NothingSubmitted(f"{folder}: nothing was submitted from here; start with ladder submit") from None
    try:
        names, fit, engine = value["runs"], value["fit"], value["engine"]
        if bad := [name for name in (*names, fit or "fit") if not jobs.RUN_ID.fullmatch(name)]:
            raise InputError(f"{bad[0]!r} is not the name of a run")
        placed = engine.get("placement", {})  # earlier versions wrote none
        parsed = {"settings": settings.from_dict(engine["settings"]), "code": Code(**engine["code"])}
        parsed["placement"] = Placement(**placed | {"mounted": tuple(placed.get("mounted", ()))})
        config = BackendConfig(**engine | parsed)
        if config.backend not in BACKENDS:
            raise InputError(f"no backend {config.backend!r}")
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{folder / FILE}: damaged ({error}); ladder submit writes it again") from None
    return names, fit, config


def backend_logs(directory: Path) -> list[str]:
    """The lines of a run's output that the backend keeps; none where the run directory has a log."""
    folder = directory.parent
    if any(directory.glob("log*.txt")) or not (folder / FILE).exists():
        return []
    submission = read(folder)
    return next((submission.config.open().logs(job) for job in submission.jobs if job.run_id == directory.name), [])
