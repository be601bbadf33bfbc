"""The `ladder` command: the list of verbs and the exit codes. A verb (*_verbs.py) reads its flags, calls the module
that does the work, and shows the result."""

import os
import sys

import tyro

from fitting.errors import InputError as FitInputError
from ladder.errors import Diverged, InputError, Preempted
from launch.backends.protocol import Busy
from launch.cli import check_verbs, data_verbs, ladder_verbs, loss_law_verbs, run_verbs, task_law_verbs
from launch.scheduler.foreground import Failed

VERBS = {
    "demo": data_verbs.demo,
    "data": data_verbs.data,
    "plan": run_verbs.plan,
    "check": check_verbs.check,
    "train": run_verbs.train,
    "eval": run_verbs.evaluate,
    "conclude": run_verbs.conclude,
    "submit": ladder_verbs.submit,
    "watch": ladder_verbs.watch,
    "cancel": ladder_verbs.cancel,
    "status": ladder_verbs.status,
    "logs": ladder_verbs.logs,
    "verify": ladder_verbs.verify,
    "fit": loss_law_verbs.fit,
    "allocate": loss_law_verbs.allocate,
    "extrapolate": loss_law_verbs.extrapolate,
    "predict": task_law_verbs.predict,
    "backtest": task_law_verbs.backtest,
    "compare": task_law_verbs.compare,
    "design": task_law_verbs.design,
    "study": task_law_verbs.study,
    "report": task_law_verbs.report,
    "export": task_law_verbs.export,
}
DESCRIPTION = "Know what your large model will score before you train it."


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; the result is the exit code (DESIGN, Exit codes)."""
    try:
        return tyro.extras.subcommand_cli_from_dict(VERBS, prog="ladder", description=DESCRIPTION, args=arguments) or 0
    except (InputError, FitInputError) as error:
        return _ended(f"error: {error}", 2)
    except Preempted as error:
        return _ended(f"stopped: {error}", 75)
    except Diverged as error:
        return _ended(f"diverged: {error}", 78)
    except Failed as error:
        return _ended(f"error: {error}", error.code)
    except Busy as error:
        return _ended(f"not now: {error}", 75)
    except KeyboardInterrupt:
        return _ended("stopped", 130)
    except BrokenPipeError:  # `ladder ... | head` has read enough; the interpreter must not flush what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _ended(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
