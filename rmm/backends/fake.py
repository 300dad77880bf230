"""A backend for tests of studies: instant draws, and mishaps on demand.

Draws depend on the content of the data, the seed, the chain and the variable's name, on nothing
else. The environment variable ``RMM_FAKE_BACKEND`` makes fits go wrong: ``crash``, ``hang`` or
``nan``, each alone or with the share of fits to be hit, as in ``crash:0.3`` (which fits are hit
follows from data and seed). Several are joined by commas.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmm.backends.base import Array, Availability, Backend, ProgressListener, Run, Settings
from rmm.errors import BackendError, BackendTimeout

SWITCH = "RMM_FAKE_BACKEND"
MISHAPS = ("crash", "hang", "nan")
_POSITIVE = ("sigma", "shape", "tau")


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
        raise BackendError("The fake engine crashed, as RMM_FAKE_BACKEND asked for.")
    if "hang" in hit:
        _hang(settings.timeout)
    draws = {
        name: _draws(name, _dims(name, program, data), content, settings)
        for name in settings.monitor
    }
    if "nan" in hit:
        name = next(iter(draws))
        raise BackendError(f"The draws of {name!r} are not finite, as RMM_FAKE_BACKEND asked for.")
    total = settings.chains * (settings.warmup + settings.draws * settings.thin)
    if progress is not None:
        progress(total, total)
    shape = (settings.chains, settings.draws)
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
    return np.exp(draws) if name.startswith(_POSITIVE) else draws


def _dims(name: str, program: str, data: Mapping[str, Any]) -> tuple[int, ...]:
    """Shape of an array as the program's text defines it: ``()`` for a scalar.

    It reads ``NAME[3] ~``, ``for (k in 1:SIZE) { NAME[k + 1] <-`` and
    ``for (i in 1:SIZE) { for (k in 1:SIZE) { NAME[i, k] ~``, all that the programs of
    `rmm.programs.jags` need.
    """
    own = re.escape(name)
    matrix = rf"for \(i in 1:(\w+)\) \{{ for \(k in 1:(\w+)\) \{{ {own}\[i, k\] ~"
    for sizes in re.findall(matrix, program):
        return tuple(int(data[size]) for size in sizes)
    lengths = [int(k) for k in re.findall(rf"^\s*{own}\[(\d+)\] (?:~|<-)", program, re.MULTILINE)]
    loop = rf"for \((\w+) in 1:(\w+)\) \{{ {own}\[\1(?: \+ (\d+))?\] (?:~|<-)"
    for _, size, shift in re.findall(loop, program):
        lengths.append(int(data.get(size, size)) + int(shift or 0))
    return (max(lengths),) if lengths else ()


def _mishaps(address: str) -> set[str]:
    """The mishaps that hit this fit."""
    hit = set()
    for entry in filter(None, os.environ.get(SWITCH, "").split(",")):
        kind, _, share = entry.strip().partition(":")
        if kind not in MISHAPS:
            raise BackendError(
                f"{SWITCH} says {kind!r}; it understands {', '.join(MISHAPS)}, "
                "each alone or with a share as in crash:0.3."
            )
        if _generator(address, kind).uniform() < float(share or 1):
            hit.add(kind)
    return hit


def _hang(timeout: float | None) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    while deadline is None or time.monotonic() < deadline:
        time.sleep(0.01)
    raise BackendTimeout(f"The fake engine hung for {timeout:g} s, as RMM_FAKE_BACKEND asked for.")


def available() -> Availability:
    """It always runs."""
    return Availability(True, "fake backend (for tests: its draws mean nothing)")


BACKEND = Backend(name="fake", language="jags", run=run, available=available)
