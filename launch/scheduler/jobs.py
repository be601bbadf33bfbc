"""The jobs of a ladder: one for every run directory, and the fit as the last one."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ladder.config import job_name
from ladder.errors import DamagedError, InputError
from ladder.rundir.record import Record
from launch.backends.protocol import Job

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")


def read(directories: Sequence[Path], fit: Path | None = None) -> tuple[Job, ...]:
    """The jobs of these run directories (and of a fit directory), each after those it needs: trunks before branches,
    targets after all rungs, the fit last. A run whose config.json is damaged has a job that is never submitted, because
    its state is "damaged". Raises InputError where a config.json lacks what a job needs."""
    configs, damaged = [], []
    for directory in directories:
        try:
            configs.append((str(directory), _checked(directory, Record(directory).read_config())))
        except DamagedError:
            damaged.append(directory)
    return of_configs(configs, fit, damaged)


def of_configs(
    configs: Sequence[tuple[str, Mapping]], fit: Path | None = None, damaged: Sequence[Path] = ()
) -> tuple[Job, ...]:
    """As `read`, of (run directory, its config.json), which need not be written yet."""
    configs = _in_order(configs)
    rungs = [config["run_id"] for _, config in configs if config["split"] != "target"]
    rungs += [directory.name for directory in damaged]
    jobs = [_of_damaged(directory) for directory in damaged]  # first: others may come after them
    jobs += [_train(directory, config, rungs) for directory, config in configs]
    if fit is not None:
        after = tuple((job.run_id, None) for job in jobs)
        name = job_name(fit.parent.parent.name, fit.name)
        jobs.append(Job(name, fit.name, str(fit), ("conclude", str(fit)), after, kind="fit"))
    return tuple(jobs)


def _of_damaged(directory: Path) -> Job:
    if not RUN_ID.fullmatch(directory.name):
        raise InputError(f"{directory}: {directory.name!r} is not the name of a run")
    name = job_name(directory.parent.name, directory.name)
    return Job(name, directory.name, str(directory), ("train", str(directory)))


def _checked(directory: Path, config: dict) -> dict:
    derived = ("parent_run", "size", "kind", "steps", "flops_per_token", "batch_tokens")
    missing = [name for name in ("split", "ladder", "rung") if name not in config]
    missing += [name for name in derived if name not in config["derived"]]
    if missing:
        raise InputError(f"{directory}/config.json: {missing[0]!r} is missing; write it again with ladder submit")
    return config


def _in_order(configs: Sequence[tuple[str, Mapping]]) -> list[tuple[str, Mapping]]:
    """The ladder's own order, with branches right after their trunk, so that a ladder that is interrupted has whole
    families; targets last."""
    place = {config["run_id"]: i for i, (_, config) in enumerate(configs)}

    def key(item: tuple[str, Mapping]) -> tuple[bool, int, bool]:
        config, parent = item[1], item[1]["derived"]["parent_run"]
        return config["split"] == "target", place.get(parent, place[config["run_id"]]), bool(parent)

    return sorted(configs, key=key)


def _train(directory: str, config: Mapping, rungs: Sequence[str]) -> Job:
    run_id, derived = config["run_id"], config["derived"]
    if not directory.isprintable():
        raise InputError(f"{directory!r}: the path contains control characters; choose another --root")
    if not RUN_ID.fullmatch(run_id) or directory.rpartition("/")[2] != run_id:
        raise InputError(f"{directory}/config.json: run_id {run_id!r} is not the name of its directory")
    if derived["parent_run"] and not RUN_ID.fullmatch(derived["parent_run"]):
        raise InputError(f"{directory}/config.json: parent_run {derived['parent_run']!r} is not the name of a run")
    first = config["rung"].get("parent_step") or 0
    after = ((derived["parent_run"], first),) if derived["parent_run"] else ()
    if config["split"] == "target":
        after += tuple((rung, None) for rung in rungs)
    return Job(
        name=job_name(config["ladder"], run_id),
        run_id=run_id,
        directory=directory,
        argv=("train", directory),
        after=after,
        size=derived["size"],
        kind=derived["kind"],
        first=first,
        steps=derived["steps"],
        flops=float(derived["flops_per_token"]) * derived["batch_tokens"] * (derived["steps"] - first),
    )
