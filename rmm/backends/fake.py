"""A backend for tests of studies: instant draws, and mishaps on demand.

Draws depend on the content of the data, the seed, the chain and the variable's name, on nothing
else. The environment variable ``RMM_FAKE_BACKEND`` makes fits go wrong, by the mishaps of
`MISHAPS`, each alone or with the share of fits to be hit, as in ``crash:0.3`` (which fits are hit
follows from data and seed). Several are joined by commas. ``RMM_FAKE_SECONDS`` is what a fit takes,
and ``RMM_FAKE_JOURNAL`` a file that gets a line for each fit that ended well.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from rmm.backends.base import Array, Availability, ProgressListener, Run, Settings, accept_all
from rmm.backends.child_processes import ending, run_group
from rmm.backends.jags.backend import BACKEND as JAGS
from rmm.errors import BackendError, BackendTimeout, unknown_name

SWITCH = "RMM_FAKE_BACKEND"
SECONDS = "RMM_FAKE_SECONDS"
JOURNAL = "RMM_FAKE_JOURNAL"
#: `segfault` and `memory` happen in a child process, to what is one for real engines; `nan` and
#: `shape` are draws that are no numbers, and of another shape than the program's.
MISHAPS = ("crash", "segfault", "memory", "hang", "nan", "shape")
_CHILDREN = {
    "segfault": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "memory": "import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 28,) * 2); bytearray(1 << 29)",
}
_POSITIVE = ("sigma", "shape", "tau")
_PROBABILITIES = ("zi", "hu")


def run(
    program: str,
    data: Mapping[str, Any],
    inits: Sequence[Mapping[str, Any]],
    settings: Settings,
    progress: ProgressListener | None = None,
) -> Run:
    """Draw normal numbers around a value that hangs on the data.

    Each monitored variable takes its length from the program's text; names that begin with
    sigma, shape or tau are positive.

    Raises
    ------
    BackendError, BackendTimeout
        When ``RMM_FAKE_BACKEND`` asks for them.
    """
    began = time.perf_counter()
    content = _digest(data)
    hit = _mishaps(f"{content}/{settings.seed}")
    if "crash" in hit:
        raise BackendError("The fake engine crashed, because RMM_FAKE_BACKEND is set.")
    for kind in hit & set(_CHILDREN):
        _end_in_a_child(kind)
    if "hang" in hit:
        _hang(settings.timeout)
    time.sleep(float(os.environ.get(SECONDS, "0")))
    draws = {
        name: _draws(name, _dims(name, program, data), content, settings)
        for name in settings.monitor
    }
    first = next(iter(draws))
    if "nan" in hit:
        draws[first][-1, -1] = np.nan
    if "shape" in hit:
        draws[first] = np.stack([draws[first]] * 2, axis=-1)
    total = settings.chains * (settings.warmup + settings.draws * settings.thin)
    if progress is not None:
        progress(total, total)
    shape = (settings.chains, settings.draws)
    _note(f"{content[:16]} {settings.seed}\n")
    return Run(
        draws=draws,
        sample_stats={"diverging": np.zeros(shape, dtype=bool)},
        seconds=time.perf_counter() - began,
        engine={"name": "fake", "version": "1", "messages": []},
    )


def _digest(data: Mapping[str, Any]) -> str:
    """Content of the data, whatever the order of the names."""
    total = hashlib.sha256()
    for name in sorted(data):
        array = np.ascontiguousarray(np.asarray(data[name], dtype=np.float64))
        total.update(f"{name}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _generator(*parts: Any) -> np.random.Generator:
    key = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "big")))


def _draws(
    name: str,
    dims: tuple[int, ...],
    content: str,
    settings: Settings,
) -> Array:
    centre = _generator(content, name).normal(size=dims)
    chains = [
        centre
        + 0.1 * _generator(content, settings.seed, chain, name).normal(size=(settings.draws, *dims))
        for chain in range(settings.chains)
    ]
    draws: Array = np.stack(chains)
    if name.startswith("cor_l1"):  # those of some matrix
        return np.asarray(0.3 * np.tanh(draws))
    if name in _PROBABILITIES or name.startswith("rho_l1"):
        return np.asarray(expit(draws))
    return np.exp(draws) if name.startswith(_POSITIVE) else draws


def _dims(name: str, program: str, data: Mapping[str, Any]) -> tuple[int, ...]:
    """Shape of an array as the program's text defines it: ``()`` for a scalar.

    It reads ``NAME[3] ~``, ``for (k in 1:SIZE) { NAME[k + 1] <-`` and
    ``for (i in 1:SIZE) { for (k in 1:SIZE) { NAME[i, k] ~``, all that the programs of
    `rmm.backends.jags.program` need.
    """
    own = re.escape(name)
    matrix = rf"for \(i in 1:(\w+)\) \{{ for \(k in 1:(\w+)\) \{{ {own}\[i, k\] (?:~|<-)"
    for sizes in re.findall(matrix, program):
        return tuple(int(data[size]) for size in sizes)
    lengths = [int(k) for k in re.findall(rf"^\s*{own}\[(\d+)\] (?:~|<-)", program, re.MULTILINE)]
    loop = rf"for \((\w+) in 1:(\w+)\) \{{ {own}\[\1(?: \+ (\d+))?\] (?:~|<-)"
    for _, size, shift in re.findall(loop, program):
        lengths.append(int(data.get(size, size)) + int(shift or 0))
    return (max(lengths),) if lengths else ()


def _note(line: str) -> None:
    if os.environ.get(JOURNAL):
        with open(os.environ[JOURNAL], "a", encoding="utf-8") as file:
            file.write(line)


def _mishaps(address: str) -> set[str]:
    """The mishaps that hit this fit."""
    hit = set()
    for entry in filter(None, os.environ.get(SWITCH, "").split(",")):
        kind, _, share = entry.strip().partition(":")
        if kind not in MISHAPS:
            raise BackendError(
                unknown_name(kind, f"a value of {SWITCH}", MISHAPS)
                + " A probability can follow, as in crash:0.3."
            )
        if _generator(address, kind).uniform() < float(share or 1):
            hit.add(kind)
    return hit


def _end_in_a_child(kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        code, said = run_group([sys.executable, "-I", "-S", "-c", _CHILDREN[kind]], Path(folder))
    last = said.strip().splitlines()[-1:]
    raise BackendError(
        f"The process of the fake engine ended ({ending(code)}){': ' * bool(last)}{''.join(last)}, "
        "because RMM_FAKE_BACKEND is set."
    )


def _hang(timeout: float | None) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    while deadline is None or time.monotonic() < deadline:
        time.sleep(0.01)
    raise BackendTimeout(
        f"The fake engine hung for {timeout:g} s, because RMM_FAKE_BACKEND is set."
    )


def available() -> Availability:
    """It always runs."""
    return Availability(True, "fake backend (for tests: its draws mean nothing)")


# Its programs are those of JAGS, from which it reads the shapes of draws; it tells of divergent
# transitions, as Stan does.
BACKEND = replace(
    JAGS,
    name="fake",
    run=run,
    available=available,
    options=(),
    check_values=accept_all,
    hamiltonian=True,
)
