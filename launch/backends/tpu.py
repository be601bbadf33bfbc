"""Cloud TPU by queued resources: one for every run. A machine runs a start-up script that fetches the code and trains.

A queued resource that was preempted stays SUSPENDED and eats quota until it is deleted; one that is ACTIVE costs until
it is deleted. So everything whose run is over, and everything suspended or failed, is deleted.
"""

import shlex
from collections.abc import Sequence

from ladder.errors import InputError
from launch.backends.archive import Code
from launch.backends.protocol import TRIES, TRY_AGAIN, Busy, Job, Seen
from launch.settings import Environment, Tpu

QUEUED = ("CREATING", "ACCEPTED", "PROVISIONING", "WAITING_FOR_RESOURCES")
ENDED = ("SUSPENDED", "FAILED")

# The worker's number within its slice is in the machine's metadata. $1: what ended badly.
_FUNCTIONS = r"""
number=$(curl -sf -H 'Metadata-Flavor: Google' \
  http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number || echo 0)
keep_log() { [ "$number" = 0 ] && gcloud storage cp --quiet /var/log/ladder.log "$RUN/log.txt" 2>/dev/null; }
give_up() {
  echo "$1"
  printf '{"schema_version": 1, "state": "failed", "step": null, "loss": null, "reason": "%s"}\n' "$1" >/tmp/stopped
  gcloud storage cp --quiet --no-clobber /tmp/stopped "$RUN/STOPPED.json"
  keep_log
  exit 1
}
exec >>/var/log/ladder.log 2>&1
while sleep 30; do keep_log; done &
"""


