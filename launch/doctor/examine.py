"""All that `ladder doctor` looks at: one Finding for each thing.

Nothing here uses the network, unless the folder of the runs is in a bucket. No value of a secret is shown.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from ladder.errors import InputError
from launch.doctor import devices, packages
from launch.doctor import root as folder_of_runs
from launch.doctor.finding import Finding

# Where commands and libraries look for credentials: variables, files.
CREDENTIALS = {
    "Google": (("GOOGLE_APPLICATION_CREDENTIALS",), "~/.config/gcloud/application_default_credentials.json"),
    "Kubernetes": (("KUBECONFIG",), "~/.kube/config"),
    "Hugging Face": (("HF_TOKEN",), "~/.cache/huggingface/token"),
    "AWS": (("AWS_ACCESS_KEY_ID", "AWS_PROFILE"), "~/.aws/credentials"),
    "W&B": (("WANDB_API_KEY",), "~/.netrc"),
}
# Of each backend: the commands and Python packages that it calls, and what pip installs for it.
BACKENDS = {
    "slurm": (("sbatch", "squeue", "scancel"), (), ""),
    "gke": (("kubectl",), ("kubernetes",), "kubernetes gcsfs"),
    "tpu": (("gcloud",), ("google.cloud.tpu_v2",), "google-cloud-tpu gcsfs"),
}
HELPFUL = {"kubectl", "gcloud"}  # for people; the backends do without


def examine(root: str) -> Iterator[Finding]:
    """Every finding, as soon as it is known. root: where run directories are, a folder or gs://..."""
    with devices.start() as process:  # it takes longest
        try:
            chips = devices.accelerators()
            yield from packages.examine("tpu" in chips)
            yield from folder_of_runs.examine(root)
            yield request_data()
            yield credentials(os.environ)
            yield from (backend(name) for name in BACKENDS)
            yield devices.devices(process, chips, os.environ)
        finally:
            process.kill()


def to_json(findings: list[Finding]) -> dict:
    """ "stops": how many findings stop a run."""
    return {"stops": sum(f.level == "stop" for f in findings), "findings": [asdict(f) for f in findings]}


def request_data() -> Finding:
    """Whether the OLMES requests are installed, with those of MMLU, which are written after the others."""
    from ladder.evaluation.tasks import FILES, SETS, find_requests

    mend = "run: ladder data olmes; runs that evaluate no OLMES tasks do not need it"
    try:
        folder = find_requests()
    except InputError as error:
        return Finding("note", "requests", f"OLMES {str(error).partition(':')[0]}; {mend}")
    files = {task: folder / "oe_eval_tasks" / FILES[task] / "requests.jsonl.gz" for task in SETS["olmes"]}
    absent = [task for task, file in files.items() if not file.is_file()]
    if absent:
        return Finding("note", "requests", f"OLMES in {folder.parent} lacks {', '.join(absent)}; {mend}")
    return Finding("ok", "requests", f"OLMES, all {len(files)} tasks, in {folder.parent}")


def credentials(env: Mapping[str, str]) -> Finding:
    """Which services' credentials are seen: the names of variables and files, never what is in them."""
    seen, not_seen, missing = [], [], []
    for service, (variables, file) in CREDENTIALS.items():
        names = [name for name in variables if env.get(name)]
        names += [file] * Path(file).expanduser().is_file()
        seen += [f"{service} ({', '.join(names)})"] * bool(names)
        not_seen += [service] * (not names)
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "KUBECONFIG"):
        files = [file for file in env.get(name, "").split(os.pathsep) if file]
        missing += [name] * (bool(files) and not any(Path(file).expanduser().is_file() for file in files))
    message = f"seen: {', '.join(seen) or 'none'}; not seen: {', '.join(not_seen) or 'none'}"
    if missing:
        message = f"the file that {' and '.join(missing)} names does not exist: set or unset it; {message}"
    return Finding("note" if missing else "ok", "credentials", message)


def backend(name: str) -> Finding:
    """Whether `ladder submit --backend NAME` finds what it calls."""
    commands, packages, distributions = BACKENDS[name]
    found = [command for command in commands if shutil.which(command)]
    found += [package for package in packages if _is_installed(package)]
    absent = [needed for needed in (*commands, *packages) if needed not in found]
    message = f"found {', '.join(found)}" if found else ""
    if not set(absent) - HELPFUL:
        unused = f"not found: {', '.join(absent)}, which helps people but is not needed" if absent else ""
        return Finding("ok", name, "; ".join(filter(None, [message, unused])))
    mend = f"for --backend {name} run: pip install {distributions}" if distributions else f"--backend {name} needs them"
    return Finding("note", name, "; ".join(filter(None, [f"not found: {', '.join(absent)}", message, mend])))


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package that it lies in
        return False
