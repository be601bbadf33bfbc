"""`ladder new`: a ladder file for a target and a budget."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from configs.olmo2 import TASKS
from ladder.errors import InputError
from launch import terminal

RULES_FROM = 50e6  # parameters
Tasks = Annotated[tuple[str, ...], arg(metavar="TASK ...", help_behavior_hint="(default: the eight of OLMES)")]


def new(
    file: Annotated[Positional[Path], arg(metavar="FILE.py", help="the file to write")],
    /,
    *,
    target: Annotated[str, arg(metavar="N,D")],
    budget: Annotated[str, arg(metavar="SHARE%|FLOPS")] = "1%",
    data: Annotated[tuple[str, ...], arg(metavar="PATH ...")] = ("data/text",),
    tokenizer: Annotated[str, arg(metavar="bytes|bpe:SIZE|FILE")] = "data/tokenizer.json",
    tasks: Tasks = TASKS,
    seq_len: Annotated[int, arg(metavar="TOKENS")] = 4096,
) -> None:
    """Write a ladder for a target: the sizes and multiples whose forecast is surest for the budget.

    Example: ladder new my.py --target 7B,4T --budget 1% --data data/web --tokenizer data/tokenizer.json

    Args:
        target: parameters and tokens of the model to be predicted
        budget: what all rungs may cost: a share of the target's training FLOPs, or FLOPs
        data: text: files, folders, "python", tfds:NAME
        tokenizer: of the text; bpe:SIZE is trained on it
        tasks: what to score; none: only the held-out text
        seq_len: context length
    """
    from fitting.tables.points import parse_target
    from launch.ladder_file.write import Request, write

    parsed = parse_target(target)
    if parsed.C is not None:
        raise InputError("the FLOPs of the target follow from its shape; write N,D", "target")
    if seq_len < 8:
        raise InputError(f"{seq_len}: must be at least 8", "seq_len")
    chosen = () if tasks == ("none",) else tasks
    request = Request(parsed.name, parsed.N, round(parsed.D), budget, data, tokenizer, chosen, seq_len)
    choice = write(file, request, shlex.join(["ladder", *sys.argv[1:]]))
    runs = len(choice.widths) * len(choice.multiples)
    console, noise = terminal.console(), f"{choice.half_width:.1%}"
    console.print(f"{file}: {runs} runs, {choice.flops:.3g} FLOPs in all")
    console.print(f"the noise of these runs alone makes the forecast of the loss uncertain by {noise} (80 %)")
    if choice.smallest < RULES_FROM:
        console.print(
            "the rules for batch and rate were made for 190M parameters and more: try some rates on the smallest"
        )
        console.print(
            f"  size first, for example: ladder train {file}:ladder --rung NAME --vmap peak_lr=1e-3,3e-3,1e-2"
        )
    console.print(f"next: ladder plan {file}:ladder")
