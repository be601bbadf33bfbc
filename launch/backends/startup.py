"""The start-up script of a TPU VM: it brings an interpreter, installs one commit, trains, and deletes its machines.

An image has an older Python than the package wants (3.9 or 3.10). uv, which is one static program in a wheel, brings
another: pip downloads it, the script checks its hash, and uv checks the hash of the Python that it downloads.
"""

import shlex
from pathlib import Path

from launch.backends import bucket_mount
from launch.backends.archive import Code
from launch.backends.bucket_mount import COPIED, Placement
from launch.backends.protocol import TRIES, TRY_AGAIN, Job
from launch.settings import Environment, Tpu

BODY = Path(__file__).with_suffix(".sh")
UV = "0.13.9"
UV_SHA256 = "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19"  # of its wheel for x86_64, glibc


def script(job: Job, settings: Tpu, environment: Environment, code: Code, placement: Placement = COPIED) -> str:
    """What every machine of a run executes at every boot. It reads secrets from Secret Manager. Pure."""
    tpu, slices = settings.slice_of("fit" if job.is_fit else job.size), 1 if job.is_fit else settings.slices
    values = {
        "RUN": job.directory,
        "NODE": job.name,
        "PROJECT": settings.project,
        "ZONE": settings.zone,
        "MACHINES": tpu.vms * slices,
        "MACHINES_OF_SLICE": tpu.vms,
        "DATA_DISK": settings.data_disk,
        "CODE": code.path,
        "CODE_SHA256": code.sha256,
        "COMMIT": code.commit,
        "UV": UV,
        "UV_SHA256": UV_SHA256,
        "PYTHON": settings.python,
        "TRIES": TRIES,
        "TRY_AGAIN": " ".join(map(str, TRY_AGAIN)),
    }
    exported = dict(sorted(environment.variables.items())) | {"LADDER_STAGE": "/opt/ladder/stage"}
    if job.is_fit:
        exported["JAX_PLATFORMS"] = "cpu"
    elif tpu.vms * slices > 1:
        exported["LADDER_COORDINATOR"] = "auto"
    lines = ["#!/bin/bash", *(f"{name}={shlex.quote(str(value))}" for name, value in values.items())]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
    mounts = [] if job.is_fit else bucket_mount.commands(placement, settings.cache_gib)
    train = shlex.join(["/opt/ladder/code/.venv/bin/ladder", *job.argv])
    functions = {"read_secrets": _secrets(environment), "mount_buckets": mounts, "train": [train]}
    for name, body in functions.items():
        lines += [f"{name}() {{", *(body or [":"]), "}"]
    return "\n".join([*lines, BODY.read_text()])


def _secrets(environment: Environment) -> list[str]:
    lines = []
    for name, reference in sorted(environment.secrets.items()):
        secret, version = reference.split("/")
        lines.append(f'{name}="$(gcloud secrets versions access {version} --secret={secret})" || return 1')
        lines.append(f"export {name}")
    return lines
