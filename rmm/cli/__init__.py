"""The command line: `rmm doctor`, `rmm look`, `rmm fit`, `rmm simulate`, `rmm study ...`.

Exit codes are those of `_EXAMPLES`; bad input gets a message of a few lines on stderr and no
traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from rmm._version import __version__
from rmm.cli import completion, engine, look_command, study
from rmm.cli.common import in_options
from rmm.errors import RmmError

_EXAMPLES = """\
examples:
  rmm doctor
  rmm look coalitions.csv --id party,government
  rmm fit coalitions.csv "y ~ 1 + majority + mm(id(party, government), vars(finance), RE=TRUE)"
  rmm study check config/studies/quickstart.yaml
`rmm COMMAND --help` lists the options of a command, with examples.

exit codes:
  0    success
  1    the command finished and found a problem: a fit that has not converged (rmm fit), an engine
       that does not work (rmm doctor), criteria that are not met (rmm study judge), results that
       do not match (rmm study check --against, rmm study replay), failed jobs (rmm study run)
  2    invalid input, with a short message
  130  interrupted with Ctrl-C
Tables are for reading. For programs, --json prints the same numbers.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given, more = _split(list(sys.argv[1:] if arguments is None else arguments))
    options = parser().parse_args(given)
    if more:
        options.snakemake = more
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_warn, options)
            code = int(options.run(options))
            sys.stdout.flush()
            return code
    except RmmError as error:
        print(f"rmm: {_in_options(error, options)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read us has enough (`rmm ... | head`); nothing is left to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        print(f"rmm: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rmm: interrupted", file=sys.stderr)
        return 130


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments of `rmm study run`, and from after ``--`` those of Snakemake."""
    if arguments[:2] != ["study", "run"] or "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _warn(
    options: argparse.Namespace,
    message: Warning | str,
    category: type[Warning],
    *place: Any,
    **more: Any,
) -> None:
    """A warning as one paragraph, without the place in the source that raised it."""
    print(f"rmm: warning: {_in_options(message, options)}", file=sys.stderr)


def _in_options(message: object, options: argparse.Namespace) -> str:
    return in_options(str(message), options, getattr(options, "arguments", ()))


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="rmm",
        description="Multiple-membership multilevel models with estimated weights.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"rmm {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        engine.add_doctor,
        look_command.add_look,
        engine.add_fit,
        study.add_simulate,
        study.add_study,
    ):
        add(commands)
    completion.add_completion(commands, top)
    return top
