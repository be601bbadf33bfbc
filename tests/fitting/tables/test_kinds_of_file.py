"""Tables as spreadsheets and scripts write them: read where the meaning is certain, else one line names the kind."""

import csv
import gzip
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitting.errors import InputError
from fitting.tables import files, reader
from tests.fitting.conftest import SHARED

CASES = SHARED.parent / "cases" / "tables-of-spreadsheets"
ROWS = [("a", 1000.0, 2.5), ("b", 2000.0, 2.25), ("c", 4000.0, 2.0625)]
COMMAS = "run,params,loss\na,1000,2.5\nb,2000,2.25\nc,4000,2.0625\n"
SEMICOLONS = COMMAS.replace(",", ";").replace(".", ",")
OBJECTS = [dict(zip(("run", "params", "loss"), row, strict=True)) for row in ROWS]
READ = {
    "plain": COMMAS,
    "semicolons": COMMAS.replace(",", ";"),
    "decimal commas": SEMICOLONS,
    "decimal commas and exponents": SEMICOLONS.replace("1000", "1,0e3"),
    "tabs": COMMAS.replace(",", "\t"),
    "bars": COMMAS.replace(",", "|"),
    "the separator is named": "sep=;\n" + SEMICOLONS,
    "carriage returns": COMMAS.replace("\n", "\r"),
    "line ends of Windows": COMMAS.replace("\n", "\r\n"),
    "empty columns": COMMAS.replace("\n", ",,\n"),
    "empty rows": COMMAS.replace("b,", ",,\n\n  \nb,") + ",,\n",
    "a separator behind every row": COMMAS.replace("5\n", "5,\n"),
    "the mark of UTF-8": "\ufeff" + COMMAS,
    "the mark and CRLF": "\ufeff" + COMMAS.replace("\n", "\r\n"),
    "UTF-16": COMMAS.encode("utf-16"),
    "UTF-16, the other order": b"\xfe\xff" + COMMAS.encode("utf-16-be"),
    "UTF-32": COMMAS.encode("utf-32"),
    "gzip": gzip.compress(COMMAS.encode()),
    "gzip in two parts": gzip.compress(COMMAS[:20].encode()) + gzip.compress(COMMAS[20:].encode()),
    "JSON lines": "\n".join(map(json.dumps, OBJECTS)),
    "JSON lines with blank ones": "\n\n" + "\n\n".join(map(json.dumps, OBJECTS)) + "\n",
    "a JSON array": json.dumps(OBJECTS),
    "a JSON array of many lines": json.dumps(OBJECTS, indent=2),
    "a JSON array, gzipped": gzip.compress(json.dumps(OBJECTS, indent=1).encode("utf-8-sig")),
}
REFUSED = {
    "nothing": (b"", "the file is empty (0 bytes)"),
    "blanks": (" \n\n", "the file is empty (3 bytes)"),
    "Latin-1": ("run,loss\ncaf\xe9,2.5\n".encode("latin-1"), ":2: byte 0xe9 is not UTF-8"),
    "UTF-16 without its mark": (COMMAS.encode("utf-16-le"), "holds zero bytes"),
    "UTF-16 cut off": (COMMAS.encode("utf-16")[:-1], "begins as UTF-16 but is not"),
    "Zstandard": (b"\x28\xb5\x2f\xfd\x00", "compressed by Zstandard, not a text file; unpack it first: zstd -d"),
    "Excel": (
        b"PK\x03\x04\x14\x00",
        "an Excel workbook or another zip archive, not a text file; save the sheet as CSV",
    ),
    "Parquet": (b"PAR1\x15\x00", "a Parquet file"),
    "bzip2": (b"BZh91AY&SY\x00", "compressed by bzip2"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "a web page": (b"<!doctype html><html>", "a web page"),
    "a .gz cut off": (gzip.compress(COMMAS.encode())[:-9], "the .gz is cut off"),
    "a damaged .gz": (gzip.compress(COMMAS.encode())[:-8] + b"\0" * 8, "damaged .gz"),
    "blanks as separators": (COMMAS.replace(",", " "), ":1: blanks separate the columns"),
    "a comma of thousands or of decimals": ("run;loss\na;2,500\nb;2,250\n", ":2: loss is '2,500': is the comma"),
    "points and commas": ("run;loss;lr\na;2,5;0.1\n", ":2: lr is '0.1', but other numbers have decimal commas"),
    "points of thousands": ("run;loss\na;1.002,5\n", ":2: loss is '1.002,5', not a number"),
    "columns without names": ("run,,\na,1,2\n", ":1: columns 2, 3 have no name"),
    "too many fields": ("run,loss\na,1,2\n", ":2: 3 fields, the header has 2"),
    "an array cut off": (json.dumps(OBJECTS)[:-9], ":1: not a JSON array"),
    "an array without its end": (json.dumps(OBJECTS, indent=0)[:-1], "not a JSON array"),
    "an array of numbers": ("[1, 2]", "an item of the JSON array is not an object, but int"),
    "a deep array": ("[" + "[" * 100_000, "nested too deeply"),
    "one object": (json.dumps({"loss": {"0": 2.5}}, indent=1), "one JSON object (with loss), not the rows of a table"),
    "a result": (json.dumps({"results": {}, "n": {}}), "ladder export FILE --source lm-eval"),
    "a long number": ('{"a": ' + "1" * 5000 + "}", "not a JSON object"),
}


def written(tmp_path, content, name="table.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", READ)
def test_the_same_table_of_every_kind(tmp_path, name):
    cells = reader.read(written(tmp_path, READ[name]))
    assert cells.header == ["run", "params", "loss"]
    columns = [
        reader.numbers(n, cells.columns[i], cells.places, required=True) for i, n in ((1, "params"), (2, "loss"))
    ]
    assert list(zip(cells.columns[0], *columns, strict=True)) == ROWS


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_is_instead(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(InputError) as error:
        reader.read(written(tmp_path, content))
    assert message in str(error.value) and "table.txt" in str(error.value) and "\n" not in str(error.value)


def test_a_gz_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 10_000)
    path = written(tmp_path, gzip.compress(COMMAS.encode() + b"\n" * 20_000))
    with pytest.raises(InputError, match="unpacks to more than 10,000 bytes, the most that is read"):
        reader.read(path)


def test_places_in_a_json_array_are_lines(tmp_path):
    path = written(tmp_path, json.dumps(OBJECTS, indent=2))
    assert reader.read(path).places == [f"{path}:{line}" for line in (2, 7, 12)]


def test_a_heading_of_two_lines_is_one(tmp_path):
    assert reader.read(written(tmp_path, 'params,"val\nloss"\n1,2\n')).header == ["params", "val loss"]


def test_a_column_named_like_a_parquet_file(tmp_path):
    assert reader.read(written(tmp_path, "PAR1,loss\n1,2\n")).header == ["PAR1", "loss"]


@pytest.mark.parametrize("word", ["", "N/A", "nan", "#N/A", "null", "-"])
def test_a_cell_without_a_value(word):
    assert np.isnan(reader.numbers("stderr", ["0.5", word], ["t:2", "t:3"], required=False)).tolist() == [False, True]
    with pytest.raises(InputError, match=r"^t:3: loss is (empty$|'.*; drop the row$)"):
        reader.numbers("loss", ["0.5", word], ["t:2", "t:3"], required=True)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), st.floats(0.1, 1e9)
        ),
        min_size=2,
        max_size=5,
    ),
    st.sampled_from(";\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_numbers_with_decimal_commas_are_read_back_or_refused(tmp_path_factory, rows, separator, encoding):
    text = io.StringIO()
    numbers = [str(value).replace(".", ",") for _, value in rows]
    names = [f"run {name}" for name, _ in rows]
    csv.writer(text, delimiter=separator).writerows([("run", "loss"), *zip(names, numbers, strict=True)])
    path = written(tmp_path_factory.mktemp("commas"), text.getvalue().encode(encoding))
    try:
        cells = reader.read(path)
    except InputError as error:
        assert "is the comma a decimal comma" in str(error)
    else:
        assert list(cells.columns[0]) == names
        assert reader.numbers("loss", cells.columns[1], cells.places, required=True).tolist() == [v for _, v in rows]


@pytest.mark.parametrize("name", ["semicolon-decimal-comma.csv", "tab.tsv", "utf16.csv", "trailing-columns.csv"])
def test_the_spreadsheets_of_a_stranger(name):
    if not CASES.exists():
        pytest.skip("../shared/cases is not beside the repository")
    cells = reader.read(CASES / name)
    assert cells.header == ["params", "tokens", "loss"] and len(cells.places) == 39
    assert [column[0] for column in cells.columns] == ["73824672", "3154403320", "3.405928"]
