"""ladder.toml: what is allowed in it; and that hostile names, values and paths do no harm."""

import subprocess
from dataclasses import asdict

import pytest

from ladder.config import Ladder, job_name
from ladder.errors import InputError
from ladder.rundir.files import sealed
from ladder.rundir.record import Record
from launch import settings
from launch.backends import gke, slurm, startup
from launch.backends.archive import Code
from launch.backends.local import Local
from launch.scheduler import jobs, loop, status, submission
from launch.settings import Environment
from tests.launch import stand_ins

WHOLE = """
[env]
JAX_NOTE = "x"
[secrets]
HF_TOKEN = "hugging-face/token"
[prices]
v5e = "0.4-1.1"
[slurm]
partition = "spot"
options = ["--gres=gpu:8"]
[gke]
image = "img:1"
slices = 2
topology = { default = "v5e:4x4", 7B = "v5p:4x4x8" }
[tpu]
project = "p"
zone = "z"
archive = "gs://b/code"
wait_hours = 6
topology = { default = "v5e:4x4" }
"""


def test_what_is_written_is_read_and_kept(tmp_path):
    (tmp_path / "ladder.toml").write_text(WHOLE)
    read = settings.load(tmp_path / "ladder.toml")
    assert read.gke.slice_of("7B").kind == "v5p"
    assert read.gke.slice_of("190M").kind == "v5e"
    assert read.tpu.wait_hours == 6.0
    assert settings.from_dict(asdict(read)) == read


