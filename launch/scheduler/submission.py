"""What was submitted, and to which backend: submit.json beside the run directories, so that watch, logs and cancel need
neither the ladder's code nor flags."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.files import is_local, read_sealed, sealed, write_atomic
from launch import prepare, settings
from launch.backends.archive import Code
from launch.backends.bucket_mount import Placement
from launch.backends.protocol import Backend, Job
from launch.scheduler import jobs, status
from launch.scheduler.estimate import Estimate, estimate
from launch.settings import Settings

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

    def cost(self) -> Estimate:
        """Of the runs that are not done."""
        config = self.config
        slice_of = {"gke": config.settings.gke.slice_of, "tpu": config.settings.tpu.slice_of}.get(config.backend)
        runs = status.read_jobs(self.jobs)
        return estimate(self.jobs, runs, slice_of, config.settings.prices)


def write(built: prepare.Built, targets: bool, root: Path, config: BackendConfig, dry: bool = False) -> Submission:
    """Write a ladder's run directories, its fit directory and submit.json (not where `dry`: it may be in use)."""
    if config.backend in ("local", "slurm") and not is_local(root):
        raise InputError(f"--root {root}: {config.backend} needs a folder on a disk that all its machines share")
    rungs = built.ladder.all if targets else built.ladder.rungs
    directories = prepare.write(built, rungs, root)
    fit = prepare.write_fit(built, rungs, root)
    value = {"runs": [path.name for path in directories], "fit": fit.name if fit else None, "engine": asdict(config)}
    if not dry:
        write_atomic(root / built.ladder.name / FILE, sealed(value))
    return Submission(jobs.read(directories, fit), config)


def read(folder: Path) -> Submission:
    """Raises InputError where nothing was submitted, or submit.json is damaged."""
    try:
        value = read_sealed(folder / FILE)
    except FileNotFoundError:
        raise InputError(f"{folder}: nothing was submitted from here; start with ladder submit") from None
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
    return Submission(jobs.read([folder / name for name in names], folder / "fit" / fit if fit else None), config)


def backend_logs(directory: Path) -> list[str]:
    """The lines of a run's output that the backend keeps; none where the run directory has a log."""
    folder = directory.parent
    if any(directory.glob("log*.txt")) or not (folder / FILE).exists():
        return []
    submission = read(folder)
    return next((submission.config.open().logs(job) for job in submission.jobs if job.run_id == directory.name), [])
