"""GKE: a JobSet for every run, admitted by Kueue. `manifest` is pure; the rest is the kubernetes client.

A JobSet's replicas are slices, the pods of a replica are the VMs of a slice. All restart together if a pod ended for a
reason that a retry can cure (an exit code of TRY_AGAIN, or a preempted node); any other code fails the JobSet.
"""

from collections.abc import Sequence
from typing import Any

from ladder import topologies
from ladder.errors import InputError
from launch.backends import bucket_mount
from launch.backends.bucket_mount import COPIED, Placement
from launch.backends.protocol import TRY_AGAIN, Busy, Job, Seen
from launch.settings import Environment, Gke

GROUP, VERSION, PLURAL = "jobset.x-k8s.io", "v1alpha2", "jobsets"
WORKERS = "w"  # short: it is part of every pod's name, which has at most 63 characters
RUN_LABEL = "ladder/run"  # on every JobSet of ours
SECONDS_KEPT = 24 * 3600  # of a JobSet that has ended, where no `ladder watch` deletes it
GONE = (404, 409)  # no such JobSet; another one has taken its name


def manifest(job: Job, settings: Gke, environment: Environment, placement: Placement = COPIED) -> dict:
    """The JobSet of a run, or of a ladder's fit (which needs no TPU, and no corpora). Raises InputError where names get
    too long."""
    placement = COPIED if job.is_fit else placement
    tpu = None if job.is_fit else settings.slice_of(job.size)
    replicas, vms = (1, 1) if tpu is None else (settings.slices, tpu.vms)
    longest = len(f"{job.name}-{WORKERS}-{replicas - 1}-{vms - 1}-abcde")
    if longest > 63:
        raise InputError(f"{job.run_id}: pod names of {longest} characters, 63 are allowed; shorten the ladder's name")
    labels, queue = {RUN_LABEL: job.run_id}, settings.fit_queue if tpu is None else settings.queue
    if queue:
        labels["kueue.x-k8s.io/queue-name"] = queue
        labels |= {"kueue.x-k8s.io/priority-class": settings.priority} if settings.priority else {}
    metadata: dict[str, Any] = {"name": job.name, "namespace": settings.namespace, "labels": labels}
    if tpu is not None:
        metadata["annotations"] = _annotations(settings)
    rule = {"name": "notinfrastructure", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    spec = {
        "suspend": bool(queue),  # Kueue resumes it when there is quota
        "ttlSecondsAfterFinished": SECONDS_KEPT,
        "failurePolicy": {"maxRestarts": settings.max_restarts, "rules": [rule]},
        "replicatedJobs": [
            {"name": WORKERS, "replicas": replicas, "template": _job(job, settings, environment, placement, tpu, vms)}
        ],
    }
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "JobSet", "metadata": metadata, "spec": spec}


def _annotations(settings: Gke) -> dict[str, str]:
    """Of the JobSet of a run: each slice has a node pool of its own; how long Kueue asks for flex-start nodes."""
    annotations = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    if settings.flex_start_hours and settings.queue:
        annotations["provreq.kueue.x-k8s.io/maxRunDurationSeconds"] = str(round(3600 * settings.flex_start_hours))
    return annotations


def _job(job: Job, settings: Gke, environment: Environment, placement: Placement, tpu, vms: int) -> dict:
    preempted = {"type": "DisruptionTarget", "status": "True"}
    codes = {"containerName": "ladder", "operator": "NotIn", "values": sorted(TRY_AGAIN)}
    # First, because the exit code of a pod whose node is being preempted is not the user's failure.
    rules = [{"action": "Count", "onPodConditions": [preempted]}, {"action": "FailJob", "onExitCodes": codes}]
    annotations = bucket_mount.annotations(placement, settings.cache_gib)
    metadata = _given({"annotations": annotations, "labels": {RUN_LABEL: job.run_id}})
    spec = {
        "backoffLimit": 0,
        "completionMode": "Indexed",
        "completions": vms,
        "parallelism": vms,
        "podFailurePolicy": {"rules": rules},
        "template": {"metadata": metadata, "spec": _pod(job, settings, environment, placement, tpu, vms)},
    }
    return {"spec": spec}


