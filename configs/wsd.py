"""A trunk (one long run at a constant learning rate) and branches (short decays) instead of a full run per multiple."""

from collections.abc import Sequence
from dataclasses import replace

from ladder.config import Rung
from ladder.errors import InputError
from ladder.sizes import n_params, train_tokens


def trunk_and_branches(full: Rung, multiples: Sequence[float]) -> tuple[Rung, ...]:
    """The trunk of a size and, for every multiple, the branch that decays from it.

    full: a rung of kind full with schedule wsd; its multiple and tokens are not used. A branch is the last part of a
    full WSD run of the same length (Hu et al. 2024): it starts `decay_steps` before the end. The trunk trains up to the
    last start and keeps a checkpoint at every start. Raises InputError where a decay would start during warm-up.
    """
    if not multiples:
        raise InputError(f"rung {full.label}: branches need at least one multiple")
    n = n_params(full.model)
    runs = [replace(full, multiple=x, tokens=train_tokens(n, x)) for x in sorted(multiples)]
    starts = [run.steps - run.decay_steps for run in runs]
    if starts[0] < full.warmup_steps:
        raise InputError(
            f"rung {runs[0].label}: its decay starts at step {starts[0]}, before the {full.warmup_steps} warm-up steps "
            "end; set a larger multiple, fewer optimizer.warmup_tokens or a smaller batch_tokens"
        )
    trunk = replace(full, multiple=None, kind="trunk", **trunk_length(starts, full.batch_tokens))
    return (
        trunk,
        *(
            replace(run, kind="branch", parent=trunk.identity, parent_step=start)
            for run, start in zip(runs, starts, strict=True)
        ),
    )


def trunk_length(starts: Sequence[int], batch_tokens: int) -> dict:
    """tokens and save_at of a trunk whose branches start at these steps."""
    return {"tokens": max(starts) * batch_tokens, "save_at": tuple(sorted(set(starts)))}
