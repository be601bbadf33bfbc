"""The TPU backend: requests and start-up scripts, and the real client against a fake API."""

import dataclasses
import re
import subprocess

import grpc
import pytest
from google.cloud import tpu_v2 as api

from ladder.errors import InputError
from ladder.rundir.record import Record
from launch.backends import archive as codes
from launch.backends import tpu
from launch.backends.archive import Code
from launch.backends.protocol import Busy, Job
from launch.scheduler import jobs, loop
from launch.settings import Environment, Tpu
from tests.launch import stand_ins
from tests.launch.backends import fake_tpu

SETTINGS = Tpu(project="p", zone="us-west4-a", archive="gs://b/code", topology={"default": "v5e:4x4", "fit": "v5e:1x1"})
ENVIRONMENT = Environment({"NOTE": "two\nlines; $(touch x) 'q'"}, {"HF_TOKEN": "hugging-face/3"})
CODE = Code("gs://b/code/abc.tar.gz", "abc", "0" * 64)
JOB = Job("l-mine-a", "a", "gs://b/runs/mine/a", ("train", "gs://b/runs/mine/a"), size="190M")
FIT = Job("l-mine-fit", "fit-1", "gs://b/runs/mine/fit/fit-1", ("conclude", "gs://b/runs/mine/fit/fit-1"), kind="fit")


def cluster_of(client=None, **changes):
    return tpu.Cluster(dataclasses.replace(SETTINGS, **changes), ENVIRONMENT, CODE, client)


def node(request):
    [spec] = request.tpu.node_spec
    return spec


def test_what_is_asked_for():
    spot = cluster_of(spot=True).request(JOB)
    assert node(spot).node.accelerator_type == "v5litepod-16"
    assert node(spot).node_id == "l-mine-a"
    assert "spot" in spot
    assert "guaranteed" not in spot
    many = cluster_of(slices=4, reservation="projects/p/locations/z/reservations/r").request(JOB)
    assert node(many).multislice_params.node_count == 4
    assert node(many).node_id == ""
    assert many.reservation_name.endswith("/r")
    assert "guaranteed" in many
    fit = cluster_of(slices=4).request(FIT)
    assert (node(fit).node.accelerator_type, node(fit).node_id) == ("v5litepod-1", "l-mine-fit")
    [disk] = node(cluster_of(data_disk="projects/p/zones/z/disks/d").request(JOB)).node.data_disks
    assert (disk.source_disk, disk.mode.name) == ("projects/p/zones/z/disks/d", "READ_ONLY")
    assert cluster_of(wait_hours=2.0).request(JOB).queueing_policy.valid_until_duration.total_seconds() == 7200


@pytest.mark.parametrize(
    ("topology", "accelerator"),
    [("v5e:2x4", "v5litepod-8"), ("v6e:16x16", "v6e-256"), ("v4:2x2x4", "v4-32"), ("v5p:8x8x8", "v5p-1024")],
)
def test_accelerators_have_their_published_names(topology, accelerator):
    request = cluster_of(topology={"default": topology}).request(JOB)
    assert node(request).node.accelerator_type == accelerator


def test_each_size_has_the_image_of_its_kind_of_tpu():
    cluster = cluster_of(topology={"190M": "v4:2x2x4", "7B": "v5p:8x8x8", "fit": "v6e:1x1", "default": "v5e:4x4"})
    jobs_ = [dataclasses.replace(JOB, size=size) for size in ("190M", "370M", "7B")]
    images = ["tpu-ubuntu2204-base", "v2-alpha-tpuv5-lite", "v2-alpha-tpuv5", "v2-alpha-tpuv6e"]
    assert [node(cluster.request(job)).node.runtime_version for job in (*jobs_, FIT)] == images
    assert node(cluster_of(runtime_version="my-image").request(JOB)).node.runtime_version == "my-image"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(tpu.Cluster, "retry_delay", 0.0)
    server = fake_tpu.Server()
    yield server
    server.close()


@pytest.fixture
def ladder(tmp_path):
    root = tmp_path / "mine"
    return jobs.read([stand_ins.run(root, "t"), stand_ins.run(root, "a", "t"), stand_ins.run(root, "b", "t")])


def run_to_end(server, cluster, ladder, rounds=30):
    for _ in range(rounds):
        round_ = loop.once(ladder, cluster)
        for job in ladder:
            if job.name in server.resources and not Record(job.directory).is_done():
                Record(job.directory).finish(step=10, loss=1.0)
                server.becomes(job.name, "ACTIVE")
        if round_.settled:
            return
    raise AssertionError(round_)