WRONG = {
    "not TOML": ("[gke", "not TOML"),
    "unknown table": ("[gkee]\n", "gkee: unknown; there are env,"),
    "unknown key": ('[gke]\nimge = "x"', "gke.imge: unknown"),
    "wrong kind": ("[gke]\nslices = true", "gke.slices = True: a whole number"),
    "a number as text": ('[gke]\nslices = "2"', "a whole number was expected"),
    "no slices": ("[gke]\nslices = 0", "at least 1"),
    "both": ('[tpu]\nspot = true\nreservation = "r"', "exclude each other"),
    "topology": ('[gke.topology]\ndefault = "v5e"', "gke.topology.default: topology 'v5e'"),
    "not a bucket": ('[tpu]\narchive = "/tmp"', "write gs://"),
    "not a table": ("env = 1", "env: a table was expected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_place(tmp_path, case):
    text, says = WRONG[case]
    (tmp_path / "ladder.toml").write_text(text)
    with pytest.raises(InputError, match=f"ladder.toml: .*{says}"):
        settings.load(tmp_path / "ladder.toml")


def test_tpu7x_is_offered_by_gke_only():
    topology = {"default": "tpu7x:2x2x2"}
    assert settings.from_dict({"gke": {"topology": topology}}).gke.slice_of("7B").devices == 16
    with pytest.raises(InputError, match="the Cloud TPU API does not offer tpu7x:2x2x2; use --backend gke"):
        settings.from_dict({"tpu": {"topology": topology}})


REFUSED = {
    "secret by name": {"env": {"HF_TOKEN": "hf_abc"}},
    "secret by name 2": {"env": {"WANDB_API_KEY": "abc"}},
    "secret by name 3": {"env": {"MY_PASSWORD": "abc"}},
    "secret by name 4": {"env": {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json"}},
    "secret in a value": {"env": {"HUB": "hf_" + "a" * 34}},
    "secret in a value 2": {"env": {"RUN": "see sk-" + "a1" * 12}},
    "secret in a value 3": {"env": {"AWS": "AKIA" + "A1" * 8}},
    "password in an address": {"env": {"PROXY": "https://me:word@proxy:80"}},
    "secret by value": {"secrets": {"HF_TOKEN": "hf_abcdefgh"}},
    "secret with a command": {"secrets": {"HF_TOKEN": "a/$(id)"}},
    "secret with a newline": {"secrets": {"HF_TOKEN": "a/b\nc"}},
    "name of a variable with a command": {"env": {"A;id": "x"}},
    "name of a variable with a newline": {"env": {"A\nB": "x"}},
    "name of a variable, small": {"env": {"path": "x"}},
    "NUL": {"env": {"A": "x\0y"}},
    "partition with a command": {"slurm": {"partition": "a;id"}},
    "partition as a flag": {"slurm": {"partition": "a --wrap=id"}},
    "option that is none": {"slurm": {"options": ["; id"]}},
    "option with a newline": {"slurm": {"options": ["--mem=1\nid"]}},
    "account with quotes": {"slurm": {"account": "a' 'b"}},
    "namespace with a path": {"gke": {"namespace": "../kube-system"}},
    "queue with a newline": {"gke": {"queue": "a\nb"}},
    "image with a command": {"gke": {"image": "a;id"}},
    "image with a space": {"gke": {"image": "a b"}},
    "zone with a command": {"tpu": {"zone": "$(id)"}},
    "project with a newline": {"tpu": {"project": "a\nb"}},
    "a disk without its zone": {"tpu": {"data_disk": "corpora"}},
    "python with a command": {"tpu": {"python": "3.11; id"}},
    "python that is too old": {"tpu": {"python": "3.10"}},
    "one image for two kinds": {"tpu": {"runtime_version": "a", "topology": {"1B": "v5e:4x4", "fit": "v6e:1x1"}}},
    "runtime with a quote": {"tpu": {"runtime_version": "a'b"}},
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_settings_are_refused(case):
    with pytest.raises(InputError):
        settings.from_dict(REFUSED[case])


@pytest.mark.parametrize("name", ["../x", "x; rm -rf ~", "$(id)", "a\nb", "", "A", "-a", "a/b", "a" * 21])
def test_hostile_ladder_names_are_refused(name):
    with pytest.raises(InputError, match="ladder name"):
        Ladder(name, ())


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "a b", "a;id", "a\nb", "$(id)", "", ".", "-rf"])
def test_hostile_run_ids_are_refused(tmp_path, run_id):
    """Someone else's config.json."""
    directory = stand_ins.run(tmp_path, "a")
    record = Record(directory)
    (directory / "config.json").write_text(sealed(record.read_config() | {"run_id": run_id}))
    [job] = jobs.read([directory])
    assert (job.run_id, job.directory, job.after) == ("a", str(directory), ())
    assert "belongs to run" in status.read_run(directory).detail
    assert loop.once([job], Local()).states == {"a": "damaged"}


@pytest.mark.parametrize("name", ["a b", "a;id", "$(id)", "-rf"])
def test_hostile_directories_are_refused(tmp_path, name):
    directory = stand_ins.run(tmp_path, name)
    with pytest.raises(InputError, match="is not the name of its directory"):
        jobs.read([directory])
    (directory / "config.json").write_text("{")
    with pytest.raises(InputError, match="is not the name of a run"):
        jobs.read([directory])


@pytest.mark.parametrize("run", ["../other", "/etc", "a/../../b", "a\nb", ""])
def test_a_hostile_submit_json_leads_nowhere(tmp_path, run):
    stand_ins.run(tmp_path / "mine", "a")
    stand_ins.run(tmp_path, "other")
    good = {"runs": ["a"], "fit": None, "engine": asdict(submission.BackendConfig())}
    (tmp_path / "mine" / "submit.json").write_text(sealed(good))
    assert [job.run_id for job in submission.read(tmp_path / "mine").jobs] == ["a"]
    for bad in ({"runs": [run]}, {"runs": ["a"], "fit": run or "../a"}):
        (tmp_path / "mine" / "submit.json").write_text(sealed(good | bad))
        with pytest.raises(InputError, match="is not the name of a run"):
            submission.read(tmp_path / "mine")


def test_a_hostile_parent_leads_nowhere(tmp_path):
    with pytest.raises(InputError, match="parent_run"):
        jobs.read([stand_ins.run(tmp_path, "a", "../../etc")])


HOSTILE = ["two words", "$(touch x)", "`touch x`", "a'b", 'a"b', "a;touch x", "a&touch x", "a|touch x", "*", "~", "%j"]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_is_executed_by_a_path_or_a_value(tmp_path, text):
    """Every backend's text, run or parsed by what will run or parse it (see also test_slurm, test_gke, test_tpu)."""
    [job] = jobs.read([stand_ins.run(tmp_path / text, "a")])
    environment = Environment({"NOTE": text})
    script = slurm.Cluster(settings.Slurm(), environment, ("printf", "%s")).render(job).splitlines()[-1]
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert printed == f"train{job.directory}"
    where = settings.Tpu(project="p", zone="z", archive="gs://b", topology={"default": "v5e:1x1"})
    start = startup.script(job, where, environment, Code("gs://b/x", "c", "0" * 64))
    head = start.partition("read_secrets()")[0] + '\nprintf "%s" "$RUN|$NOTE"'
    printed = subprocess.run(["bash", "-c", head], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert printed == f"{job.directory}|{text}"
    manifest = gke.manifest(job, settings.Gke(image="i", topology={"default": "v5e:1x1"}), environment)
    [container] = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["ladder", "train", job.directory.replace("$", "$$")]
    assert not (tmp_path / "x").exists()


def test_secrets_of_the_submitter_go_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("LADDER_NOTE", "plain")
    [job] = jobs.read([stand_ins.run(tmp_path, "a")])
    assert not any(slurm.PASSED.fullmatch(name) for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"))
    assert slurm.PASSED.fullmatch("LADDER_NOTE")
    read = settings.from_dict({"secrets": {"HF_TOKEN": "hf/token"}})
    everything = str(asdict(read)) + (tmp_path / "a" / "config.json").read_text()
    everything += str(gke.manifest(job, settings.Gke(image="i", topology={"default": "v5e:1x1"}), read.environment))
    assert "hf_very_secret" not in everything
    assert job_name("mine", "a").startswith("l-mine-")
