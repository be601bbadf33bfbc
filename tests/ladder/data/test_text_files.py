"""What a file of text holds is told by its content (../shared/cases json-lines-named-otherwise, odd-lines-of-jsonl)."""

import gzip
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from etils import epath

from ladder.data.texts import text_files
from ladder.errors import InputError

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases"
TEXTS = ["one\ntwo", "three é"]
LINES = "".join(json.dumps({"text": t}) + "\n" for t in TEXTS).encode()
ARRAY = json.dumps([{"text": t, "id": i} for i, t in enumerate(TEXTS)])
MARK = b"\xef\xbb\xbf"


def zstd(content: bytes) -> bytes:
    return pyarrow.compress(content, codec="zstd", asbytes=True)


def parquet(**columns: list) -> bytes:
    pyarrow.parquet.write_table(pyarrow.table(columns), out := io.BytesIO(), compression="none")
    return out.getvalue()


ZSTD_LINES, PARQUET = zstd(LINES), parquet(text=["one", None, "two"], id=[1, 2, 3])


def read(path: Path) -> list[str | None]:
    documents = text_files.path_documents(epath.Path(path), "text")
    return [None if document is None else document.decode() for document in documents]


READ = {
    "a.json": (LINES, TEXTS),
    "a.ndjson": (b"\n" + LINES, TEXTS),
    "a.json.gz": (gzip.compress(LINES), TEXTS),
    "no-suffix": (LINES, TEXTS),
    "gzip-without-suffix": (gzip.compress(LINES), TEXTS),
    "mark.jsonl": (MARK + LINES, TEXTS),
    "mark.jsonl.gz": (gzip.compress(MARK + LINES), TEXTS),
    "array.json": (ARRAY.encode(), TEXTS),
    "array-of-lines.json": (json.dumps(json.loads(ARRAY), indent=1).encode(), TEXTS),
    "array.jsonl": (ARRAY.encode(), TEXTS),
    "object.json": (json.dumps({"text": "one"}, indent=1).encode(), ["one"]),
    "a.txt.gz": (gzip.compress(b"one\ntwo\n"), ["one\ntwo\n"]),
    "mark.txt": (MARK + b"one\n", ["one\n"]),
    "program.txt": (b'{"a": 1}\n{"text": 2}\n', ['{"a": 1}\n{"text": 2}\n']),
    "empty.json": (b"", []),
    "null.jsonl": (b'{"text": "one"}\n{"text": null}\n', ["one", None]),
    "null-first-without-suffix": (b'{"text": null}\n{"text": "one"}\n', [None, "one"]),
    "lines.jsonl.zst": (ZSTD_LINES, TEXTS),
    "frames.jsonl.zst": (ZSTD_LINES * 2, TEXTS * 2),
    "suffix-less": (zstd(b"plain text"), ["plain text"]),
    "rows.parquet": (PARQUET, ["one", None, "two"]),
    "null-array.json": (b'[{"text": null}, {"text": ""}]', [None, ""]),
}


@pytest.mark.parametrize("name", READ)
def test_read(name, tmp_path):
    content, texts = READ[name]
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == texts


REFUSED = {
    "field.json": (b'{"body": "x"}', "field.json:1: no text under 'text' (it has: body); name the field: data.field"),
    "settings.json": (b'{\n "name": "x"\n}', "settings.json: object 1: no text under 'text' (it has: name)"),
    "numbers.json": (b"[1, 2]", "numbers.json: object 1: no text under 'text' (it has: int)"),
    "deep.jsonl": (b"[" * 100_000 + b"\n", "deep.jsonl:1: JSON nested too deeply"),
    "utf16.jsonl": (LINES.decode().encode("utf-16"), "utf16.jsonl:1: UTF-16; convert it: iconv -f UTF-16"),
    "utf16.txt": ("one\ntwo\n".encode("utf-16-le"), "utf16.txt:1: UTF-16; convert it"),
    "utf32.txt": ("one\ntwo\n".encode("utf-32"), "utf32.txt:1: UTF-32; convert it"),
    "a.jsonl.zst": (b"\x28\xb5\x2f\xfd" + bytes(40), "a.jsonl.zst:1: the zstd file is damaged or truncated"),
    "cut.jsonl.zst": (ZSTD_LINES[:-3], "cut.jsonl.zst:1: the zstd file is damaged or truncated"),
    "plain.txt.zst": (b"no zstd", "plain.txt.zst:1: the zstd file is damaged or truncated"),
    "a.txt.xz": (b"\xfd7zXZ\0" + bytes(40), "compressed by xz"),
    "a.parquet": (b"PAR1" + bytes(40), "a.parquet: row 1: the Parquet file is damaged or truncated"),
    "cut.parquet": (PARQUET[:-30], "cut.parquet: row 1: the Parquet file is damaged or truncated"),
    "page.parquet": (PARQUET.replace(b"two", b"t\xffo"), "page.parquet: row 1: the Parquet file is damaged"),
    "column.parquet": (parquet(body=["x"]), "no column 'text' (it has: body); name the field: data.field=NAME"),
    "number.parquet": (parquet(text=[1]), "the column 'text' holds int64, not texts; name another: data.field=NAME"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_that_says_what_it_is(name, tmp_path):
    content, says = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_gzip_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "UNPACKED_BYTES", 1 << 20)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"x\n" * (1 << 20)))
    with pytest.raises(InputError, match="unpacks to more than 200 times its size"):
        read(tmp_path / "a.txt.gz")
    monkeypatch.setattr(text_files, "LINE_BYTES", 1 << 10)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "' + b"x" * (1 << 12)))
    with pytest.raises(InputError, match="a line of more than"):
        read(tmp_path / "a.jsonl.gz")


SHARED = {
    "list.jsonl": "list.jsonl:1: no text under 'text': it is a list",
    "latin1.jsonl": "latin1.jsonl:1: not UTF-8 (byte 0xe9); convert it",
    "utf16.txt": "utf16.txt:1: UTF-16; convert it",
}


def test_the_shared_cases():
    if not CASES.exists():
        pytest.skip("the cases are not beside the repository")
    for name, says in SHARED.items():
        with pytest.raises(InputError) as caught:
            read(CASES / "odd-lines-of-jsonl" / name)
        assert says in str(caught.value)
    assert read(CASES / "odd-lines-of-jsonl" / "bom.jsonl") == ["one", "two"]
    assert read(CASES / "odd-lines-of-jsonl" / "null.jsonl").count(None) == 1
    folder = CASES / "json-lines-named-otherwise"
    texts = read(folder / "corpus.jsonl")
    assert texts[0].startswith("Document 0.")
    for name in ("corpus.json", "corpus.ndjson", "corpus.json.gz"):
        assert read(folder / name) == texts
