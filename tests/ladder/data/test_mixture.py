"""ladder/data/mixture.py: shares in every prefix and every window, and random access."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ladder.data.mixture import Mixture, Order
from ladder.data_config import POSITIONS, Data, Phase, Source
from ladder.errors import InputError

T = POSITIONS


def shares_of(weights) -> tuple[int, ...]:
    return Data(sources=tuple(Source(f"s{i}", ("x",), weight) for i, weight in enumerate(weights))).shares


# Each at least one window in POSITIONS of 20 sources: 1e-4 against 19 times 3.
weights = st.lists(st.floats(1e-3, 3.0), min_size=1, max_size=20)


@settings(max_examples=6, deadline=None)
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


@settings(max_examples=6, deadline=None)
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


@settings(deadline=None)
@given(weights)
def test_shares_are_the_weights_rounded_to_whole_windows(weights):
    shares = shares_of(weights)
    assert sum(shares) == T
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - weight / sum(weights) * T) < 1
    assert shares_of([8 * weight for weight in weights]) == shares


def phased(*weights: tuple[float, ...]) -> tuple[tuple[int, ...], ...]:
    sources = tuple(Source(f"s{i}", ("x",), weight) for i, weight in enumerate(weights[0]))
    return Data(
        sources=sources, phases=tuple(Phase(w, (i + 1) / 9) for i, w in enumerate(weights[1:]))
    ).shares_of_phases


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.lists(st.floats(1e-3, 3.0), min_size=3, max_size=3), min_size=1, max_size=3),
    st.lists(st.integers(0, T), min_size=2, max_size=2),
)
@example([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], [500, 500])
@example([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5]], [0, 3])
def test_phases_go_on_in_every_source_where_the_one_before_stopped(weights, lengths):
    starts = np.cumsum([0, *lengths])[: len(weights)].tolist()
    shares = phased(*map(tuple, weights))
    order = Order(list(zip(starts, shares, strict=True)))
    sources, indices = order.locate(range(starts[-1] + 5000))
    for source in range(3):
        mine = sources == source
        assert indices[mine].tolist() == list(range(mine.sum()))
        for phase, (start, end) in enumerate(pairwise([*starts, len(sources)])):
            expected = shares[phase][source] / T * (end - start)
            assert abs(mine[start:end].sum() - expected) <= 1
    for position in (0, *starts, starts[-1] + 4999):
        assert order.taken(position).tolist() == np.bincount(sources[:position], minlength=3).tolist()


def test_a_weight_of_less_than_one_window_in_a_period_is_refused():
    with pytest.raises(InputError, match=r"data.sources.s1.weight = 1e-06: .*fewer than one window in 65,536"):
        shares_of([1.0, 1e-6])


def test_the_order_is_the_one_that_run_ids_stand_for():
    """Another order of the same shares needs another ORDER_VERSION."""
    table = Mixture(shares_of([0.5, 0.3, 0.2])).table
    assert table[:10].tolist() == [0, 1, 0, 2, 0, 1, 0, 2, 1, 0]
    assert hashlib.sha256(table.astype("<i2").tobytes()).hexdigest()[:16] == "643bb26094a37997"
