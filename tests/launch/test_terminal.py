"""What the terminal shows: tables that fit, whatever its width."""

from contextlib import contextmanager

import pytest
from rich.console import Console

from launch import terminal

ROWS = (("190M-1xC", "190.4M", "3.807B", "failed: the disk of this machine is full"), ("1B", "1.279B", "25.59B", ""))


def shown(width: int, **options) -> str:
    table = terminal.Table(title="runs", **options)
    for name in ("rung", "N", "D", "detail"):
        table.add_column(name, no_wrap=name != "detail")
    for row in ROWS:
        table.add_row(*row)
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize(
    "width, drop, absent",
    [(160, (), []), (60, (), []), (36, (), ["detail"]), (36, ("N",), ["N"]), (27, ("N",), ["N", "detail"])]
    + [(20, (), ["N", "D", "detail"]), (5, (), ["N", "D", "detail"])],
)
def test_a_table_leaves_out_whole_columns_in_its_order_and_names_them(width, drop, absent):
    text = shown(width, drop=drop)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    headings = lines[2].strip("┃").split("┃") if width > 5 else ["rung"]
    assert [name.strip() for name in headings] == [n for n in ("rung", "N", "D", "detail") if n not in absent]
    if width > 5:
        assert ("190.4M" in text, "3.807B" in text) == ("N" not in absent, "D" not in absent)
        said = " ".join(text.split())
        assert (f"no room for: {', '.join(absent)};" in said) == bool(absent)


def test_what_is_waited_for_is_shown_while_it_is_computed(monkeypatch):
    log = []

    @contextmanager
    def working(description):
        log.append(f"begin {description}")
        yield
        log.append("end")

    def squares():
        for i in range(2):
            log.append("compute")
            yield i * i

    monkeypatch.setattr(terminal, "working", working)
    for item in terminal.waited(squares(), "squares"):
        log.append(item)
    one = ["begin squares", "compute", "end"]
    assert log == [*one, 0, *one, 1, "begin squares", "end"]