def startup_script(job: Job, settings: Tpu, environment: Environment, code: Code) -> str:
    """What every machine of a run does at every boot. Pure; secrets are read from Secret Manager on the machine."""
    lines = ["#!/bin/bash", "set -uo pipefail", f"RUN={shlex.quote(job.directory)}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.variables.items())]
    for name, reference in sorted(environment.secrets.items()):
        secret, version = reference.split("/")
        lines.append(f'export {name}="$(gcloud secrets versions access {version} --secret={secret})"')
    lines.append("export LADDER_STAGE=/tmp/ladder-stage")
    if job.is_fit:
        lines.append("export JAX_PLATFORMS=cpu")
    elif settings.slice_of(job.size).vms * settings.slices > 1:
        lines.append("export LADDER_COORDINATOR=auto")
    lines.append(_FUNCTIONS)
    train = shlex.join(["/opt/ladder/.venv/bin/ladder", *job.argv])
    again = "|".join(map(str, TRY_AGAIN))
    lines += [
        "mkdir -p /opt/ladder && cd /opt/ladder",
        f"if [ ! -e ready-{code.commit} ]; then",
        f"  gcloud storage cp --quiet {shlex.quote(code.path)} code.tar.gz || give_up 'the code archive is not there'",
        f"  sha256sum --check <<<'{code.sha256}  code.tar.gz' || give_up 'the code archive has another hash'",
        "  tar -xzf code.tar.gz --no-same-owner || give_up 'the code archive is damaged'",
        f"  {shlex.quote(settings.python)} -m venv .venv \\",
        "    && .venv/bin/pip install -q -c constraints.txt '.[tpu,gcp]' \\",
        "    || give_up 'the packages could not be installed'",
        "  .venv/bin/ladder data olmes || give_up 'the OLMES requests could not be installed'",
        f"  touch ready-{code.commit}",
        "fi",
        f"for attempt in {' '.join(map(str, range(1, TRIES + 1)))}; do",
        f"  {train}",
        "  code=$?",
        "  keep_log",
        "  case $code in",
        "    0) exit 0 ;;",
        f"    {again}) sleep 90 ;;  # longer than the lease of who held the run before",
        "    78) exit 78 ;;",
        '    *) give_up "exit code $code" ;;',
        "  esac",
        "done",
        f'give_up "exit code $code, {TRIES} times on one machine"',
    ]
    return "\n".join(lines) + "\n"


class Cluster:
    """client: a google.cloud.tpu_v2.TpuClient; made from the user's default credentials where none is given."""

    name = "tpu"
    room = None
    keeps_machines = True
    chains = False
    wait = 60.0

    def __init__(self, settings: Tpu, environment: Environment, code: Code, client=None):
        settings.check()
        self.settings, self.environment, self.code, self._made = settings, environment, code, client

    @property
    def parent(self) -> str:
        return f"projects/{self.settings.project}/locations/{self.settings.zone}"

    def request(self, job: Job):
        """The QueuedResource of a run. Pure."""
        from google.cloud import tpu_v2 as api
        from google.protobuf.duration_pb2 import Duration

        s, where = self.settings, self.settings.slice_of("fit" if job.is_fit else job.size)
        node = api.Node(
            accelerator_type=where.accelerator_type,
            runtime_version=s.runtime_version,
            network_config=api.NetworkConfig(network=s.network, subnetwork=s.subnetwork, enable_external_ips=True),
            service_account=api.ServiceAccount(email=s.service_account) if s.service_account else None,
            labels={"ladder": "run"},
            metadata={"startup-script": startup_script(job, s, self.environment, self.code)},
        )
        spec = api.QueuedResource.Tpu.NodeSpec(parent=self.parent, node=node)
        if s.slices > 1 and not job.is_fit:
            # Node names and MEGASCALE variables are the API's to give.
            spec.multislice_params = api.QueuedResource.Tpu.NodeSpec.MultisliceParams(
                node_count=s.slices, node_id_prefix=job.name
            )
        else:
            spec.node_id = job.name
        made = api.QueuedResource(tpu=api.QueuedResource.Tpu(node_spec=[spec]))
        if s.spot:
            made.spot = api.QueuedResource.Spot()
        if s.reservation:
            made.guaranteed = api.QueuedResource.Guaranteed()
            made.reservation_name = s.reservation
        if s.wait_hours:
            seconds = round(3600 * s.wait_hours)
            made.queueing_policy = api.QueuedResource.QueueingPolicy(valid_until_duration=Duration(seconds=seconds))
        return made

    def render(self, job: Job) -> str:
        from google.cloud import tpu_v2 as api

        return f"# {self.parent}/queuedResources/{job.name}\n{api.QueuedResource.to_json(self.request(job))}"

    def submit(self, job: Job) -> None:
        self._call(
            "create_queued_resource",
            "AlreadyExists",
            {"parent": self.parent, "queued_resource_id": job.name, "queued_resource": self.request(job)},
        )

    def poll(self, jobs: Sequence[Job]) -> dict[str, tuple[Seen, ...]]:
        names, found = {job.name for job in jobs}, {}
        for item in self._call("list_queued_resources", "", {"parent": self.parent, "page_size": 200}):
            if (name := item.name.rpartition("/")[2]) in names:
                found[name] = (_seen(item),)
        return found

    def delete(self, job: Job, seen: Seen) -> None:
        self._call("delete_queued_resource", "NotFound", {"name": seen.id, "force": True})

    def logs(self, job: Job) -> list[str]:
        return []  # the start-up script keeps log.txt in the run directory

    def _client(self):
        if self._made is None:
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud import tpu_v2 as api

            try:
                self._made = api.TpuClient()
            except DefaultCredentialsError:
                raise InputError("no Google credentials: gcloud auth application-default login") from None
        return self._made

    def _call(self, method: str, fine: str, request: dict):
        """fine: the error that says that it is done already."""
        from google.api_core import exceptions as api

        try:
            answer = getattr(self._client(), method)(request=request, timeout=30, retry=None)
            return list(answer) if method.startswith("list") else answer
        except api.GoogleAPICallError as error:
            if type(error).__name__ == fine:
                return None
            said = f"Cloud TPU: {type(error).__name__}: {' '.join((error.message or '').split())[:300]}"
            wrong = (api.InvalidArgument, api.PermissionDenied, api.Unauthenticated, api.NotFound)
            if isinstance(error, wrong):
                raise InputError(said) from None
            raise Busy(said) from None  # quota, unavailable, too late: the next poll tells what was done


def _seen(item) -> Seen:
    state = item.state.state.name
    if state in QUEUED:
        return Seen(item.name, "queued", reason=state)
    if state == "ACTIVE":
        return Seen(item.name, "running")
    if state in ENDED:
        return Seen(item.name, "ended", None, f"{state} {item.state.failed_data.error.message}".strip())
    return Seen(item.name, "unknown", reason=state)  # on its way: SUSPENDING, DELETING
