"""tools/forecast_text.py: manual pages lose their layout codes; short, repeated and binary files are left out."""

import gzip
import json
from pathlib import Path

from tools import forecast_text

PAGE = r""".TH LS 1 "January 2026"
.\" a comment
.SH NAME
ls \- list directory contents
.SH SYNOPSIS
.B ls
[\fI\,OPTION\/\fR]...
.PP
Don\(aqt sort; see
.BR dir (1),
or \(dqls\e\(dq.
"""


def test_a_manual_page_keeps_its_words():
    assert forecast_text.without_roff(PAGE) == (
        'NAME\nls - list directory contents\nSYNOPSIS\nls\n[OPTION]...\nDon\'t sort; see\ndir (1),\nor "ls\\".\n'
    )


def test_long_texts_are_written_once(tmp_path, monkeypatch, capsys):
    texts = ["a" * 600, "short", "b" * 500, "a" * 600]
    monkeypatch.setitem(forecast_text.KINDS, "prose", lambda: iter(texts))
    monkeypatch.setattr("sys.argv", ["forecast_text.py", "prose", str(tmp_path / "out.jsonl")])
    assert forecast_text.main() == 0
    written = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == ["a" * 600, "b" * 500]
    assert "2 documents, 0 MB" in capsys.readouterr().out


def test_pages_of_one_template_are_few(monkeypatch):
    monkeypatch.setattr(forecast_text, "MOST", 2)
    paths = [Path("man3") / name for name in ("SSL_new.3", "SSL_free.3", "SSL_read.3", "printf.3")]
    assert [path.name for path in forecast_text._few(paths)] == ["SSL_new.3", "SSL_free.3", "printf.3"]


def test_what_is_no_text_is_left_out(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"packed"))
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    assert [forecast_text._read(tmp_path / name) for name in ("a.gz", "b", "none")] == ["packed", "", ""]