QUOTA, GONE, LATE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED
FAULTS = {
    "none": [],
    "list": [GONE, LATE],
    "quota": [None, QUOTA, None, QUOTA],
    "lost": [None, "lost"] * 6,
    "exists": [None, grpc.StatusCode.ALREADY_EXISTS],
    "delete": [None, None, None, GONE, None, "lost"],
    "not found": [None, None, None, grpc.StatusCode.NOT_FOUND],
}


@pytest.mark.parametrize("case", FAULTS)
def test_no_duplicate_and_nothing_that_costs_is_left(server, ladder, case):
    server.faults = list(FAULTS[case])
    run_to_end(server, cluster_of(server.client), ladder)
    assert sorted(server.created) == sorted(job.name for job in ladder)
    assert server.resources == {}


def test_suspended_is_deleted_and_submitted_again(server, ladder):
    cluster, trunk = cluster_of(server.client, spot=True), ladder[0]
    assert loop.once(ladder, cluster).log == ("t: submitted",)
    for state, stand in (("PROVISIONING", "queued"), ("ACTIVE", "running"), ("SUSPENDING", "queued")):
        server.becomes(trunk.name, state)
        round_ = loop.once(ladder, cluster)
        assert (round_.states["t"], round_.log) == (stand, ())
    server.becomes(trunk.name, "SUSPENDED")
    assert loop.once(ladder, cluster).log == ("t: ended job removed, SUSPENDED",)
    assert loop.once(ladder, cluster).log == ("t: submitted",)
    run_to_end(server, cluster, ladder)
    assert server.resources == {}
    assert server.created.count(trunk.name) == 2


def test_three_failures_before_any_training_are_enough(server, ladder):
    cluster = cluster_of(server.client)
    for _ in range(12):
        loop.once(ladder, cluster)
        if ladder[0].name in server.resources:
            server.becomes(ladder[0].name, "FAILED", "Quota 'TPUS_PER_PROJECT' exceeded")
    last = loop.once(ladder, cluster)
    assert (last.settled, last.states["t"], last.states["a"]) == (True, "stuck", "blocked")
    assert server.created.count(ladder[0].name) == 3
    assert server.resources == {}


def test_a_diverged_or_cancelled_runs_machine_is_deleted(server, ladder):
    cluster = cluster_of(server.client)
    loop.once(ladder, cluster)
    server.becomes(ladder[0].name, "ACTIVE")
    Record(ladder[0].directory).stop("diverged", 3, None, "nan")
    run_to_end(server, cluster, ladder)
    assert server.resources == {}
    loop.retry(ladder, ("diverged",))
    loop.once(ladder, cluster)
    assert loop.cancel(ladder, cluster) == ["t", "a", "b"]
    assert server.resources == {}


@pytest.mark.parametrize("status", ["INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED"])
def test_what_the_api_refuses_is_said(server, ladder, status):
    server.faults = [grpc.StatusCode[status]]
    with pytest.raises(InputError, match=r"Cloud TPU: .*a bad day"):
        cluster_of(server.client).submit(ladder[0])
    server.grpc.stop(None).wait()
    with pytest.raises(Busy):
        cluster_of(server.client).poll(ladder)


def test_many_come_in_pages(server):
    for i in range(450):
        server.resources[f"l-{i}"] = api.QueuedResource(name=f"projects/p/locations/z/queuedResources/l-{i}")
    many = [dataclasses.replace(JOB, name=f"l-{i}") for i in range(450)]
    assert len(cluster_of(server.client).poll(many)) == 450


def test_what_is_not_set_is_said():
    for name in ("project", "zone", "archive"):
        with pytest.raises(InputError, match=rf"tpu\.{name} is not set"):
            cluster_of(**{name: ""})


def test_the_code_is_one_commit(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tree / "a.py").write_text("1\n")
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    first, again = (codes.publish(str(tmp_path / name), tree) for name in ("x", "y"))
    assert (first.commit, first.sha256) == (again.commit, again.sha256)
    assert re.fullmatch("[0-9a-f]{40}", first.commit)
    inside = subprocess.run(["tar", "-tzf", first.path], capture_output=True, text=True, check=True).stdout
    assert inside.split() == ["a.py"]
    (tree / "a.py").write_text("2\n")
    with pytest.raises(InputError, match="uncommitted"):
        codes.publish(str(tmp_path / "x"), tree)
    with pytest.raises(InputError, match="git status"):
        codes.publish(str(tmp_path / "x"), tmp_path)
