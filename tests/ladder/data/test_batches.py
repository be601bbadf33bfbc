"""ladder/data/batches.py: exact permutations, the same batch for any access, and no more read than is used."""

import gc
import threading
import time

import numpy as np
import pytest

from ladder.config import Data
from ladder.data import corpus as corpora
from ladder.data.batches import Batches, prefetched, validation

L, B = 8, 6


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> corpora.Corpus:
    """Numbered words, so that windows differ; records of 512 windows."""
    where = tmp_path_factory.mktemp("text")
    for i in range(40):
        (where / f"{i}.txt").write_text(" ".join(f"{i}-{j}" for j in range(80)))
    return corpora.build(Data(text=(str(where),), validation=0.2), L, tmp_path_factory.mktemp("out"), progress=False)


@pytest.fixture(scope="module")
def windows(corpus) -> dict[str, list[tuple]]:
    """The windows of each split on disk, sliced by hand."""
    by_split = {}
    for split in corpora.SPLITS:
        source = corpus.source(split)
        rows = [source[i] for i in range(len(source))]
        step = corpus.windows_per_record
        all_windows = [tuple(row[s * L : s * L + L + 1].tolist()) for row in rows for s in range(step)]
        by_split[split] = all_windows[: corpus.windows[split]]
    return by_split


def rows(batch: dict) -> list[tuple]:
    return [tuple(row) for row in batch["tokens"].tolist()]


