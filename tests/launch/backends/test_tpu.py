"""The TPU backend: requests and start-up scripts, and the real client against a fake API."""

import dataclasses
import re
import shlex
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
    assert cluster_of(wait_hours=2.0).request(JOB).queueing_policy.valid_until_duration.total_seconds() == 7200


@pytest.mark.parametrize(
    ("topology", "accelerator"),
    [("v5e:2x4", "v5litepod-8"), ("v6e:16x16", "v6e-256"), ("v4:2x2x4", "v4-32"), ("v5p:8x8x8", "v5p-1024")],
)
def test_accelerators_have_their_published_names(topology, accelerator):
    request = cluster_of(topology={"default": topology}).request(JOB)
    assert node(request).node.accelerator_type == accelerator


GCLOUD = """#!/bin/bash
echo "gcloud $*" >>{calls}
case "$*" in
  "secrets versions access 3 --secret=hugging-face") echo hf_secret ;;
  *abc.tar.gz*) tar -czf code.tar.gz -C {tree} . ;;
  *STOPPED*) cp {written} {stopped} 2>/dev/null ;;
esac
"""


@pytest.mark.parametrize(
    ("ends", "runs", "stopped"),
    [("0", 1, ""), ("75 0", 2, ""), ("78", 1, ""), ("2", 1, "exit code 2"), ("75", 3, "3 times on one machine")],
)
def test_the_startup_script_runs(tmp_path, ends, runs, stopped):
    """In bash, with stand-ins for gcloud, curl and ladder, and its folders under tmp_path."""
    text = tpu.startup_script(JOB, SETTINGS, ENVIRONMENT, CODE)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    programs, tree, calls = tmp_path / "bin", tmp_path / "tree", tmp_path / "calls"
    programs.mkdir()
    tree.mkdir()
    paths = {"calls": shlex.quote(str(calls)), "tree": tree, "stopped": tmp_path / "STOPPED.json"}
    paths["written"] = tmp_path / "tmp-stopped"
    ladder = '[ "$1" = data ] && exit 0; '
    ladder += f'echo "$HF_TOKEN|$NOTE|$*" >>{tmp_path}/ran; set -- {ends}; n=$(grep -c hf_secret {tmp_path}/ran); '
    ladder += 'exit "${!n:-${@: -1}}"'
    venv = "#!/bin/bash\nmkdir -p .venv/bin; printf '#!/bin/bash\\ntrue\\n' >.venv/bin/pip; chmod +x .venv/bin/pip\n"
    for name, body in {
        "gcloud": GCLOUD.format(**paths),
        "curl": "#!/bin/sh\necho 0\n",
        "sleep": '#!/bin/sh\n[ "$1" = 90 ]\n',
        "sha256sum": "#!/bin/sh\ntrue\n",
        "python3": venv + f"cp {tmp_path}/ladder .venv/bin/ladder\n",
    }.items():
        (programs / name).write_text(body)
        (programs / name).chmod(0o755)
    (tmp_path / "ladder").write_text("#!/bin/bash\n" + ladder + "\n")
    (tmp_path / "ladder").chmod(0o755)
    for folder in ("/opt/ladder", "/var/log", "/tmp/stopped"):
        text = text.replace(folder, str(tmp_path / folder.strip("/").replace("/", "-")))
    (tmp_path / "var-log").mkdir()
    calls_env = {"PATH": f"{programs}:/usr/bin:/bin"}
    (programs / "gcloud").write_text(
        (programs / "gcloud").read_text().replace("/tmp/stopped", str(tmp_path / "tmp-stopped"))
    )
    (tmp_path / "script").write_text(text)
    subprocess.run(["bash", "script"], env=calls_env, timeout=60, cwd=tmp_path)
    log = (tmp_path / "var-log" / "ladder.log").read_text()
    assert (tmp_path / "ran").exists(), log
    ran = (tmp_path / "ran").read_text()
    assert ran.count("hf_secret|two\nlines; $(touch x) 'q'|train gs://b/runs/mine/a") == runs
    assert not (tmp_path / "x").exists()
    if stopped:
        assert stopped in (tmp_path / "STOPPED.json").read_text()
    else:
        assert not (tmp_path / "STOPPED.json").exists()


def test_the_startup_script_has_no_secret_and_a_coordinator_only_for_several_machines():
    text = tpu.startup_script(JOB, SETTINGS, ENVIRONMENT, CODE)
    assert "LADDER_COORDINATOR=auto" in text  # 16 chips are four VMs
    assert "hf_" not in text
    fit = tpu.startup_script(FIT, SETTINGS, ENVIRONMENT, CODE)
    assert "LADDER_COORDINATOR" not in fit
    assert "JAX_PLATFORMS=cpu" in fit


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
