"""The GKE backend: manifests against the JobSet CRD, and the real client against a fake API server."""

import copy
import dataclasses
import os
import re
from pathlib import Path

import pytest
import yaml

from ladder.config import job_name
from ladder.errors import InputError
from ladder.rundir.record import Record
from launch.backends import gke
from launch.backends.bucket_mount import COPIED, Placement
from launch.backends.protocol import Busy, Job
from launch.scheduler import jobs, loop
from launch.settings import Environment, Gke
from tests.launch import stand_ins
from tests.launch.backends import fake_kubernetes

GOLDEN = Path(__file__).parent / "golden"
TOPOLOGY = {"default": "v5e:4x4", "7B": "v5p:4x4x8"}
SETTINGS = Gke(image="europe-docker.pkg.dev/p/ladder:1", topology=TOPOLOGY)
RUN = "190M-0.5xC-s0-0123abcd"
JOB = Job(job_name("mine", RUN), RUN, f"gs://b/runs/mine/{RUN}", ("train", f"gs://b/runs/mine/{RUN}"), size="190M")
FIT = Job(job_name("mine", "fit-0123abcd"), "fit-0123abcd", "gs://b/f", ("conclude", "gs://b/f"), kind="fit")
ENVIRONMENT = Environment({"JAX_LOG": "1"}, {"HF_TOKEN": "hugging-face/token"})

READER = dataclasses.replace(SETTINGS, service_account="reader", cache_gib=20)
CASES = {
    "one-slice-spot": (JOB, dataclasses.replace(SETTINGS, spot=True)),
    "corpora-copied": (JOB, READER, Placement(copied_gib=12)),
    "buckets-mounted": (JOB, READER, Placement(mounted=("data-1", "data.2"))),
    "four-slices-reserved": (JOB, dataclasses.replace(SETTINGS, slices=4, reservation="ours")),
    "one-slice-reserved": (dataclasses.replace(JOB, size="7B"), dataclasses.replace(SETTINGS, reservation="ours")),
    "four-slices-spot": (dataclasses.replace(JOB, size="7B"), dataclasses.replace(SETTINGS, slices=4, spot=True)),
    "flex-start-private-image": (JOB, dataclasses.replace(SETTINGS, flex_start_hours=36, pull_secret="registry")),
    "tpu7x": (JOB, dataclasses.replace(SETTINGS, slices=2, topology={"default": "tpu7x:2x2x2"})),
    "fit-in-a-queue": (FIT, dataclasses.replace(SETTINGS, fit_queue="cpus", priority="low")),
    "fit": (FIT, dataclasses.replace(SETTINGS, spot=True, slices=4)),
}


@pytest.fixture(scope="module")
def crd():
    if not fake_kubernetes.CRD.exists():
        pytest.skip(f"{fake_kubernetes.CRD.name} is not in ../shared/data: manifests cannot be checked against it")
    return fake_kubernetes.validator()


def manifest_of(case):
    job, settings, placement = (*CASES[case], COPIED)[:3]
    return gke.manifest(job, settings, ENVIRONMENT, placement)


