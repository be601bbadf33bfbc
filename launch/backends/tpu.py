"""Cloud TPU by queued resources, one for every run. Each machine's start-up script fetches the code and trains.

Until it is deleted, a preempted (SUSPENDED) queued resource holds quota, and an ACTIVE one costs money. So a resource
is deleted when its run is over (by the start-up script, or here), and when it is suspended or has failed.
"""

import json
from collections.abc import Sequence

from ladder.errors import InputError
from ladder.topologies import KINDS
from launch.backends import startup
from launch.backends.archive import Code
from launch.backends.bucket_mount import COPIED, Placement
from launch.backends.protocol import Busy, Job, Seen
from launch.settings import Environment, Tpu

QUEUED = ("CREATING", "ACCEPTED", "PROVISIONING", "WAITING_FOR_RESOURCES")
ENDED = ("SUSPENDED", "FAILED")


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

    def resource(self, job: Job) -> dict:
        """The QueuedResource of a run, as the REST API has it. Pure, and needs no package."""
        s, tpu = self.settings, self.settings.slice_of("fit" if job.is_fit else job.size)
        network = {"network": s.network, "subnetwork": s.subnetwork, "enableExternalIps": True}
        node: dict = {
            "acceleratorType": tpu.accelerator_type,
            "runtimeVersion": s.runtime_version or KINDS[tpu.kind].runtime,
            "networkConfig": {name: value for name, value in network.items() if value},
            "labels": {"ladder": "run"},
            "metadata": {"startup-script": startup.script(job, s, self.environment, self.code, self.placement)},
        }
        if s.service_account:
            node["serviceAccount"] = {"email": s.service_account}
        if s.data_disk:
            node["dataDisks"] = [{"sourceDisk": s.data_disk, "mode": "READ_ONLY"}]
        spec = {"parent": self.parent, "node": node}
        if s.slices > 1 and not job.is_fit:
            # The API sets node names and MEGASCALE variables.
            spec["multisliceParams"] = {"nodeCount": s.slices, "nodeIdPrefix": job.name}
        else:
            spec["nodeId"] = job.name
        resource: dict = {"tpu": {"nodeSpec": [spec]}}
        if s.spot:
            resource["spot"] = {}
        if s.reservation:
            resource |= {"guaranteed": {}, "reservationName": s.reservation}
        if s.wait_hours:
            resource["queueingPolicy"] = {"validUntilDuration": f"{round(3600 * s.wait_hours)}s"}
        return resource

    def request(self, job: Job):
        """The QueuedResource of a run as the client has it."""
        from google.cloud import tpu_v2 as api

        return api.QueuedResource.from_json(json.dumps(self.resource(job)))

    def render(self, job: Job) -> str:
        return f"# {self.parent}/queuedResources/{job.name}\n{json.dumps(self.resource(job), indent=2)}"

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
        return []  # the start-up script keeps them in the run directory

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
