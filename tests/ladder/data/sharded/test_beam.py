"""Beam itself: its direct runner, killed twice, gives the corpus of one process; what it refuses; Dataflow's pipeline,
which is built here and never ran. Skipped without Beam's environment (`make beam`)."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ladder.config import Data
from ladder.data import corpus as corpora
from ladder.data.sharded import environment, texts, work
from ladder.data.sharded.environment import Beam
from ladder.data.texts import python_code
from ladder.errors import InputError, Preempted
from tests.ladder.data.sharded.test_sharded import content

pytestmark = pytest.mark.skipif(not environment.python().is_file(), reason="no Beam here: make beam")
ROOT = Path(__file__).parents[4]
SEQ_LEN = 1024


def write_text(folder: Path, n_bytes: int) -> None:
    """Pieces of Python sources, one in twenty of them twice, as JSON lines in eight files."""
    rng, sources = random.Random(0), [document.decode() for document in python_code.python_documents()]
    folder.mkdir()
    for i in range(8):
        pieces, size = [], 0
        while size < n_bytes / 8 / 1.05:
            source = rng.choice(sources)
            start = rng.randrange(max(1, len(source) - 200))
            pieces.append(source[start : start + rng.randint(200, 6000)])
            size += len(pieces[-1])
        pieces += rng.sample(pieces, len(pieces) // 20)
        (folder / f"{i}.jsonl").write_text("".join(json.dumps({"text": piece}) + "\n" for piece in pieces))


def start(data: Data, root: Path) -> subprocess.Popen:
    """A process that builds the corpus with two workers; the leader of its group."""
    code = f"""
from ladder.config import Data
from ladder.data import corpus
from ladder.data.sharded import texts
from ladder.data.sharded.environment import Beam
read = texts.reader(Beam("direct", ("direct_num_workers=2",)))
corpus.build({data!r}, {SEQ_LEN}, {str(root)!r}, progress=False, read=read)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)


def processes() -> list[tuple[int, int, int]]:
    """(pid, parent, group) of every process that runs."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    running = [line.split()[:3] for line in lines.splitlines() if line.split()[3][0] != "Z"]
    return [tuple(map(int, numbers)) for numbers in running]


def kill_after(process: subprocess.Popen, root: Path, pattern: str, n: int, seconds: float) -> list[Path]:
    """Kill -9 once n files of the work folder match; returns all that a next run should not write again."""
    end = time.monotonic() + seconds
    while len(list(root.glob(f".beam-*/{pattern}"))) < n:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.02)
    groups = {group for _, parent, group in processes() if parent == process.pid}
    assert len(groups) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(group in groups for _, _, group in processes()):  # Beam and its workers see that nobody asks any more
        assert time.monotonic() < end
        time.sleep(0.1)
    finished = [
        path for kind in ("parts/*.json", "buckets/*.json", "*/tokens/*.json") for path in root.glob(f".beam-*/{kind}")
    ]
    return finished


def prove(n_bytes: int, tokenizer: str, folder: Path, seconds: float) -> str:
    write_text(folder / "text", n_bytes)
    data = Data(text=(str(folder / "text"),), tokenizer=tokenizer)
    begin = time.monotonic()
    expected = corpora.build(data, SEQ_LEN, folder / "one", progress=False)
    alone = time.monotonic() - begin
    root = folder / "many"
    job = work.job_of(data)
    begin = time.monotonic()
    first = kill_after(start(data, root), root, "parts/*.json", max(1, len(job.parts) // 2), seconds)
    second = kill_after(start(data, root), root, "*/tokens/*.json", max(1, job.n_buckets // 2), seconds)
    times = {path: path.stat().st_mtime_ns for path in second}
    assert set(first) < set(second) and not list(root.glob("*/card.json"))
    process = start(data, root)
    kept = set()
    while process.poll() is None:
        kept |= {path for path, written in times.items() if path.exists() and path.stat().st_mtime_ns == written}
        time.sleep(0.2)
    assert process.returncode == 0
    assert kept == set(times)
    many = time.monotonic() - begin
    built = corpora.open_corpus(root / expected.hash)
    assert content(built).keys() == content(expected).keys()
    assert content(built) == content(expected)
    assert [path.name for path in root.iterdir()] == [expected.hash]
    megabytes = sum(expected.bytes.values()) / 1e6
    shards = len(list(Path(expected.directory).rglob("*array_record*")))
    return (
        f"{megabytes:.0f} MB of distinct text, {sum(expected.documents.values()):,} documents and "
        f"{expected.duplicates:,} duplicates, {len(job.parts)} parts, {job.n_buckets} buckets, {shards} shards: corpus "
        f"{expected.hash} in {alone:.0f} s by one process, the same bytes in {many:.0f} s by Beam with 2 workers, "
        f"killed when {len(first)} and {len(second)} steps were finished"
    )


@pytest.mark.slow
def test_killed_twice_it_equals_the_corpus_of_one_process(tmp_path):
    prove(17_000_000, "bytes", tmp_path, seconds=120)


@pytest.mark.proof
def test_a_gigabyte_killed_twice_equals_the_corpus_of_one_process(tmp_path):
    megabytes = int(os.environ.get("MEGABYTES", "1000"))
    print("\n" + prove(megabytes * 1_000_000, "bpe:8000", tmp_path, seconds=3600))


@pytest.fixture
def job(tmp_path) -> Path:
    """A work folder of two parts."""
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    work.write_job(tmp_path, work.job_of(Data(text=(str(tmp_path / "a.txt"), str(tmp_path / "b.txt")))))
    return tmp_path


REFUSED = {
    "direct direct_num_worker=2": "'direct_num_worker': Beam has no such option; did you mean direct_num_workers?",
    "direct direct_num_workers=two": "argument --direct_num_workers: invalid int value: 'two'",
    "direct direct_running_mode=fast": "argument --direct_running_mode: invalid choice: 'fast'",
    "dataflow region=europe-west4": "Missing required option: project.",
    "dataflow project=my-project region=europe-west4": "dataflow refuses its options: Missing GCS path option:",
}
DATAFLOW = "dataflow project=my-project region=europe-west4 temp_location=gs://bucket/tmp max_num_workers=50"


@pytest.mark.slow
@pytest.mark.parametrize("line", REFUSED)
def test_wrong_options_are_one_line(line, job):
    runner, *options = line.split()
    with pytest.raises(InputError) as caught:
        Beam(runner, tuple(options)).run("read", job)
    assert REFUSED[line] in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.argument == "runner_option"


@pytest.mark.slow
def test_the_pipelines_of_dataflow_are_built_without_a_cloud(job):
    """Options are checked and the graph becomes the message that a runner gets; no jax is imported."""
    runner, *options = DATAFLOW.split()
    code = f"""
