"""`rmm completion`: a script that has the shell complete commands, flags and file names."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from rmm.cli.common import command

SHELLS = ("bash", "zsh", "tcsh")
EXAMPLES = """\
examples:
  rmm completion bash > ~/.local/share/bash-completion/completions/rmm
  rmm completion zsh > ~/.zsh/completions/_rmm
  rmm completion tcsh > ~/.rmm.tcsh      # then add to ~/.tcshrc: source ~/.rmm.tcsh
Then open a new terminal. For zsh, the folder ~/.zsh/completions must be listed in the shell
variable `fpath`. The script contains a list of the commands and options of this version: after an
update of rmm, run this command again.
"""


def add_completion(commands: Any, top: argparse.ArgumentParser) -> None:
    """Declare `rmm completion`; `top` is the parser of all commands."""
    completion = command(
        commands,
        "completion",
        "print a script for your shell, so that you can press Tab to complete rmm commands",
        EXAMPLES,
        partial(run_completion, top),
    )
    completion.add_argument("shell", choices=SHELLS, help="name of your shell")


def run_completion(top: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """`rmm completion`: print the script."""
    # Late: `rmm --help` needs no libraries.
    import shtab

    _complete_files(top, shtab.FILE)
    print(shtab.complete(top, shell=options.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, files: Any) -> None:
    """Let arguments that are files be completed as files, at any depth."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in set(action.choices.values()):
                _complete_files(below, files)
        elif action.metavar in ("FILE", "PATH", "TABLE", "FOLDER", "DATA"):
            action.complete = files  # type: ignore[attr-defined]