def test_each_epoch_is_another_permutation_of_the_windows(corpus, windows):
    n = corpus.windows["train"]
    assert n % B != 0 and n > 512  # an epoch ends inside a batch, windows lie in several records
    batches = Batches(corpus, "train", B, seed=3)
    seen = [row for step in range(-(-3 * n // B)) for row in rows(batches(step))]
    epochs = [seen[e * n : (e + 1) * n] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(windows["train"])
    orders = [windows["train"], *epochs]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            # Two random orders agree in about one place, whatever n is.
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 20


def test_a_batch_is_int32_and_inputs_continue_as_targets(corpus):
    tokens = Batches(corpus, "train", B, seed=0)(0)["tokens"]
    assert tokens.dtype == np.int32 and tokens.shape == (B, L + 1)
    assert Batches(corpus, "validation", B, seed=0)(0)["tokens"].shape == (B, L + 1)


@pytest.mark.parametrize("rows", [[0, 1, 2], [3, 4, 5], [5], [0, 2, 4], range(B)])
def test_a_share_is_rows_of_the_global_batch(rows, corpus):
    whole, share = Batches(corpus, "train", B, seed=1), Batches(corpus, "train", B, 1, rows)
    for step in (0, 7, 10_000):
        np.testing.assert_array_equal(share(step)["tokens"], whole(step)["tokens"][list(rows)])


def test_random_access_equals_sequence_and_another_object(corpus):
    batches = Batches(corpus, "train", B, seed=5)
    inorder = [batches(step)["tokens"] for step in range(40)]
    for step in np.random.default_rng(0).permutation(40):
        np.testing.assert_array_equal(batches(int(step))["tokens"], inorder[step])
    again = Batches(corpora.open_corpus(corpus.directory), "train", B, seed=5)
    np.testing.assert_array_equal(again(31)["tokens"], inorder[31])


def test_seeds_differ_and_an_epoch_is_not_the_next_seeds_first(corpus):
    n = corpus.windows["train"]
    first = {seed: [rows(Batches(corpus, "train", n, seed)(epoch)) for epoch in (0, 1)] for seed in (0, 1)}
    assert first[0][0] != first[1][0]
    assert first[0][1] != first[1][0]


def test_epochs_are_counted(corpus):
    batches = Batches(corpus, "train", B, seed=0)
    n = corpus.windows["train"]
    assert batches.epochs(0) == [0]
    assert batches.epochs(n) == [pytest.approx(B)]
    assert batches.epochs(1) == [pytest.approx(B / n)]


def test_a_process_reads_its_share_and_nothing_else(corpus, monkeypatch):
    read = []
    monkeypatch.setattr(corpora.Corpus, "window_reader", lambda self, split: read.extend)
    batches = Batches(corpus, "train", B, 0, rows=[2, 3])
    batches(5)
    batches(10**9)  # far away costs no more than near
    assert len(read) == 2 * 2


def test_a_small_corpus_is_read_once(corpus, monkeypatch):
    requested = []
    opened = corpora.Corpus.source
    monkeypatch.setattr(corpora.Corpus, "source", lambda self, split: Counting(opened(self, split), requested))
    batches = Batches(corpus, "train", B, seed=0)
    for step in range(3 * corpus.windows["train"] // B):
        batches(step)
    assert len(requested) == len(set(requested)) == -(-corpus.windows["train"] // corpus.windows_per_record)


class Counting:
    def __init__(self, source, requested):
        self.source, self.requested = source, requested

    def __getitem__(self, i):
        self.requested.append(i)
        return self.source[i]


@pytest.mark.parametrize("tokens, n", [(1, 1), (12 * L, 12), (12 * L + 1, 12), (10**9, None)])
def test_validation_is_the_first_windows_in_order(tokens, n, corpus, windows):
    windows_WL1 = validation(corpus, tokens)
    n = corpus.windows["validation"] if n is None else n
    assert windows_WL1.shape == (n, L + 1) and windows_WL1.dtype == np.int32
    assert [tuple(row) for row in windows_WL1.tolist()] == windows["validation"][:n]


def reading_threads() -> int:
    return sum(thread.name == "batches" for thread in threading.enumerate())


def test_prefetched_is_the_same_in_order_and_ends(corpus):
    batches = Batches(corpus, "train", B, seed=0)
    steps_and_batches = list(prefetched(batches, 3, 20))
    assert [step for step, _ in steps_and_batches] == list(range(3, 20))
    for step, batch in steps_and_batches:
        np.testing.assert_array_equal(batch["tokens"], batches(step)["tokens"])
    assert list(prefetched(batches, 5, 5)) == []
    assert reading_threads() == 0


@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_abandoned_prefetch_stops_its_thread(after):
    requested = []
    stream = prefetched(lambda step: requested.append(step), 0, 10**9)
    for _ in range(after):
        next(stream)
    del stream
    gc.collect()
    assert reading_threads() == 0
    assert len(requested) <= after + 2


def test_prefetch_reads_ahead_by_what_it_is_told_and_no_more():
    requested = []
    stream = prefetched(lambda step: requested.append(step), 0, 100, ahead=3)
    next(stream)
    deadline = time.monotonic() + 5
    while len(requested) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert requested == [0, 1, 2, 3]
    stream.close()


def test_what_reading_raises_is_raised_at_its_step():
    def read(step):
        if step == 2:
            raise OSError("disk")
        return step

    stream = prefetched(read, 0, 10)
    assert [next(stream)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="disk"):
        next(stream)
    assert reading_threads() == 0


@pytest.mark.parametrize("share", [0.001, 0.3, 0.77])
def test_a_subset_is_read_once_an_epoch_and_lies_within_a_larger_one(share, corpus):
    n = max(1, round(share * corpus.windows["train"]))
    batches = Batches(corpus, "train", n, seed=4, subsets=(share,))
    epochs = [sorted(rows(batches(epoch))) for epoch in (0, 1, 5)]
    assert len(epochs[0]) == n and epochs[0] == epochs[1] == epochs[2] and batches.epochs(3) == [3.0]
    larger = Batches(corpus, "train", round(0.9 * corpus.windows["train"]), seed=4, subsets=(0.9,))
    assert set(epochs[0]) <= set(rows(larger(0)))
    assert share < 0.5 or rows(batches(0)) != rows(batches(1))