def problems(crd, manifest):
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in crd.iter_errors(manifest)]


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_valid(crd, case):
    assert problems(crd, manifest_of(case)) == []


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_as_they_were(case):
    """LADDER_GOLDEN=write writes the files again; read the difference before you commit it."""
    text = yaml.safe_dump(manifest_of(case), sort_keys=False)
    path = GOLDEN / f"{case}.yaml"
    if os.environ.get("LADDER_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def change(manifest, path, value):
    *front, last = path
    for key in front:
        manifest = manifest[key]
    if value is None:
        del manifest[last]
    else:
        manifest[last] = value


JOB_SPEC = ("spec", "replicatedJobs", 0, "template", "spec")
POD = (*JOB_SPEC, "template", "spec")
MUTATIONS = {
    "unknown in spec": (("spec", "ttlSecondsAfterFinish"), 60),
    "replicas as text": (("spec", "replicatedJobs", 0, "replicas"), "4"),
    "no template": (("spec", "replicatedJobs", 0, "template"), None),
    "no name of a replicated job": (("spec", "replicatedJobs", 0, "name"), None),
    "action that is none": (("spec", "failurePolicy", "rules", 0, "action"), "FailEverything"),
    "typo deep in the pod": ((*POD, "containers", 0, "resources", "limit"), {}),
    "tolerations as a table": ((*POD, "tolerations"), {"key": "google.com/tpu"}),
    "grace period as text": ((*POD, "terminationGracePeriodSeconds"), "60"),
    "exit codes as texts": ((*JOB_SPEC, "podFailurePolicy", "rules", 1, "onExitCodes", "values"), ["75"]),
    "driver that is misspelt": ((*POD, "volumes", 0, "csi"), {"drivr": "gcsfuse.csi.storage.gke.io"}),
    "read-only as text": ((*POD, "volumes", 0, "csi"), {"driver": "gcsfuse.csi.storage.gke.io", "readOnly": "true"}),
    "bucket as a list": ((*POD, "volumes", 0, "csi"), {"driver": "x", "volumeAttributes": {"bucketName": ["b"]}}),
    "command as one text": ((*POD, "containers", 0, "command"), "ladder train"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutations_are_caught(crd, mutation):
    manifest = copy.deepcopy(manifest_of("four-slices-reserved"))
    change(manifest, *MUTATIONS[mutation])
    assert problems(crd, manifest)


def test_names_fit_with_the_longest_suffix():
    """DNS-1035 and 63 characters: JobSet, replicated job, slice, VM, five random characters."""
    run_id = "600M-" + "9" * 8 + "xC-s12345-0123abcd"
    name = job_name("a" * 20, run_id)
    job = dataclasses.replace(JOB, name=name, run_id=run_id)
    for slices, topology in ((4, "v5p:8x8x4"), (64, "v5e:2x4"), (10, "v5e:4x8")):
        settings = dataclasses.replace(SETTINGS, slices=slices, topology={"default": topology})
        workers = gke.manifest(job, settings, ENVIRONMENT)["spec"]["replicatedJobs"][0]
        vms = workers["template"]["spec"]["completions"]
        longest = f"{name}-{workers['name']}-{slices - 1}-{vms - 1}-abcde"
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", longest)
        assert len(longest) <= 63
    many = dataclasses.replace(SETTINGS, slices=100, topology={"default": "v5p:16x16x16"})
    with pytest.raises(InputError, match="63 are allowed"):
        gke.manifest(dataclasses.replace(job, name="l-" + "a" * 48), many, ENVIRONMENT)


def test_secrets_only_by_reference_and_arguments_unchanged():
    hostile = "gs://b/$(HF_TOKEN)/`x`; rm -rf ~\n"
    job = dataclasses.replace(JOB, argv=("train", hostile))
    manifest = gke.manifest(job, SETTINGS, Environment({"NOTE": "$(HF_TOKEN)"}, {"HF_TOKEN": "hf/token"}))
    [container] = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["ladder", "train", hostile.replace("$", "$$")]
    env = {e["name"]: e for e in container["env"]}
    assert env["NOTE"]["value"] == "$$(HF_TOKEN)"
    assert env["HF_TOKEN"] == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}


def test_a_pod_mounts_read_only_with_bounded_memory_and_disk_and_the_fit_mounts_nothing():
    template = manifest_of("buckets-mounted")["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "gke-gcsfuse/volumes": "true",
        "gke-gcsfuse/cpu-limit": "4",
        "gke-gcsfuse/memory-limit": "2Gi",
        "gke-gcsfuse/ephemeral-storage-limit": "41Gi",  # more than both caches, as Google asks for
    }
    pod = template["spec"]
    csi = pod["volumes"][1]["csi"]
    assert csi["driver"] == "gcsfuse.csi.storage.gke.io" and csi["readOnly"] is True
    assert csi["volumeAttributes"]["bucketName"] == "data-1"
    assert "file-cache:max-size-mb:20480" in csi["volumeAttributes"]["mountOptions"].split(",")
    mounts = {m["mountPath"]: m.get("readOnly") for m in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"/scratch": None, "/gcs/data-1": True, "/gcs/data.2": True}
    assert {"name": "LADDER_MOUNT", "value": "/gcs"} in pod["containers"][0]["env"]
    assert pod["serviceAccountName"] == "reader"
    fit = gke.manifest(FIT, READER, ENVIRONMENT, Placement(mounted=("data-1",)))
    assert "gcsfuse" not in str(fit) and fit == gke.manifest(FIT, READER, ENVIRONMENT)


def pod_of(manifest):
    return manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


def test_the_fit_is_outside_the_queue_of_tpus():
    fit, queued = manifest_of("fit"), manifest_of("fit-in-a-queue")
    assert fit["metadata"]["labels"].keys() == {gke.RUN_LABEL} and fit["spec"]["suspend"] is False
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "cpus" and queued["spec"]["suspend"] is True
    assert "google.com/tpu" not in str(fit) and "hostNetwork" not in pod_of(fit)


@pytest.mark.parametrize("case", CASES)
def test_slices_are_joined_over_the_network_of_their_nodes(case):
    pod, several = pod_of(manifest_of(case)), case.startswith(("four-slices", "tpu7x"))
    network = (True, "ClusterFirstWithHostNet") if several else (None, None)  # with it, names of pods are still found
    assert (pod.get("hostNetwork"), pod.get("dnsPolicy")) == network


def test_flex_start():
    manifest = manifest_of("flex-start-private-image")
    assert manifest["metadata"]["annotations"]["provreq.kueue.x-k8s.io/maxRunDurationSeconds"] == "129600"
    pod = pod_of(manifest)
    assert pod["nodeSelector"]["cloud.google.com/gke-flex-start"] == "true"
    assert {"effect": "NoSchedule", "key": "cloud.google.com/gke-queued", "operator": "Exists"} in pod["tolerations"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    without_kueue = dataclasses.replace(SETTINGS, flex_start_hours=1, queue="")
    assert "provreq" not in str(gke.manifest(JOB, without_kueue, ENVIRONMENT))
    for wrong in ({"spot": True}, {"reservation": "ours"}, {"flex_start_hours": 169}):
        with pytest.raises(InputError, match="flex_start_hours"):
            dataclasses.replace(SETTINGS, **{"flex_start_hours": 1} | wrong)


LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


@pytest.mark.parametrize("case", CASES)
def test_labels_and_annotations_are_such(case):
    """The schema checks no keys and values of these; Kueue is told its queue, priority and hours by them alone."""
    manifest = manifest_of(case)
    template = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    for metadata in (manifest["metadata"], template["metadata"]):
        for name, value in metadata["labels"].items():
            assert KEY.fullmatch(name) and LABEL.fullmatch(value)
        assert all(KEY.fullmatch(name) and type(v) is str for name, v in metadata.get("annotations", {}).items())
    for name, value in template["spec"].get("nodeSelector", {}).items():
        assert KEY.fullmatch(name) and LABEL.fullmatch(value)


@pytest.fixture
def server():
    server = fake_kubernetes.Server()
    yield server
    server.close()


@pytest.fixture
def cluster(server):
    from kubernetes import client

    configuration = client.Configuration(host=server.url)
    configuration.retries = False
    return gke.Cluster(SETTINGS, ENVIRONMENT, client.ApiClient(configuration))


@pytest.fixture
def ladder(tmp_path, monkeypatch):
    monkeypatch.setattr(gke.Cluster, "retry_delay", 0.0)
    root = tmp_path / "mine"
    return jobs.read([stand_ins.run(root, "t"), stand_ins.run(root, "a", "t"), stand_ins.run(root, "b", "t")])


def finish(server, job):
    record = Record(job.directory)
    record.finish(step=10, loss=1.0)
    server.end(job.name, "Completed")


def run_to_end(server, cluster, ladder, rounds=12):
    """Every submitted job is done in the next round; returns the log of all rounds."""
    log = []
    for _ in range(rounds):
        round_ = loop.once(ladder, cluster)
        log += round_.log
        for job in ladder:
            if job.name in server.objects and not Record(job.directory).is_done():
                finish(server, job)
        if round_.settled:
            return log
    raise AssertionError(log)


FAULTS = {
    "none": [],
    "busy: list": [429, 503, 500],
    "busy: create": [None, 429, None, 503],
    "lost: create": [None, "lost"],
    "lost: list": ["lost"],
    "lost: delete": [None, None, None, "lost", None, "lost"],
    "exists": [None, 409],
    "every other": [None, "lost"] * 6,
    "busy delete": [None, None, None, 429, None, 503],
}


@pytest.mark.parametrize("case", FAULTS)
def test_no_duplicate_and_no_leak(server, cluster, ladder, case):
    server.faults = list(FAULTS[case])
    run_to_end(server, cluster, ladder, 30)
    assert sorted(server.created) == sorted(job.name for job in ladder)
    assert server.objects == {}


def test_a_preempted_run_is_submitted_again_and_a_deleted_one_too(server, cluster, ladder):
    trunk = ladder[0]
    assert loop.once(ladder, cluster).states == {"t": "ready", "a": "waiting", "b": "waiting"}
    assert loop.once(ladder, cluster).states["t"] == "queued"
    server.runs(trunk.name)
    assert loop.once(ladder, cluster).states["t"] == "running"
    server.end(trunk.name, "Failed", "ReachedMaxRestarts")
    assert loop.once(ladder, cluster).log == ("t: ended job removed, ReachedMaxRestarts",)
    assert loop.once(ladder, cluster).log == ("t: submitted",)
    server.objects.clear()  # someone deleted it
    assert loop.once(ladder, cluster).log == ("t: submitted",)
    run_to_end(server, cluster, ladder)
    assert server.objects == {}


def test_while_it_is_being_deleted_its_name_is_taken(server, cluster, ladder):
    loop.once(ladder, cluster)
    server.objects[ladder[0].name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert loop.once(ladder, cluster).states["t"] == "ended"


def test_a_failure_of_the_program_is_not_tried_again(server, cluster, ladder):
    loop.once(ladder, cluster)
    server.end(ladder[0].name, "Failed", "exit code 1 in pod w-0-0")
    log = loop.once(ladder, cluster).log
    output = f"last output: first | last words of {ladder[0].name}-w-0-0-abcde"
    assert log[0] == f"t: failed, exit code 1 in pod w-0-0; {output}"
    assert cluster.logs(ladder[0]) == []  # nothing is left of it
    assert server.objects == {}
    last = loop.once(ladder, cluster)
    assert (last.settled, last.states) == (True, {"t": "failed", "a": "blocked", "b": "blocked"})


def test_a_newer_object_of_the_name_is_not_deleted(server, cluster, ladder):
    loop.once(ladder, cluster)
    [seen] = cluster.poll(ladder)[ladder[0].name]
    server.objects[ladder[0].name]["metadata"]["uid"] = "newer"
    cluster.delete(ladder[0], seen)
    assert ladder[0].name in server.objects


def test_what_the_server_refuses_is_said(server, cluster, ladder):
    with pytest.raises(InputError, match="422"):
        server.faults = [422]
        cluster.submit(ladder[0])
    with pytest.raises(InputError, match="403"):
        server.faults = [403]
        cluster.poll(ladder)
    server.close()
    with pytest.raises(Busy, match="Kubernetes"):
        cluster.poll(ladder)


def test_many_jobs_come_in_pages(server, cluster):
    for i in range(450):
        server.objects[f"l-{i}"] = {"metadata": {"name": f"l-{i}", "uid": "u"}, "spec": {"suspend": True}, "status": {}}
    many = [dataclasses.replace(JOB, name=f"l-{i}") for i in range(450)]
    assert len(cluster.poll(many)) == 450


def test_what_is_not_set_is_said():
    for settings, says in ((Gke(topology=TOPOLOGY), "gke.image is not set"), (Gke(image="i"), "gke.topology is not")):
        with pytest.raises(InputError, match=says):
            gke.Cluster(settings, ENVIRONMENT)