def _pod(job: Job, settings: Gke, environment: Environment, placement: Placement, tpu, vms: int) -> dict:
    scratch: dict[str, Any] = {"name": "scratch", "emptyDir": {}}
    resources = {"cpu": settings.fit_cpu, "memory": settings.fit_memory}
    if tpu is not None:
        resources = {"google.com/tpu": str(tpu.chips_per_vm)}
    if placement.copied_gib:
        size = resources["ephemeral-storage"] = f"{placement.copied_gib}Gi"
        scratch["emptyDir"] = {"sizeLimit": size}
    volumes, mounts = bucket_mount.volumes(placement, settings.cache_gib)
    container = {
        "command": ["ladder", *(_literal(word) for word in job.argv)],
        "env": _env(job, settings, environment, placement, tpu, vms),
        "image": settings.image,
        "name": "ladder",
        "resources": {"limits": resources, "requests": dict(resources)},
        "volumeMounts": [{"mountPath": "/scratch", "name": "scratch"}, *mounts],
    }
    selector, tolerations = _node_selector(settings, tpu)
    # Slices talk over the network of their nodes, past that of the pods, which is slower.
    host = tpu is not None and settings.slices > 1
    spec = {
        "containers": [container],
        "dnsPolicy": "ClusterFirstWithHostNet" if host else "",
        "hostNetwork": host or "",
        "imagePullSecrets": [{"name": settings.pull_secret}] if settings.pull_secret else [],
        "nodeSelector": selector,
        "restartPolicy": "Never",
        "serviceAccountName": settings.service_account,
        # Spot pools give 15 s whatever this says; Kueue and upgrades respect it.
        "terminationGracePeriodSeconds": 60,
        "tolerations": tolerations,
        "volumes": [scratch, *volumes],
    }
    return _given(spec)


def _given(values: dict) -> dict:
    """Without what is empty."""
    return {name: value for name, value in values.items() if value not in ("", {}, [])}


def _env(job: Job, settings: Gke, environment: Environment, placement: Placement, tpu, vms: int) -> list[dict]:
    env: list[dict] = [
        {"name": name, "value": _literal(value)} for name, value in sorted(environment.variables.items())
    ]
    for name, reference in sorted(environment.secrets.items()):
        secret, key = reference.split("/")
        env.append({"name": name, "valueFrom": {"secretKeyRef": {"key": key, "name": secret}}})
    env.append({"name": "LADDER_STAGE", "value": "/scratch"})
    if placement.mounted:
        env.append({"name": "LADDER_MOUNT", "value": bucket_mount.ROOT})
    if tpu is not None and vms * settings.slices > 1:
        env.append({"name": "LADDER_COORDINATOR", "value": "auto"})
    return env


def _node_selector(settings: Gke, tpu: topologies.Slice | None) -> tuple[dict[str, str], list[dict]]:
    if tpu is None:
        return {}, []
    selector = {
        "cloud.google.com/gke-tpu-accelerator": topologies.KINDS[tpu.kind].gke,
        "cloud.google.com/gke-tpu-topology": tpu.topology,
    }
    tolerations = [{"effect": "NoSchedule", "key": "google.com/tpu", "operator": "Exists"}]
    if settings.spot:
        selector["cloud.google.com/gke-spot"] = "true"
        spot = {"effect": "NoSchedule", "key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true"}
        tolerations.append(spot)
    if settings.flex_start_hours:
        selector["cloud.google.com/gke-flex-start"] = "true"
        tolerations.append({"effect": "NoSchedule", "key": "cloud.google.com/gke-flex-start", "operator": "Exists"})
        tolerations.append({"effect": "NoSchedule", "key": "cloud.google.com/gke-queued", "operator": "Exists"})
    if settings.reservation:
        selector["cloud.google.com/reservation-name"] = settings.reservation
    return selector, tolerations


def _literal(text: str) -> str:
    """`text` so that Kubernetes expands no $(NAME) in it: $$ stands for one dollar sign."""
    return text.replace("$", "$$")


