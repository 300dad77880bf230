"""Child processes that never outlive what they were started for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its own group, and all it started; returns when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def start_group(
    command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command as the leader of a process group; its output goes to one pipe.

    A group of its own: Ctrl-C on a terminal reaches the parent alone, which then ends it.
    """
    return subprocess.Popen(
        list(command),
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish_group(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for the end; any exception, KeyboardInterrupt included, ends the group first.

    Returns
    -------
    tuple of int, str
        Exit status, and standard output and error together.
    """
    try:
        output, _ = process.communicate()
    except BaseException:
        end_group(process)
        raise
    return process.returncode, output.decode(errors="replace")


def run_group(command: Sequence[str], cwd: Path) -> tuple[int, str]:
    """`start_group` and `finish_group`."""
    return finish_group(start_group(command, cwd))


def ending(status: int) -> str:
    """An exit status in words: ``exit status 64``, ``killed by SIGSEGV``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
