"""Cloud TPU by queued resources, one for every run. Each machine's start-up script fetches the code and trains.

Until it is deleted, a preempted (SUSPENDED) queued resource holds quota, and an ACTIVE one costs money. So a resource
is deleted when its run is over, and when it is suspended or has failed.
"""

import shlex
from collections.abc import Sequence

from ladder.errors import InputError
from launch.backends import bucket_mount
from launch.backends.archive import Code
from launch.backends.bucket_mount import COPIED, Placement
from launch.backends.protocol import TRIES, TRY_AGAIN, Busy, Job, Seen
from launch.settings import Environment, Tpu

QUEUED = ("CREATING", "ACCEPTED", "PROVISIONING", "WAITING_FOR_RESOURCES")
ENDED = ("SUSPENDED", "FAILED")

# number: the worker's index within its slice, from the machine's metadata. $1 of give_up: the reason.
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


def startup_script(job: Job, settings: Tpu, environment: Environment, code: Code, placement: Placement = COPIED) -> str:
    """The script that every machine of a run executes at every boot; it reads secrets from Secret Manager. Pure."""
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
    lines += [] if job.is_fit else bucket_mount.commands(placement, settings.cache_gib)
    train = shlex.join(["/opt/ladder/.venv/bin/ladder", *job.argv])
    try_again = "|".join(map(str, TRY_AGAIN))
    lines += [
        "mkdir -p /opt/ladder && cd /opt/ladder",
        f"if [ ! -e ready-{code.commit} ]; then",
        f"  gcloud storage cp --quiet {shlex.quote(code.path)} code.tar.gz || give_up 'cannot read the code archive'",
        f"  sha256sum --check <<<'{code.sha256}  code.tar.gz' || give_up 'wrong hash of the code archive'",
        "  tar -xzf code.tar.gz --no-same-owner || give_up 'damaged code archive'",
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
        f"    {try_again}) sleep 90 ;;  # longer than the lease of the run's previous owner",
        "    78) exit 78 ;;",
        '    *) give_up "exit code $code" ;;',
        "  esac",
        "done",
        f'give_up "exit code $code, {TRIES} times on one machine"',
    ]
    return "\n".join(lines) + "\n"


class Cluster:
    """client: a google.cloud.tpu_v2.TpuClient; without one, it is made from the user's default credentials."""

    name = "tpu"
    max_jobs = None
    keeps_machines = True
    chains = False
    retry_delay = 60.0

    def __init__(self, settings: Tpu, environment: Environment, code: Code, client=None, placement: Placement = COPIED):
        settings.check()
        self.settings, self.environment, self.code = settings, environment, code
        self.placement, self._api = placement, client

    @property
    def parent(self) -> str:
        return f"projects/{self.settings.project}/locations/{self.settings.zone}"

    def request(self, job: Job):
        """The QueuedResource of a run. Pure."""
        from google.cloud import tpu_v2 as api
        from google.protobuf.duration_pb2 import Duration

        s, tpu = self.settings, self.settings.slice_of("fit" if job.is_fit else job.size)
        node = api.Node(
            accelerator_type=tpu.accelerator_type,
            runtime_version=s.runtime_version,
            network_config=api.NetworkConfig(network=s.network, subnetwork=s.subnetwork, enable_external_ips=True),
            service_account=api.ServiceAccount(email=s.service_account) if s.service_account else None,
            labels={"ladder": "run"},
            metadata={"startup-script": startup_script(job, s, self.environment, self.code, self.placement)},
        )
        spec = api.QueuedResource.Tpu.NodeSpec(parent=self.parent, node=node)
        if s.slices > 1 and not job.is_fit:
            # The API sets node names and MEGASCALE variables.
            spec.multislice_params = api.QueuedResource.Tpu.NodeSpec.MultisliceParams(
                node_count=s.slices, node_id_prefix=job.name
            )
        else:
            spec.node_id = job.name
        resource = api.QueuedResource(tpu=api.QueuedResource.Tpu(node_spec=[spec]))
        if s.spot:
            resource.spot = api.QueuedResource.Spot()
        if s.reservation:
            resource.guaranteed = api.QueuedResource.Guaranteed()
            resource.reservation_name = s.reservation
        if s.wait_hours:
            duration = Duration(seconds=round(3600 * s.wait_hours))
            resource.queueing_policy = api.QueuedResource.QueueingPolicy(valid_until_duration=duration)
        return resource

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
        names, seen = {job.name for job in jobs}, {}
        for item in self._call("list_queued_resources", "", {"parent": self.parent, "page_size": 200}):
            if (name := item.name.rpartition("/")[2]) in names:
                seen[name] = (_seen(item),)
        return seen

    def delete(self, job: Job, seen: Seen) -> None:
        self._call("delete_queued_resource", "NotFound", {"name": seen.id, "force": True})

    def logs(self, job: Job) -> list[str]:
        return []  # the start-up script keeps log.txt in the run directory

    def _client(self):
        if self._api is None:
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud import tpu_v2 as api

            try:
                self._api = api.TpuClient()
            except DefaultCredentialsError:
                raise InputError("no Google credentials; run: gcloud auth application-default login") from None
        return self._api

    def _call(self, method: str, ignore: str, request: dict):
        """ignore: the name of the error that means it is done already. Raises Busy, or InputError if refused."""
        from google.api_core import exceptions as api

        try:
            answer = getattr(self._client(), method)(request=request, timeout=30, retry=None)
            return list(answer) if method.startswith("list") else answer
        except api.GoogleAPICallError as error:
            if type(error).__name__ == ignore:
                return None
            message = f"Cloud TPU: {type(error).__name__}: {' '.join((error.message or '').split())[:300]}"
            refused = (api.InvalidArgument, api.PermissionDenied, api.Unauthenticated, api.NotFound)
            if isinstance(error, refused):
                raise InputError(message) from None
            raise Busy(message) from None  # no quota, unavailable, timeout: the next poll shows what was done


def _seen(item) -> Seen:
    state = item.state.state.name
    if state in QUEUED:
        return Seen(item.name, "queued", reason=state)
    if state == "ACTIVE":
        return Seen(item.name, "running")
    if state in ENDED:
        return Seen(item.name, "ended", None, f"{state} {item.state.failed_data.error.message}".strip())
    return Seen(item.name, "unknown", reason=state)  # in transition: SUSPENDING, DELETING
