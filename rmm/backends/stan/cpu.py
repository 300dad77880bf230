"""For which processors an executable is made, and whether it can run on this one.

Compilers make executables for every processor of an architecture (``x86_64``), unless they are
told to use all that the present one can do (``-march=native``). Such an executable dies of an
illegal instruction on an older node of the same cluster, so it is kept under the name of its kind
of processor (``x86_64.3f2a9c01``: the architecture and a hash of the instructions it knows).
"""

from __future__ import annotations

import functools
import hashlib
import platform
import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# GCC and Clang; Intel.
_TIED = re.compile(r"-m(?:arch|cpu|tune)=native\b|-xHost\b")


def architecture() -> str:
    """Such as ``x86_64`` or ``aarch64``."""
    return platform.machine().replace("-", "_") or "unknown"


@functools.cache
def this_kind() -> str:
    """The architecture and a hash of the instructions that the present processor knows."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = f"flags : {platform.processor()}"
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    known = " ".join(sorted(found[1].split())) if found else platform.processor()
    return f"{architecture()}.{hashlib.sha256(known.encode()).hexdigest()[:8]}"


def made_for(*flags: str) -> str:
    """For which processors a compiler makes executables that is given these flags."""
    return this_kind() if any(_TIED.search(text) for text in flags) else architecture()


def runs_here(processor: str) -> bool:
    """Whether executables made for `processor`, as `made_for` gives it, run on the present one."""
    return processor in (architecture(), this_kind())
