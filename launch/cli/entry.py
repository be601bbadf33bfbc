"""The `ladder` command: list of verbs and exit codes. Each verb is a function in launch/cli/verbs."""

import os
import sys

import tyro

from fitting.errors import InputError as FitInputError
from fitting.files import OF_THE_MACHINE
from ladder.errors import Diverged, InputError, Preempted
from launch.backends.protocol import Busy
from launch.cli.arguments import checked
from launch.cli.verbs import (
    allocation,
    bench,
    check,
    data,
    export,
    ladder,
    loss_law,
    new,
    replay,
    run,
    study,
    task_law,
    tracking,
)
from launch.scheduler.foreground import Failed

VERBS = {
    "demo": data.demo,
    "data": data.data,
    "new": new.new,
    "plan": run.plan,
    "check": check.check,
    "doctor": check.doctor,
    "train": run.train,
    "replay": replay.replay,
    "eval": run.evaluate,
    "conclude": run.conclude,
    "submit": ladder.submit,
    "watch": ladder.watch,
    "cancel": ladder.cancel,
    "status": ladder.status,
    "track": tracking.track,
    "logs": ladder.logs,
    "verify": ladder.verify,
    "fit": loss_law.fit,
    "allocate": allocation.allocate,
    "extrapolate": loss_law.extrapolate,
    "predict": task_law.predict,
    "backtest": task_law.backtest,
    "compare": task_law.compare,
    "design": task_law.design,
    "study": study.study,
    "report": task_law.report,
    "bench": bench.bench,
    "export": export.export,
}
# Flags with another name than the library's argument.
FLAGS = {
    "huber_delta": "huber",
    "resamples": "bootstrap",
    "labels": "vary",
    "groups": "runs",
    "n_params": "n",
    "targets": "target",
}
OURS = ("ladder", "fitting", "configs", "launch", "tests")
QUICK_START = """\
ladder: know what your large model will score before you train it

  ladder demo                          train small models, predict a larger one
  ladder predict TABLE --target 7B,4T  predict from runs that you have
  ladder fit TABLE                     fit a scaling law of the loss
  ladder plan my/ladder.py:mine        what the runs of your own ladder cost
  ladder submit my/ladder.py:mine      train them, here or on a cluster
  ladder status my/ladder.py:mine      how far they are

  ladder --help lists all verbs; ladder VERB --help explains one by an example"""
DESCRIPTION = "Know what your large model will score before you train it."


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    for stream in ("stdout", "stderr"):  # None where the caller closed it, as some services do
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)
    try:
        if not (sys.argv[1:] if arguments is None else arguments):
            print(QUICK_START)
            return 0
        verbs = {name: checked(verb) for name, verb in VERBS.items()}
        return tyro.extras.subcommand_cli_from_dict(verbs, prog="ladder", description=DESCRIPTION, args=arguments) or 0
    except (InputError, FitInputError) as error:
        return _report(f"error: {error}{_flag(error)}", 2)
    except Preempted as error:
        return _report(f"stopped: {error}", 75)
    except Diverged as error:
        return _report(f"diverged: {error}", 78)
    except Failed as error:
        return _report(f"error: {error}", error.code)
    except Busy as error:
        return _report(f"not now, try again later: {error}", 75)
    except KeyboardInterrupt:
        return _report("stopped", 130)
    except BrokenPipeError:  # `ladder ... | head` closed the pipe; the interpreter must not flush the rest into it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, MemoryError, RecursionError, ModuleNotFoundError, UnicodeError) as error:
        return _report(*_of_the_system(error))


def _of_the_system(error: Exception) -> tuple[str, int]:
    """One line and the exit code for what no verb foresaw: a file, a disk, memory or a package. Raises bugs of ours."""
    match error:
        case OSError():
            where = "" if error.filename is None else f"{error.filename}: "
            of_the_machine = error.errno in OF_THE_MACHINE or isinstance(error, ConnectionError | TimeoutError)
            reason = f"{where}{error.strerror or ' '.join(str(error).split()) or type(error).__name__}"
            return (f"not now, try again later: {reason}", 75) if of_the_machine else (f"error: {reason}", 2)
        case MemoryError():
            return "not now, try again later: not enough memory for this; ask for less, or use a larger machine", 75
        case RecursionError():
            return "error: an input is nested too deeply to be read (JSON in JSON, hundreds of levels); flatten it", 2
        case ModuleNotFoundError() if (error.name or "ladder").partition(".")[0] not in OURS:
            return f"error: the package {error.name} is not installed; run: pip install {error.name}", 2
        case UnicodeError():
            return f"error: a file or a name is not UTF-8 text ({error}); convert it to UTF-8", 2
    raise error


def _flag(error: InputError | FitInputError) -> str:
    """ " (--flag)" of the argument that is wrong, where the library named one."""
    argument = getattr(error, "argument", None)
    return f" (--{FLAGS.get(argument, argument.lower().replace('_', '-'))})" if argument else ""


def _report(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
