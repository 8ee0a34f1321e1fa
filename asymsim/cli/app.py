"""The application: all commands, exit codes, and every mistake in one line on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import cyclopts
from cyclopts import App

from asymsim.cli.calibrate import calibrate
from asymsim.cli.compare import compare
from asymsim.cli.estimate import estimate
from asymsim.cli.list import listing
from asymsim.cli.plan import plan
from asymsim.cli.reproduce import reproduce
from asymsim.cli.savings import savings
from asymsim.cli.serve_sim import serve_sim
from asymsim.cli.sweep import sweep
from asymsim.cli.terminal import say
from asymsim.cli.usage_errors import explain
from asymsim.cli.validate import checks
from asymsim.util.errors import AsymsimError
from asymsim.util.version import __version__

app = App(
    name="asymsim",
    version=__version__,
    help="Cost of vision-language-model inference, and the savings of any token-pruning schedule.",
)
for command in (estimate, compare, savings, serve_sim, plan, sweep, reproduce, calibrate, listing, checks):
    app.command(command)


def run(argv: Sequence[str]) -> int:
    """Run one command line.

    Returns
    -------
    int
        The exit code: 0; 1 if a validation fails; 2 for a mistake of the user, told in one line on stderr; 130 if
        interrupted; 141 if the reader of stdout has gone, as shells report it.
    """
    try:
        command, bound, _ = app.parse_args(list(argv), exit_on_error=False, print_error=False)
        code = command(*bound.args, **bound.kwargs)
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        return _refuse(explain(error))
    except AsymsimError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except OSError as error:
        return _refuse(f"stdout: cannot be written ({error.strerror or error})")
    return code or 0


def _refuse(message: str) -> int:
    say("error: " + " ".join(message.split()))
    return 2


def main() -> None:
    """Entry point of the console script."""
    code = run(sys.argv[1:])
    if code in (2, 141):
        # The interpreter would write the rest again when it ends, and complain.
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
