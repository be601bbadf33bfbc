"""A corpus whose documents end with the token that data.eos names."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ladder.config import Data
from ladder.data import sources
from ladder.errors import InputError
from ladder.loop.run import open_tokenizer
from ladder.rundir import config_file
from ladder.rundir.record import Record
from launch import cli
from tests.ladder.data.test_tokenizer import llama3_like

SEQ_LEN = 32


@pytest.fixture(scope="module")
def data(world, tmp_path_factory) -> Data:
    path = tmp_path_factory.mktemp("tokenizer") / "llama3.json"
    path.write_text(llama3_like().to_str())
    return Data(text=(str(world.text),), validation=0.2, tokenizer=str(path))


def test_documents_end_with_the_named_token(data, tmp_path):
    plain, named = (
        sources.build(replace(data, eos=eos), SEQ_LEN, tmp_path, progress=False)[0] for eos in (None, "<|eot_id|>")
    )
    assert plain.hash != named.hash and (plain.eos, named.eos) == (260, 261)
    tokens = [corpus.window_reader("train")(list(range(corpus.windows["train"]))) for corpus in (plain, named)]
    assert np.array_equal(np.where(tokens[0] == 260, 261, tokens[0]), tokens[1]) and (tokens[1] == 261).any()
    same = sources.build(replace(data, eos="<|end_of_text|>"), SEQ_LEN, tmp_path, progress=False)[0]
    assert same.hash == plain.hash  # the token that was taken without a name


def test_a_run_knows_the_separator_of_its_corpus(world, data, tmp_path):
    named = replace(data, eos="<|eot_id|>", mask_documents=True)
    model = replace(world.rung().model, vocab_size=300)
    (directory,) = world([replace(world.rung(), model=model)], tmp_path, data=named)
    config, rung = config_file.read(Record(directory))
    assert (rung.data.eos, rung.data.eos_id) == ("<|eot_id|>", 261)
    assert open_tokenizer(config, rung).eos == 261


def test_runs_of_before_the_name_keep_their_id(world, tmp_path):
    """data.eos was then the id."""
    masked = Data(text=(str(world.text),), validation=0.2, mask_documents=True)
    (directory,) = world([world.rung()], tmp_path, data=masked)
    record = Record(directory)
    config = record.read_config()
    assert config["rung"]["data"].pop("eos_id") == 255 and config["rung"]["data"]["eos"] is None
    config["rung"]["data"]["eos"] = 255
    record.write_config(config)
    assert config_file.read(record)[1].data.eos_id == 255


def test_ladder_data_build_takes_the_name(data, world, tmp_path, capsys):
    build = ["data", "build", "demo-quick", f"data.text={world.text}", f"data.tokenizer={data.tokenizer}"]
    build += ["model.vocab_size=384", "--corpora", str(tmp_path)]
    assert cli.main([*build, "--eos", "<|eot_id|>"]) == 0
    (card,) = tmp_path.glob("*/tokenizer/tokenizer_config.json")
    assert json.loads(card.read_text()) == {"eos_token": "<|eot_id|>"}
    capsys.readouterr()
    assert cli.main([*build, "--eos", "<|end|>"]) == 2
    said = capsys.readouterr().err
    assert "'<|end|>' is none of its special tokens, which are <|begin_of_text|>, <|end_of_text|>, <|eot_id|>" in said


def test_token_files_say_themselves_what_ends_a_document(data):
    source = {"name": "own", "text": ("x.npy",), "weight": 1.0, "format": "tokens"}
    from ladder.config import Source

    with pytest.raises(InputError, match="source own is tokens already, whose index says which id ends a document"):
        Data(tokenizer=data.tokenizer, sources=(Source(**source),), eos="<|eot_id|>")
