"""`load` a ladder by name; `overridden` applies overrides from the command line to it."""

import importlib.util
import sys
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from traceback import extract_tb

from configs import demo, forecast, kaplan, olmo2
from configs.studies import batch, branches, noise, scaling, shape
from configs.wsd import trunk_length
from ladder.config import Ladder, Rung
from ladder.errors import InputError
from ladder.overrides import override
from ladder.sizes import n_params, train_tokens

BUILT_IN = {
    "demo": demo.demo,
    "demo-quick": demo.demo_quick,
    "demo-full": demo.demo_full,
    "forecast": forecast.forecast,
    "kaplan": kaplan.kaplan,
    "olmo2": olmo2.olmo2,
    "olmo2-all": olmo2.olmo2_all,
    "study-shape": shape.shape,
    "study-shape-tpu": shape.shape_tpu,
    "study-scaling": scaling.scaling,
    "study-scaling-tpu": scaling.scaling_tpu,
    "study-batch": batch.batch,
    "study-batch-tpu": batch.batch_tpu,
    "study-branches": branches.branches,
    "study-branches-tpu": branches.branches_tpu,
    "study-noise": noise.noise,
    "study-noise-tpu": noise.noise_tpu,
}


def load(name: str) -> Ladder:
    """A built-in ladder, or what "path/to/file.py:function" returns.

    Raises InputError where there is no such ladder, file or function, or the user's code fails.
    """
    file, colon, function = name.rpartition(":")
    if colon and file.endswith(".py"):
        return _from_file(Path(file), function)
    if name not in BUILT_IN:
        near = get_close_matches(name, BUILT_IN, n=1, cutoff=0.0)[0]
        raise InputError(
            f"no ladder {name!r}; did you mean {near!r}? Write one of {', '.join(BUILT_IN)}, or "
            "path/to/file.py:function"
        )
    return BUILT_IN[name]()


def overridden(ladder: Ladder, assignments: tuple[str, ...]) -> Ladder:
    """The ladder with "dotted.path=value" applied to every rung and target.

    Derived values are derived again: the tokens of a multiple, the step at which a branch starts, a trunk's length.
    """
    if not assignments:
        return ladder
    new = {rung: _override_rung(rung, assignments) for rung in ladder.all}

    def change(rung: Rung) -> Rung:
        branches = [r for r in ladder.all if r.parent == rung.identity]
        if branches and trunk_length([b.parent_step for b in branches], rung.batch_tokens) == {
            "tokens": rung.tokens,
            "save_at": rung.save_at,
        }:
            starts = [new[b].parent_step for b in branches]
            return replace(new[rung], **trunk_length(starts, new[rung].batch_tokens))
        return new[rung]

    return ladder.map(change)


def _override_rung(old: Rung, assignments: tuple[str, ...]) -> Rung:
    # A branch that starts where its decay starts is overridden as a full run, and its start is derived again.
    derived = old.parent_step is not None and old.parent_step == old.steps - old.decay_steps
    new = override(replace(old, kind="full", parent=None, parent_step=None) if derived else old, *assignments)
    if old.multiple is not None and new.tokens == old.tokens == train_tokens(n_params(old.model), old.multiple):
        new = replace(new, tokens=train_tokens(n_params(new.model), new.multiple))
    if derived:
        new = replace(new, kind="branch", parent=old.parent, parent_step=new.steps - new.decay_steps)
    return new


def _from_file(path: Path, function: str) -> Ladder:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    name = f"_user_config_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass in the file looks up its module here
    _call(path, lambda: spec.loader.exec_module(module))
    functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    if function not in functions:
        near = get_close_matches(function, functions, n=1, cutoff=0.0)
        raise InputError(f"{path}: has no function {function!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    ladder = _call(path, getattr(module, function))
    if not isinstance(ladder, Ladder):
        raise InputError(f"{path}: {function}() returned {type(ladder).__name__}, not a ladder.config.Ladder")
    return ladder


def _call(path: Path, function):
    """Run the user's code; an exception becomes an InputError with the last line of his file in the traceback."""
    try:
        return function()
    except SyntaxError as error:
        raise InputError(f"{error.filename or path}:{error.lineno or 1}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in extract_tb(error.__traceback__) if Path(f.filename) == path]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        message = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        if isinstance(error, SystemExit):
            message = f"it ends the program (sys.exit({error.code!r})); a ladder file must only return a ladder"
        raise InputError(f"{where}: {' '.join(message.split())}") from None
