"""Configs of mixtures: sources, their weights, and phases with other weights."""

import json
import re
from dataclasses import replace

import pytest

from ladder.config import (
    Data,
    Ladder,
    Phase,
    Rung,
    Source,
    to_dict,
)
from ladder.errors import InputError
from ladder.overrides import from_dict, override
from tests.ladder.rungs import BRANCH, RUNG, TRUNK, WSD

MIXTURE = Data(sources=(Source("web", ("web.jsonl",), 0.7), Source("code", ("python",), 0.3, max_epochs=2.0)))
MIXED = replace(RUNG, data=MIXTURE)


def with_corpora(*names: str, data: Data = MIXTURE) -> Rung:
    sources = tuple(replace(source, corpus=name) for source, name in zip(data.sources, names, strict=True))
    return replace(RUNG, data=replace(data, sources=sources, tokenizer_hash="t"))


def weights(*values: float) -> Data:
    return replace(MIXTURE, sources=tuple(replace(s, weight=w) for s, w in zip(MIXTURE.sources, values, strict=True)))


def test_run_id_of_a_mixture_covers_corpora_weights_and_order_of_sources():
    first = with_corpora("a", "b")
    others = [with_corpora("a", "c"), with_corpora("b", "a"), with_corpora("a", "b", data=weights(0.6, 0.4))]
    assert len({rung.run_id for rung in (first, *others, MIXED, RUNG)}) == 6
    names = replace(first.data, sources=tuple(replace(s, name=f"n-{s.name}", text=("y",)) for s in first.data.sources))
    same = [with_corpora("a", "b", data=weights(7.0, 3.0)), replace(first, data=names)]
    same.append(override(first, "data.sources.code.max_epochs=none"))
    assert {rung.run_id for rung in same} == {first.run_id}


def test_run_id_of_a_mixture_stays(monkeypatch):
    assert with_corpora("a", "b").identity == "5aaa5973"
    monkeypatch.setattr("ladder.data_config.ORDER_VERSION", 2)
    assert with_corpora("a", "b").identity != "5aaa5973"


def test_a_mixture_of_one_source_is_the_run_of_that_source():
    alone = Data(sources=(Source("web", ("web.jsonl",), 3.0, corpus="a"),), tokenizer_hash="t")
    assert replace(RUNG, data=alone).run_id == replace(RUNG, data=Data(corpus="a", tokenizer_hash="t")).run_id


def test_a_mixture_comes_back_from_its_json():
    assert from_dict(Rung, json.loads(json.dumps(to_dict(MIXED)))) == MIXED


