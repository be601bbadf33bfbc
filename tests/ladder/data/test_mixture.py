"""ladder/data/mixture.py: shares in every prefix and every window, and random access."""

import hashlib
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ladder.data.mixture import Mixture, _tables
from ladder.data_config import POSITIONS, Data, Source
from ladder.errors import InputError

T = POSITIONS


def shares_of(weights) -> tuple[int, ...]:
    return Data(sources=tuple(Source(f"s{i}", ("x",), weight) for i, weight in enumerate(weights))).shares


# Each at least one window in POSITIONS of 20 sources: 1e-4 against 19 times 3.
weights = st.lists(st.floats(1e-3, 3.0), min_size=1, max_size=20)


@settings(max_examples=15, deadline=None)
@given(weights)
@example([1.0])
@example([1.0, 1.0])
@example([1.0] * 20)
@example([T - 19.0] + [1.0] * 19)  # one window in 65,536 for each but one
@example([0.9, 0.0999, 0.0001])
def test_every_prefix_has_each_share_within_one_and_every_window_within_two(weights):
    mixture = Mixture(shares := shares_of(weights))
    for source, share in enumerate(shares):
        count = np.concatenate([[0], np.cumsum(mixture.table == source)])
        excess = count * T - share * np.arange(T + 1)  # in units of 1 / T
        assert count[-1] == share
        assert abs(excess).max() <= T
        assert excess.max() - excess.min() <= 2 * T  # the windows, across the ends of periods too


@settings(max_examples=15, deadline=None)
@given(weights, st.integers(0, 40 * T))
@example([0.3, 0.2, 0.5], 3 * T - 5)
def test_random_access_equals_counting(weights, start):
    mixture = Mixture(shares_of(weights))
    counts = mixture.taken(start).tolist()
    sources, indices = mixture.locate(range(start, start + 3000))
    for source, index in zip(sources.tolist(), indices.tolist(), strict=True):
        assert index == counts[source]
        counts[source] += 1
    assert mixture.taken(start + 3000).tolist() == counts


def test_counting_from_the_first_position():
    mixture = Mixture(shares_of([0.5, 0.3, 0.2]))
    assert mixture.taken(0).tolist() == [0, 0, 0]
    assert mixture.taken(T).tolist() == list(mixture.shares)
    assert mixture.taken(10**12 * T).tolist() == [10**12 * share for share in mixture.shares.tolist()]
    sources, indices = mixture.locate(range(2 * T))
    for source in range(3):
        assert indices[sources == source].tolist() == list(range(2 * mixture.shares[source]))


@given(weights)
def test_shares_are_the_weights_rounded_to_whole_windows(weights):
    shares = shares_of(weights)
    assert sum(shares) == T
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - weight / sum(weights) * T) < 1
    assert shares_of([8 * weight for weight in weights]) == shares


def test_a_weight_of_less_than_one_window_in_a_period_is_refused():
    with pytest.raises(InputError, match=r"data.sources.s1.weight = 1e-06: .*fewer than one window in 65,536"):
        shares_of([1.0, 1e-6])


def test_the_order_is_the_one_that_run_ids_stand_for():
    """Another order of the same shares needs another ORDER_VERSION."""
    table = Mixture(shares_of([0.5, 0.3, 0.2])).table
    assert table[:10].tolist() == [0, 1, 0, 2, 0, 1, 0, 2, 1, 0]
    assert hashlib.sha256(table.astype("<i2").tobytes()).hexdigest()[:16] == "643bb26094a37997"


def test_a_table_of_twenty_sources_takes_under_a_second():
    _tables.cache_clear()
    began = time.perf_counter()
    Mixture(shares_of([1.0 + i for i in range(20)]))
    assert time.perf_counter() - began < 1
