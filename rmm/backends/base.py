"""What every backend takes and gives: settings in, a run out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Settings:
    """How long and with what an engine samples.

    Attributes
    ----------
    chains, warmup, draws, thin : int
        `draws` is the number of *kept* draws per chain: the engine runs `draws * thin`
        iterations after `warmup`.
    seed : int
        Seed of the fit, 0 <= seed < 2**31; chain seeds follow from it.
    cores : int
        Processes at the same time.
    timeout : float or None
        Seconds for the sampling of the whole fit; then the engine's processes are ended
        and `rmm.errors.BackendTimeout` is raised.
    monitor : tuple of str
        Variables of the program to keep.
    options : mapping
        Engine-specific options that the user passed by keyword.
    """

    chains: int = 4
    warmup: int = 1000
    draws: int = 1000
    thin: int = 1
    seed: int = 1
    cores: int = 2
    timeout: float | None = None
    monitor: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What an engine returned.

    Attributes
    ----------
    draws : mapping
        Variable name -> array of shape ``(chain, draw, *dims)``, dims as in the program.
    sample_stats : mapping
        ``diverging`` (bool), ``energy``, ``treedepth``, ... each (chain, draw); may be empty.
    seconds : float
        Wall-clock seconds of sampling (adaptation and warm-up included, compilation not).
    engine : mapping
        Name and versions of the engine, its settings and messages, for provenance.
    """

    draws: Mapping[str, Array]
    sample_stats: Mapping[str, Array]
    seconds: float
    engine: Mapping[str, Any]


class ProgressListener(Protocol):
    """Called with (iterations done, iterations in all) over all chains; may be called rarely."""

    def __call__(self, done: int, total: int) -> None:
        """Take note of `done` of `total` iterations."""


@dataclass(frozen=True)
class Availability:
    """Whether an engine can run here (`available`), `what` it is, and a `remedy` if it cannot."""

    available: bool
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Backend:
    """One row of the registry `rmm.backends.BACKENDS`.

    Attributes
    ----------
    name : str
    language : str
        The program language it runs: ``"jags"`` or ``"stan"``.
    run : callable
        ``run(program, data, inits, settings, progress) -> Run``. `data` maps names to int,
        float or arrays in C order; `inits` holds one mapping per chain (may be empty mappings).
    available : callable
        ``available() -> Availability``; imports the engine but starts nothing long.
    options : tuple of str
        Names of the engine-specific keyword options it understands.
    check_values : callable
        ``check_values(settings)`` raises `BackendError` for a value of an option that no run
        accepts; it starts nothing.
    """

    name: str
    language: str
    run: Callable[
        [str, Mapping[str, Any], Sequence[Mapping[str, Any]], Settings, ProgressListener | None],
        Run,
    ]
    available: Callable[[], Availability]
    options: tuple[str, ...] = ()
    check_values: Callable[[Settings], object] = field(default=lambda settings: None)