import json, sys
from ladder.data.sharded import pipeline
steps = dict()
for step in ("read", "write"):
    built = pipeline.build(step, {str(job)!r}, "name", pipeline.checked({runner!r}, {options!r}))
    graph = built.to_runner_api()
    steps[step] = sorted(t.unique_name for t in graph.components.transforms.values() if "/" not in t.unique_name)
print(json.dumps([steps, sorted({{"jax", "flax", "grain", "tensorflow"}} & sys.modules.keys())]))
"""
    done = subprocess.run(
        [str(environment.python()), "-c", code],
        env=environment._environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    steps, heavy = json.loads(done.stdout)
    assert {"read each part", "wait for all", "merge each bucket"} < set(steps["read"])
    assert {"encode each bucket", "wait for all", "write each shard"} < set(steps["write"])
    assert heavy == []


@pytest.mark.slow
def test_without_its_client_dataflow_says_what_to_install(job):
    if subprocess.run([str(environment.python()), "-c", "import apitools"], capture_output=True).returncode == 0:
        pytest.skip("Dataflow's client is installed here")
    runner, *options = DATAFLOW.split()
    with pytest.raises(InputError, match=r"pip install 'apache-beam\[gcp\]'"):
        Beam(runner, tuple(options)).run("read", job)


@pytest.mark.slow
def test_a_pipeline_that_fails_says_why_and_goes_on(job):
    """A file that is gone when it is read: as a disk that fails, or a network."""
    (job / "b.txt").rename(job / "b")
    with pytest.raises(Preempted, match=r"the pipeline failed: .*b\.txt.*; the same command goes on"):
        Beam("direct", ("direct_num_workers=2",)).run("read", job)
    (job / "b").rename(job / "b.txt")
    Beam("direct", ("direct_num_workers=1", "direct_running_mode=in_memory")).run("read", job)
    assert len(list(job.glob("parts/*.json"))) == 2 and len(list(job.glob("buckets/*.json"))) == 1


def test_dataflow_reads_no_folder_of_this_machine(tmp_path):
    with pytest.raises(InputError, match="Dataflow's machines do not see it"):
        corpora.build(Data(text=(str(tmp_path),)), 16, tmp_path / "out", False, read=texts.reader(Beam("dataflow")))
