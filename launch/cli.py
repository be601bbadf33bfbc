"""The `ladder` command: the list of verbs and the exit codes. A verb (launch/verbs) reads its flags, calls the module
that does the work, and shows the result."""

import os
import sys

import tyro

from fitting.errors import InputError as FitInputError
from ladder.errors import Diverged, InputError, Preempted
from launch.backends import Busy
from launch.foreground import Failed
from launch.verbs import checking, ladders, laws, material, running, scaling

VERBS = {
    "demo": material.demo,
    "data": material.data,
    "plan": running.plan,
    "check": checking.check,
    "train": running.train,
    "eval": running.evaluate,
    "conclude": running.conclude,
    "submit": ladders.submit,
    "watch": ladders.watch,
    "cancel": ladders.cancel,
    "status": ladders.status,
    "logs": ladders.logs,
    "verify": ladders.verify,
    "fit": scaling.fit,
    "allocate": scaling.allocate,
    "extrapolate": scaling.extrapolate,
    "predict": laws.predict,
    "backtest": laws.backtest,
    "compare": laws.compare,
    "design": laws.design,
    "study": laws.study,
    "report": laws.report,
    "export": laws.export,
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


if __name__ == "__main__":
    sys.exit(main())
