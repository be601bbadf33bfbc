"""What `ladder submit` does with data in buckets: copied where they fit, mounted where not, refused where neither."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from configs import loader
from ladder.config import Data, Source
from ladder.data import corpus as corpora
from ladder.data.tokens import indexing
from ladder.errors import InputError
from ladder.rundir.files import as_path
from launch import cli, prepare
from launch.backends.archive import Code
from launch.backends.bucket_mount import Placement
from launch.scheduler import placement, submission
from launch.scheduler.dry_run import DryRun
from launch.settings import Gke, Settings, Tpu
from tests.ladder.data.tokens import written

GIB = placement.GIB
TEXT, MORE, TOKENS = "a" * 16, "b" * 16, "c" * 16
SOURCES = (
    Source("web", ("gs://data/web",), 0.8, corpus=TEXT),
    Source("books", ("gs://data/books",), 0.1, corpus=MORE),
    Source("code", ("gs://data/code",), 0.1, format="tokens", corpus=TOKENS),
)
SETTINGS = Settings(gke=Gke(service_account="reader"))
BUCKETS = {TEXT: "gs://data/corpora/a", MORE: "gs://more/corpora/b", TOKENS: "gs://tokens/code/ladder-index"}


def built_with(sources=SOURCES, folders=BUCKETS) -> prepare.Built:
    ladder = loader.load("olmo2")
    data = Data(sources=sources, tokenizer="tokenizer.json")
    ladder = ladder.map(lambda rung: replace(rung, data=data))
    return prepare.Built(ladder, {corpus: as_path(folder) for corpus, folder in folders.items()})


def place(sizes: dict, backend="tpu", settings=SETTINGS, stage="auto", built=None, dry=False, old=()):
    """sizes: bytes of each folder."""
    from ladder.data import seal

    built = built or built_with()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "_size", lambda folder: sizes[str(folder)])
        patch.setattr(seal, "checks_records", lambda folder: str(folder) not in old)
        return placement.place(built, built.ladder.all, as_path("gs://b/runs"), backend, settings, stage, dry)


SMALL = {BUCKETS[TEXT]: 10 * GIB, BUCKETS[MORE]: 5 * GIB + 1}
LARGE = {BUCKETS[TEXT]: 3 << 40, BUCKETS[MORE]: 5 * GIB}
BOTH = ("data", "more")  # tokens are read by range, and are never mounted
CASES = {
    "small": ((SMALL, "tpu"), Placement(copied_gib=17), 0),
    "small on gke": ((SMALL, "gke"), Placement(copied_gib=17), 0),
    "small, never copied": ((SMALL, "tpu", SETTINGS, "never"), Placement(BOTH), 0),
    "small, a small disk": ((SMALL, "tpu", Settings(tpu=Tpu(scratch_gib=16))), Placement(BOTH), 1),
    "small, a disk just large enough": ((SMALL, "tpu", Settings(tpu=Tpu(scratch_gib=17))), Placement(copied_gib=17), 0),
    "large": ((LARGE, "tpu"), Placement(BOTH), 1),
    "large on gke": ((LARGE, "gke"), Placement(BOTH), 1),
    "local": ((SMALL, "local"), Placement(), 0),
    "slurm": ((LARGE, "slurm"), Placement(), 0),
}


@pytest.mark.parametrize("case", CASES)
def test_what_fits_is_copied_and_the_rest_is_mounted(case):
    arguments, expected, n_notes = CASES[case]
    placed, notes = place(*arguments)
    assert placed == expected and len(notes) == n_notes
    for note in notes:
        assert re.search(r"have .* GiB|have 3 TiB", note) and "scratch_gib = " in note and "ladder.toml" in note
        assert "mounted read-only instead: gs://data, gs://more; " in note


REFUSED = {
    "too large": (
        (LARGE, "tpu", SETTINGS, "always"),
        r"--stage always: .* 3 TiB, .*\(tpu.scratch_gib = 50\); raise it",
    ),
    "too large on gke": ((LARGE, "gke", SETTINGS, "always"), r"--stage always: .*\(gke.scratch_gib = 40\); raise it"),
    "nobody mounts": ((LARGE, "gke", Settings()), "gke.service_account is not set: .*; name it in ladder.toml"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(case):
    arguments, says = REFUSED[case]
    with pytest.raises(InputError, match=says) as caught:
        place(*arguments)
    assert "\n" not in str(caught.value)


def test_a_mount_needs_hashes_of_records_and_a_bucket_of_google():
    with pytest.raises(InputError, match=r"^gs://more/corpora/b: built before records had hashes.*build it again"):
        place(LARGE, old=[BUCKETS[MORE]])
    elsewhere = BUCKETS | {TEXT: "s3://data/corpora/a"}
    with pytest.raises(InputError, match=r"^s3://data/corpora/a: only buckets of Google Cloud"):
        place(LARGE | {elsewhere[TEXT]: 3 << 40}, built=built_with(folders=elsewhere))


@pytest.mark.parametrize("backend", ["tpu", "gke"])
def test_a_folder_of_this_machine_is_not_visible_there(backend, tmp_path):
    folders = BUCKETS | {TEXT: str(tmp_path / "corpora" / TEXT)}
    with pytest.raises(InputError, match=rf"^{tmp_path}/corpora/{TEXT}: not visible to .*; set --corpora to"):
        place(SMALL, backend, built=built_with(folders=folders))
    built = replace(built_with(), tokenizers={"t": tmp_path / "corpora" / "tokenizers" / "t"})
    with pytest.raises(InputError, match="tokenizers/t: not visible"):
        place(SMALL, backend, built=built)


def tokens(folder: Path, kind: str) -> tuple[tuple[str, ...], Path]:
    """Token files on this machine: (Source.text, the folder of their index)."""
    folder.mkdir()
    ids = np.arange(20_000) % 50
    if kind == "megatron":
        paths = [written.megatron(folder / "text_document.bin", [ids, ids], "uint16")]
    else:
        paths = [written.raw(folder / name, ids, "uint16") for name in ("0.npy", "1.npy")]
    text = {"folder": [folder], "file": paths[:1], "megatron": paths, "elsewhere": [folder]}[kind]
    flags = {} if kind == "megatron" else {"dtype": "uint16", "eos": 0}
    index = folder.parent / "indexes" / "mine" if kind == "elsewhere" else None
    made = indexing.build(text, folder=index, workers=1, **flags)
    return tuple(map(str, [made.folder] if kind == "elsewhere" else text)), made.folder


LOCAL = {
    "folder": ("{0}/my", "('gs://b/tokens/code/my',)"),
    "file": ("{0}/my/0.npy {0}/my/0.npy.ladder-index", "('gs://b/tokens/code/0.npy',)"),
    "megatron": (
        "{0}/my/text_document.bin {0}/my/text_document.idx {0}/my/text_document.bin.ladder-index",
        "('gs://b/tokens/code/text_document.bin',)",
    ),
    "elsewhere": ("{0}/my", "ladder data index` on the copy (gs://b/tokens/code/my), and set"),
}


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("backend", ["tpu", "gke"])
def test_local_token_files_are_named_with_their_size_and_how_to_copy_them(kind, backend, tmp_path):
    text, folder = tokens(tmp_path / "my", kind)
    sources = (*SOURCES[:2], replace(SOURCES[2], text=text))
    built = built_with(sources, BUCKETS | {TOKENS: str(folder)})
    with pytest.raises(InputError) as caught:
        place(SMALL, backend, built=built)
    message, (copied, new) = str(caught.value), LOCAL[kind]
    assert message.startswith("data.sources.code.text: its token files lie on this machine only (")
    n_bytes = 40_000 if kind == "file" else 80_000
    assert f"({n_bytes / 1024:.3g} KiB in {tmp_path / 'my'})" in message and "\n" not in message
    assert f"`gcloud storage cp -r {copied.format(tmp_path)} gs://b/tokens/code/`" in message
    assert new in message
    if backend == "gke":  # manifests are of use without the data
        assert place(SMALL, backend, built=built, dry=True)[1] == [message]


@pytest.fixture
def mixture(bucket, tmp_path, monkeypatch):
    """`ladder submit olmo2` with a corpus and token files in a bucket; submit(backend, *flags) -> exit code."""
    (tmp_path / "text").mkdir()
    for i in range(40):
        (tmp_path / "text" / f"{i}.txt").write_text(" ".join(f"{i}-{j}" for j in range(200)))
    data = Data(text=(str(tmp_path / "text"),), validation=0.2)
    corpus = corpora.build(data, 16, as_path(bucket.url) / "corpora", progress=False)
    sources = (replace(SOURCES[0], corpus=corpus.hash), SOURCES[2])
    built = built_with(sources, {corpus.hash: str(corpus.directory), TOKENS: f"{bucket.url}/tokens/ladder-index"})
    ladder = replace(built.ladder, rungs=built.ladder.rungs[:1], targets=built.ladder.targets[:1])
    built = replace(built, ladder=ladder, tokenizers={"": as_path(f"{bucket.url}/corpora/tokenizers/t")})
    monkeypatch.setattr(DryRun, "_check_tasks", lambda self: None)
    monkeypatch.setattr(DryRun, "_built", lambda self: (built, True))
    monkeypatch.setattr(DryRun, "_code", lambda self, archive: Code("gs://b/c.tar.gz", "c", "0" * 64))
    monkeypatch.chdir(tmp_path)

    def submit(backend: str, *flags: str, scratch: int = 50) -> int:
        (tmp_path / "ladder.toml").write_text(
            f'[tpu]\nproject = "p"\nzone = "z"\narchive = "gs://b/code"\nscratch_gib = {scratch}\n'
            'topology = { default = "v5e:4x4" }\n'
            f'[gke]\nimage = "i"\nservice_account = "reader"\nscratch_gib = {scratch}\n'
            'topology = { default = "v5e:4x4" }\n'
        )
        root = ("--root", f"{bucket.url}/runs", "--corpora", f"{bucket.url}/corpora")
        return cli.main(["submit", "olmo2", "--backend", backend, *root, *flags])

    return submit


def scripts(out: str) -> list[str]:
    """The start-up scripts in the requests that a dry run prints."""
    found = [json.loads(text) for text in re.findall(r"^\{$.*?^\}$", out, re.MULTILINE | re.DOTALL)]
    return [item["tpu"]["nodeSpec"][0]["node"]["metadata"]["startup-script"] for item in found]


def test_a_dry_run_on_tpus_mounts_what_does_not_fit(bucket, mixture, capsys):
    assert mixture("tpu", "--dry-run", scratch=0) == 0
    out = capsys.readouterr().out
    assert f"(tpu.scratch_gib = 0); mounted read-only instead: {bucket.url};" in " ".join(out.split())
    *runs, fit = scripts(out)
    assert runs and all(f" {bucket.name} /gcs/{bucket.name} || give_up" in script for script in runs)
    assert all(
        "export LADDER_MOUNT=/gcs" in s and "-o ro " in s and "--file-cache-max-size-mb=10240" in s for s in runs
    )
    assert "gcsfuse" not in fit
    assert mixture("tpu", "--dry-run") == 0
    assert "gcsfuse" not in capsys.readouterr().out
    assert mixture("tpu", "--dry-run", "--stage", "always", scratch=0) == 2
    assert "raise it in ladder.toml, or leave --stage out" in capsys.readouterr().err


def test_a_dry_run_on_gke_mounts_what_does_not_fit_and_asks_for_the_disk_of_what_does(bucket, mixture, capsys):
    assert mixture("gke", "--dry-run", scratch=0) == 0
    *runs, fit = yaml.safe_load_all(capsys.readouterr().out.partition("---\n")[2])
    for item in runs:
        template = item["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
        assert template["metadata"]["annotations"]["gke-gcsfuse/volumes"] == "true"
        csi = template["spec"]["volumes"][1]["csi"]
        assert (csi["readOnly"], csi["volumeAttributes"]["bucketName"]) == (True, bucket.name)
    assert runs and "gcsfuse" not in str(fit)
    assert mixture("gke", "--dry-run") == 0
    *runs, fit = yaml.safe_load_all(capsys.readouterr().out.partition("---\n")[2])
    for item in runs:
        pod = item["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
        assert pod["containers"][0]["resources"]["limits"]["ephemeral-storage"] == "2Gi"
        assert pod["volumes"] == [{"name": "scratch", "emptyDir": {"sizeLimit": "2Gi"}}]


def test_what_was_submitted_is_mounted_again_by_watch(bucket, mixture, tmp_path, monkeypatch):
    config = submission.BackendConfig("gke", settings=SETTINGS, placement=Placement(BOTH))
    built, _ = DryRun._built(None)
    submission.write(built, False, as_path(bucket.url) / "runs", config)
    assert submission.read(as_path(bucket.url) / "runs" / "olmo2").config == config