def test_overrides_of_sources():
    assert override(MIXED, "data.sources.web.weight=0.6", "data.sources.code.max_epochs=none").data.sources == (
        Source("web", ("web.jsonl",), 0.6),
        Source("code", ("python",), 0.3),
    )
    assert override(MIXED, "data.sources.web.text=a,b").data.sources[0].text == ("a", "b")
    as_json = '[{"name": "a", "text": ["x.txt"], "weight": 1}, {"name": "b", "text": ["y"], "weight": 3.5}]'
    assert override(RUNG, f"data.sources={as_json}").data.sources == (
        Source("a", ("x.txt",), 1.0),
        Source("b", ("y",), 3.5),
    )
    assert override(MIXED, "data.sources=[]", "data.text=x").data == Data(text=("x",))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("data.sources.wbe.weight=1", "override data.sources.wbe: data.sources has web, code"),
        ("data.sources.web=1", "override data.sources.web: names a group; its members are data.sources.web.name"),
        ("data.sources.web.wieght=1", "data.sources.web.wieght: Source has no 'wieght'; did you mean 'weight'?"),
        ("data.sources.web.weight=-1", "data.sources.web.weight = -1.0: must be positive and finite"),
        ("data.sources.web.weight=0", "data.sources.web.weight = 0.0: must be positive"),
        ("data.sources.web.weight=x", "data.sources.web.weight = 'x': needs a finite number"),
        ("data.sources.web.weight=1e9", "data.sources.code.weight = 0.3: 3e-10 of the tokens"),
        ("data.sources.web.format=parquet", "data.sources.web.format = 'parquet': choose one of text"),
        ("data.sources.web.name=code", "data.sources: code is named twice; rename one"),
        ("data.sources.web.name=a/b", "data.sources: name = 'a/b'"),
        ("data.sources.web.max_epochs=0", "data.sources.web.max_epochs = 0.0"),
        ("data.sources.web.text=", "data.sources.web.text is empty"),
        ("data.sources=web", 'data.sources = \'web\': write a JSON list of objects, [{"name": ..., "text": ..., "weig'),
        ('data.sources=[{"name": "a"}]', "text is missing"),
        ("data.sources=[1]", "data.sources: needs an object"),
        ("data.text=x", "data.text and data.sources exclude each other"),
        ("data.field=x", "data.field and data.sources exclude each other"),
        ("data.max_bytes=7", "data.max_bytes and data.sources exclude each other"),
    ],
)
def test_wrong_overrides_of_sources_are_refused_in_one_line(assignment, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        override(MIXED, assignment)
    assert "\n" not in str(raised.value)


def test_a_source_of_a_ladder_without_sources_is_refused():
    message = "override data.sources.web: data.sources is empty; give it as JSON, a list of objects"
    with pytest.raises(InputError, match=re.escape(message)):
        override(RUNG, "data.sources.web.weight=1")


def test_a_source_whose_text_is_no_tuple_is_refused():
    with pytest.raises(InputError, match=re.escape("data.sources.a.text = 'x': write a tuple of paths, ('x',)")):
        Source("a", "x", 1.0)


ANNEALED = replace(MIXTURE, phases=(Phase((0.1, 0.9)),))


def test_phases_of_a_run():
    shares = (45875, 19661), (6554, 58982)
    assert replace(WSD, data=ANNEALED).phases == ((0, shares[0]), (WSD.steps - WSD.decay_steps, shares[1]))
    assert replace(RUNG, data=MIXTURE).phases == ((0, shares[0]),)
    halves = replace(MIXTURE, phases=(Phase((0.1, 0.9), 0.5), Phase((0.7, 0.3), 0.9)))
    assert [first for first, _ in replace(RUNG, data=halves).phases] == [0, 122, 220]


def test_a_trunk_has_no_phases_and_its_branches_may_differ_in_theirs():
    trunk, plain = replace(TRUNK, data=ANNEALED), replace(TRUNK, data=MIXTURE)
    assert trunk.run_id == plain.run_id and len(trunk.phases) == 1
    others = [
        replace(MIXTURE, phases=(Phase((0.1, 0.9), 0.5),)),
        replace(MIXTURE, phases=(Phase((0.2, 0.8)),)),
        MIXTURE,
    ]
    branches = [replace(BRANCH, parent=trunk.identity, data=data) for data in (ANNEALED, *others)]
    assert len({branch.run_id for branch in branches}) == 4
    ladder = Ladder("demo", (trunk, *branches))
    assert ladder.map(lambda rung: rung) == ladder
    assert from_dict(Rung, json.loads(json.dumps(to_dict(branches[1])))) == branches[1]


def test_a_source_may_be_read_in_a_later_phase_only():
    sources = (Source("web", ("x",), 1.0), Source("late", ("y",), 0.0))
    data = Data(sources=sources, phases=(Phase((1.0, 1.0), 0.5),))
    assert data.shares_of_phases == ((65536, 0), (32768, 32768))


SOURCES = MIXTURE.sources


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Data(phases=(Phase((1.0,)),)), "data.phases: only a mixture has phases"),
        (lambda: Phase((1.0, -1.0)), "data.phases: weights = (1.0, -1.0): must not be negative"),
        (lambda: Phase((0.0, 0.0)), "infinite or all 0"),
        (lambda: Phase((1.0,), 1.0), "data.phases: start = 1.0: must lie between 0 and 1"),
        (lambda: Data(sources=SOURCES, phases=(Phase((1.0,)),)), "give 2 weights, of web, code"),
        (lambda: Data(sources=SOURCES, phases=(Phase((1.0, 1.0), 0.5), Phase((1.0, 2.0), 0.4))), "list them in order"),
        (
            lambda: Data(sources=SOURCES, phases=(Phase((1.0, 1e-9), 0.5),)),
            "data.sources.code.weight = 1e-09: 1e-09 of",
        ),
        (lambda: Data(sources=(replace(SOURCES[0], weight=0.0), SOURCES[1])), "data.sources.web.weight = 0.0: must be"),
        (lambda: replace(RUNG, data=ANNEALED), "a phase that starts with the decay needs optimizer.schedule=wsd"),
        (
            lambda: replace(BRANCH, data=replace(MIXTURE, phases=(Phase((1.0, 1.0), 0.2),))),
            "its data.phases start at steps [49]; list them in order, the first from step 100 on",
        ),
        (lambda: override(MIXED, "data.phases.0.start=0.3"), "data.phases.0: give data.phases as JSON"),
        (lambda: override(MIXED, "data.phases=0.9"), 'write a JSON list of objects, [{"weights": ...}, ...]'),
    ],
)
def test_wrong_phases_are_refused_in_one_line(build, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        build()
    assert "\n" not in str(raised.value)


def test_phases_from_the_command_line():
    changed = override(MIXED, 'data.phases=[{"start": 0.9, "weights": [1, 3]}]')
    assert changed.data.phases == (Phase((1.0, 3.0), 0.9),)
