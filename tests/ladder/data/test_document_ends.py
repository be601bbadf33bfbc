"""With which id documents end: data.mask_documents is refused where that cannot be known."""

import json
from pathlib import Path

import numpy as np
import pytest

from ladder.config import Data, Source
from ladder.data import sources
from ladder.data.tokens import indexing, source
from ladder.data.tokens.formats import Megatron
from ladder.errors import InputError
from tests.ladder.data.tokens import written

EOS = 255  # of the tokenizer "bytes"
SEQ_LEN = 8


@pytest.fixture
def text(tmp_path) -> Source:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"words and words {i}"}) + "\n" for i in range(30)))
    return Source("words", (str(path),), 1.0)


def tokens(path: Path, **options) -> Source:
    indexing.build([path], workers=1, **options)
    return Source("own", (str(path),), 1.0, format="tokens")


def documents(n: int, eos: int) -> list[np.ndarray]:
    return [np.append(np.full(5 + i % 3, 100 + i % 7), eos) for i in range(n)]


def eos(root: Path, *all_sources: Source, mask_documents: bool = True, **changes) -> int | None:
    data = Data(sources=all_sources, validation=0.2, mask_documents=mask_documents, **changes)
    return sources.eos(data, sources.build(data, SEQ_LEN, root, progress=False))


def test_documents_end_with_the_id_of_the_tokenizer_or_of_the_index(tmp_path, text):
    flat = tokens(written.npy(tmp_path / "flat.npy", np.concatenate(documents(20, EOS)), "uint16"), eos=EOS)
    pair = tokens(written.megatron(tmp_path / "pair.bin", documents(20, EOS), "uint16"))
    pair = Source("pair", pair.text, 1.0, format="tokens")
    assert eos(tmp_path, text, flat, pair) == EOS
    assert eos(tmp_path, text, flat, pair, mask_documents=False) is None
    other = tokens(written.npy(tmp_path / "other.npy", np.concatenate(documents(20, 9)), "uint16"), eos=9)
    assert eos(tmp_path, other) == 9
    with pytest.raises(InputError, match=r"do not all end with the same id \(words: 255, own: 9\)"):
        eos(tmp_path, text, other)


def test_the_text_of_one_source_ends_with_the_id_of_its_tokenizer(tmp_path, text):
    data = Data(text=text.text, validation=0.2, mask_documents=True)
    corpora = sources.build(data, SEQ_LEN, tmp_path, progress=False)
    assert sources.eos(data, corpora) == EOS
    with pytest.raises(
        InputError, match=r"data\.eos_id = 3, but documents end with the id 255; leave data\.eos_id out"
    ):
        sources.eos(Data(text=text.text, mask_documents=True, eos_id=3), corpora)


def test_an_index_that_does_not_say_how_documents_end_is_refused(tmp_path):
    flat = tokens(written.npy(tmp_path / "flat.npy", np.concatenate(documents(20, EOS)), "uint16"), validation=0.0)
    with pytest.raises(InputError, match=r"data\.sources\.own: .*flat.*which id ends a document; make it .* --eos ID"):
        eos(tmp_path, flat)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("old", [False, True])
def test_a_document_of_megatron_that_ends_otherwise_is_refused(tmp_path, monkeypatch, old, parts):
    """Of the first documents, with its byte in the file; sequences that are no documents may end with any id."""
    monkeypatch.setattr(source, "DOCUMENTS_CHECKED", 12)
    all_documents = documents(20, EOS)
    path = written.megatron(tmp_path / "pair.bin", all_documents, "uint16", old=old, parts=parts)
    assert eos(tmp_path, tokens(path)) == EOS
    ends = np.cumsum([len(document) for document in all_documents])
    assert Megatron.open(path.with_suffix(".idx")).document_ends(ends[-1]).tolist() == ends.tolist()
    checked = 12 if old else 12 // parts
    assert Megatron.open(path.with_suffix(".idx")).first_document_ends(12).tolist() == ends[:checked].tolist()
    all_documents[4][-1] = 101
    written.megatron(path, all_documents, "uint16", old=old, parts=parts)
    byte = 2 * (ends[4] - 1)
    refused = rf"^data\.sources\.own: .*pair\.bin: byte {byte}: a document ends with the id 101, not with 255, .*"
    with pytest.raises(InputError, match=refused + r"--append-eod, or leave data\.mask_documents out$"):
        eos(tmp_path, tokens(path))
