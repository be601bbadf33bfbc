"""The state of a run before its first step: random weights, or those of a published model (Rung.init_from)."""

import jax

from ladder.config import Rung
from ladder.convert import pretrained
from ladder.errors import InputError
from ladder.loop.step import Program
from ladder.parallel import processes


def initial_state(rung: Rung, program: Program) -> dict:
    """The optimizer is new in both cases. Raises InputError where the published model is not the one of the config."""
    if rung.init_from is None:
        return program.init()
    processes.together(lambda: _check_unchanged(rung), (InputError,))
    published = pretrained.open_model(rung.init_from)
    pretrained.check_shape(published.model, rung)
    return program.start(published.params(program.shardings["params"], rung.model.param_dtype))


def _check_unchanged(rung: Rung) -> None:
    """Process 0 reads the files once more, for all."""
    if jax.process_index() == 0 and (now := pretrained.content_hash(rung.init_from)) != rung.init_hash:
        reason = f"its weights have the hash {now}, this run starts from {rung.init_hash}"
        raise InputError(f"{rung.init_from}: {reason}; restore the files, or write the run anew: ladder train NAME")
