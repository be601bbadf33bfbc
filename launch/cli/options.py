"""Flags that several verbs share."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

RUNS, CORPORA = "runs", "corpora"

Name = Annotated[
    Positional[str], arg(metavar="NAME", help="a built-in ladder (demo, olmo2, kaplan ...) or path/to/file.py:function")
]
Overrides = Annotated[
    Positional[tuple[str, ...]],
    arg(metavar="[KEY=VALUE ...]", help="for every run, for example optimizer.peak_lr=1e-3", help_behavior_hint=""),
]
Table = Annotated[Positional[str], arg(metavar="TABLE", help="a runs table (.csv, .csv.gz, .jsonl) or runs/NAME")]
Targets = Annotated[tuple[str, ...], arg(metavar="NAME=N,D ...")]
Json = Annotated[Path | None, arg(metavar="FILE", help="write the result as JSON", help_behavior_hint="")]
Root = Annotated[str, arg(metavar="DIR", help="where run directories are: a folder, or gs://...")]
Corpora = Annotated[str, arg(metavar="DIR", help="where corpora are kept: a folder, or gs://...")]
Out = Annotated[Path, arg(metavar="FILE", aliases=["-o"], help="the file to write")]