class Cluster:
    name = "gke"
    max_jobs = None
    keeps_machines = False
    chains = False
    retry_delay = 60.0

    def __init__(self, settings: Gke, environment: Environment, api=None, placement: Placement = COPIED):
        settings.check()
        self.settings, self.environment, self.placement, self._api = settings, environment, placement, api

    def render(self, job: Job) -> str:
        import yaml

        return "---\n" + yaml.safe_dump(self._manifest(job), sort_keys=False)

    def submit(self, job: Job) -> None:
        self._call(
            "create_namespaced_custom_object", *self._jobsets(), self._manifest(job), ignore=(409,)
        )  # 409: it exists already

    def poll(self, jobs: Sequence[Job]) -> dict[str, tuple[Seen, ...]]:
        names, seen, token = {job.name for job in jobs}, {}, None
        while True:
            query = {"label_selector": RUN_LABEL, "limit": 200} | ({"_continue": token} if token else {})
            page = self._call("list_namespaced_custom_object", *self._jobsets(), **query)
            for item in page["items"]:
                if (name := item["metadata"]["name"]) in names:
                    seen[name] = (_seen(item),)
            token = page.get("metadata", {}).get("continue")
            if not token:
                return seen

    def delete(self, job: Job, seen: Seen) -> None:
        # Foreground: the name stays taken until the pods are gone. uid: never delete a newer JobSet of that name.
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": seen.id}}
        self._call("delete_namespaced_custom_object", *self._jobsets(), job.name, body=body, ignore=GONE)

    def logs(self, job: Job) -> list[str]:
        from kubernetes import client

        core = client.CoreV1Api(self._client())
        selector = f"jobset.sigs.k8s.io/jobset-name={job.name},batch.kubernetes.io/job-completion-index=0"
        pods = self._call("list_namespaced_pod", self.settings.namespace, label_selector=selector, api=core)
        if not pods.items:
            return []
        pod = pods.items[0].metadata.name
        text = self._call("read_namespaced_pod_log", pod, self.settings.namespace, tail_lines=1000, api=core)
        return text.splitlines()

    def _manifest(self, job: Job) -> dict:
        return manifest(job, self.settings, self.environment, self.placement)

    def _jobsets(self) -> tuple[str, ...]:
        return GROUP, VERSION, self.settings.namespace, PLURAL

    def _client(self):
        if self._api is None:
            from kubernetes import config

            try:
                self._api = config.new_client_from_config(context=self.settings.context or None)
            except config.ConfigException as error:
                raise InputError(f"no Kubernetes cluster (see gke.context in ladder.toml): {error}") from None
        return self._api

    def _call(self, method: str, *arguments, ignore: Sequence[int] = (), api=None, **options):
        """Raises Busy, or InputError where a retry cannot help. ignore: status codes that are no error."""
        from kubernetes import client
        from urllib3.exceptions import HTTPError

        api = api or client.CustomObjectsApi(self._client())
        try:
            return getattr(api, method)(*arguments, _request_timeout=30, **options)
        except client.ApiException as error:
            if error.status in ignore:
                return None
            message = f"Kubernetes: {error.status} {error.reason}"
            if error.status == 429 or error.status >= 500 or error.status in GONE:
                raise Busy(message) from None
            raise InputError(f"{message}: {' '.join((error.body or '').split())[:300]}") from None
        except (HTTPError, OSError) as error:  # only the answer may be lost: the next poll shows what was done
            raise Busy(f"Kubernetes: {type(error).__name__}") from None


def _seen(item: dict) -> Seen:
    uid, status = item["metadata"]["uid"], item.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", ()) if c.get("status") == "True"}
    if item["metadata"].get("deletionTimestamp"):
        return Seen(uid, "ended", None, "being deleted")
    if "Completed" in conditions:
        return Seen(uid, "ended", 0)
    if failed := conditions.get("Failed"):
        infrastructure = failed.get("reason") == "ReachedMaxRestarts"
        return Seen(uid, "ended", None if infrastructure else 1, failed.get("message", ""))
    active = any(r.get("active") or r.get("ready") for r in status.get("replicatedJobsStatus", ()))
    return Seen(uid, "running" if active and not item["spec"].get("suspend") else "queued")
