"""What the plan says of a mixture: tokens, share and epochs of every source; which runs are refused or flagged."""

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from configs import loader
from ladder.config import Data, Ladder, Phase, Source
from ladder.errors import InputError
from launch import cli, epochs, plan, prepare

CONFIG = """
from dataclasses import replace
from configs.demo import demo_quick
from ladder.config import Data, Ladder, Source

def mixed():
    sources = (Source("web", ("web.txt.d",), 0.75), Source("code", ("code.txt.d",), 0.25))
    rung = replace(demo_quick().rungs[0], data=Data(sources=sources, validation=0.2))
    rung = replace(rung, eval=replace(rung.eval, tasks=()))
    longer = replace(rung, multiple=2 * rung.multiple, tokens=2 * rung.tokens)
    return Ladder("mixed", (rung, longer))
"""


@pytest.fixture
def mixed(tmp_path, monkeypatch) -> str:
    """A ladder of two rungs of 27 and 54 steps of 1,024 tokens, from two sources of different sizes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, documents in (("web", 40), ("code", 15)):
        (tmp_path / f"{name}.txt.d").mkdir()
        for i in range(documents):
            (tmp_path / f"{name}.txt.d" / f"{i}.txt").write_text(" ".join(f"{name}{i}-{j}" for j in range(60)))
    (tmp_path / "mine.py").write_text(CONFIG)
    return "mine.py:mixed"


def sources_of(name: str, *overrides: str) -> list[list[dict]]:
    assert cli.main(["plan", name, *overrides, "--json", "plan.json"]) in (0, 2)
    with open("plan.json") as file:
        return [row["sources"] for row in json.load(file)["rungs"]]


def test_sizes_are_known_once_they_are_built(mixed, capsys):
    before = sources_of(mixed)
    assert "not built yet" in capsys.readouterr().out
    assert [[use["epochs"] for use in row] for row in before] == [[None, None]] * 2
    built = prepare.build(loader.load(mixed), prepare.as_path("corpora"))
    after = sources_of(mixed)
    assert "not built yet" not in capsys.readouterr().out
    for rung, row in zip(built.ladder.rungs, after, strict=True):
        for source, use in zip(rung.data.sources, row, strict=True):
            card = json.loads((built.corpora[source.corpus] / "card.json").read_text())
            assert use["name"] == source.name and use["share"] == source.weight
            assert use["tokens"] == source.weight * rung.steps * rung.batch_tokens
            assert use["unique_tokens"] == card["windows"]["train"] * card["seq_len"]
            assert use["epochs"] == use["tokens"] / use["unique_tokens"]
    assert [[use["unique_tokens"] for use in row] for row in sources_of(mixed, "data.sources.web.weight=3")] == [
        [use["unique_tokens"] for use in row] for row in after
    ]  # a corpus of bytes does not depend on the weights
    assert sources_of(mixed, "data.validation=0.3")[0][0]["unique_tokens"] is None


def test_a_rung_that_repeats_a_source_more_than_max_epochs_is_refused(mixed, capsys):
    prepare.build(loader.load(mixed), prepare.as_path("corpora"))
    first, second = (row[1]["epochs"] for row in sources_of(mixed))
    between, above = f"data.sources.code.max_epochs={(first + second) / 2}", f"data.sources.code.max_epochs={second}"
    assert cli.main(["plan", mixed, above]) == 0
    capsys.readouterr()
    for verb in (["plan", mixed], ["data", "build", mixed], ["train", mixed, "--rung", "d8-0.25xC"]):
        assert cli.main([*verb, between]) == 2
        out, err = capsys.readouterr()
        assert err.strip().count("\n") == 0
        assert re.search(r"rung d8-0.5xC: reads source code [\d.]+ times, more than data.sources.code.max_epochs", err)
        assert (" > " in out) == (verb[0] == "plan")
    weight = re.search(r"set (data.sources.code.weight=[\d.]+) or data.sources.code.max_epochs=[\d.]+", err)[1]
    name, value = weight.split("=")
    assert cli.main(["plan", mixed, between, f"{name}={float(value) * 0.99}"]) == 0


def test_a_source_that_is_repeated_often_is_flagged(mixed, capsys):
    prepare.build(loader.load(mixed), prepare.as_path("corpora"))
    capsys.readouterr()
    rung = replace(loader.load(mixed).rungs[0], tokens=400_000)
    shown = io.StringIO()
    ladder_plan = plan.make(Ladder("mixed", (rung,)), corpora=prepare.as_path("corpora"))
    Console(file=shown, width=200).print(plan.table(ladder_plan))
    assert "d8-0.25xC reads source code" in shown.getvalue()
    assert "More than 4 are worth less than new text: lower data.sources.code.weight" in shown.getvalue()
    assert epochs.FEW_EPOCHS == 4 and not any(use.is_refused for use in ladder_plan.rungs[0].sources)


def test_a_single_text_is_counted_in_one_line(tmp_path, monkeypatch, mixed):
    rung = replace(loader.load(mixed).rungs[0], data=Data(text=("web.txt.d",), validation=0.2))
    ladder, shown = Ladder("one", (rung,)), io.StringIO()
    prepare.build(ladder, tmp_path / "corpora")
    Console(file=shown, width=200).print(plan.table(plan.make(ladder, corpora=tmp_path / "corpora")))
    assert re.search(r"d8-0.25xC reads the text [\d.]+ times \([\d.]+k tokens\)\.", shown.getvalue())
    assert "sources" not in shown.getvalue()


def test_repetition_that_was_asked_for_is_no_fault(tmp_path, mixed):
    rung = replace(loader.load(mixed).rungs[0], data=Data(text=("web.txt.d",), validation=0.2))
    small = replace(rung, tokens=8 * 640, unique_tokens=640)
    shown = io.StringIO()
    prepare.build(Ladder("one", (rung, small)), tmp_path / "corpora")
    ladder_plan = plan.make(Ladder("one", (rung, small)), corpora=tmp_path / "corpora")
    Console(file=shown, width=200).print(plan.table(ladder_plan))
    assert re.search(
        r"reads the first 640 tokens of its text 8(\.\d+)? times, as its unique_tokens asks", shown.getvalue()
    )
    assert "add text" not in shown.getvalue() and shown.getvalue().count("reads the text") == 1
    assert ladder_plan.rungs[1].sources[0].epochs > epochs.FEW_EPOCHS


def test_a_bpe_of_other_weights_is_another_corpus():
    data = Data(sources=(Source("a", ("x",), 1.0), Source("b", ("y",), 1.0)), tokenizer="bpe:300")
    other = replace(data, sources=(replace(data.sources[0], weight=2.0), data.sources[1]))
    assert not set(epochs._keys(data, 8)) & set(epochs._keys(other, 8))
    in_bytes = [replace(d, tokenizer="bytes") for d in (data, other)]
    assert epochs._keys(in_bytes[0], 8) == epochs._keys(in_bytes[1], 8)


def test_prepared_runs_name_their_corpora_and_are_verified(mixed, tmp_path):
    built = prepare.build(loader.load(mixed), tmp_path / "corpora")
    directories = prepare.write(built, built.ladder.rungs, tmp_path / "runs")
    config = json.loads((directories[0] / "config.json").read_text())
    assert [tmp_path / "corpora" / s["corpus"] for s in config["rung"]["data"]["sources"]] == [
        prepare.as_path(folder) for folder in config["corpus_dirs"]
    ]
    assert len(config["corpus_dirs"]) == 2
    assert cli.main(["verify", "runs/mixed"]) == 0
    shard = max((tmp_path / "corpora" / config["rung"]["data"]["sources"][1]["corpus"]).rglob("*array_record*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert cli.main(["verify", "runs/mixed"]) == 1


def test_a_refused_weight_that_fits_leaves_room_for_the_others():
    use = epochs.SourceUse("a", 0.5, 1000, 100, 2.0)
    assert use.epochs == 10 and use.is_refused and not use.is_flagged
    rung = replace(
        loader.load("demo-quick").rungs[0],
        data=Data(sources=(Source("a", ("x",), 3.0, max_epochs=2.0), Source("b", ("y",), 3.0))),
    )
    with pytest.raises(InputError, match=r"reads source a 10 times, .* set data.sources.a.weight=0.333 or"):
        epochs.check(rung, [use])


def test_phases_count_by_their_steps():
    sources = (Source("a", ("x",), 3.0), Source("b", ("y",), 1.0))
    data = Data(sources=sources, phases=(Phase((0.0, 1.0), 0.5), Phase((1.0, 1.0), 0.75)))
    rung = replace(loader.load("demo-quick").rungs[0], tokens=1024 * 100, data=data)
    a, b = epochs.uses(rung, [1000, None])
    shares = 0.5 * 0.75 + 0.25 * 0.5, 0.5 * 0.25 + 0.25 + 0.25 * 0.5
    assert (a.share, b.share) == pytest.approx(shares) and (a.tokens, b.tokens) == (51200, 51200)
    assert a.epochs == 51.2 and b.epochs is None
    limited = replace(rung, data=replace(data, sources=(replace(sources[0], max_epochs=2.0), sources[1])))
    with pytest.raises(InputError, match=r"reads source a 51.2 times, .*; set data.sources.a.max_epochs="):
        epochs.check(limited, epochs.uses(limited, [1000, None]))
