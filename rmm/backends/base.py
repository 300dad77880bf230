"""What every engine is to the rest of the package: a `Backend`; settings in, a run out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rmm.design.design import Design
from rmm.design.prepare import Model
from rmm.model.spec import ModelSpec

Array = np.ndarray[Any, Any]
#: Sampled parameter -> the families of its priors, one for all elements or one per element.
Forms = Mapping[str, tuple[str, ...]]


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
    adaptation : mapping
        What warm-up adapted to the posterior, as an option `adaptation` of another fit takes it;
        empty for most engines.
    proposals : object or None
        What laplace drew from, for the evidence of the fit; not saved, as it can be found again.
    """

    draws: Mapping[str, Array]
    sample_stats: Mapping[str, Array]
    seconds: float
    engine: Mapping[str, Any]
    adaptation: Mapping[str, Any] = field(default_factory=dict)
    proposals: Any = field(default=None, repr=False, compare=False)


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
class Language:
    """The syntax of an engine's programs, as far as users' own programs are checked.

    Attributes
    ----------
    name : str
        ``"jags"``: the name of its engine, and the ending of files that `rmm study replay` writes.
    title : str
        For messages: ``"JAGS's language"``.
    endings : tuple of str
        Endings of files that hold programs of this language alone.
    mark : str
        Regular expression found in programs of this language and of none after it in the order
        in which languages are tried.
    comment : str
        Regular expression of a comment.
    include : str
        Regular expression of a line that reads another file; empty if there are none.
    starts : str
        Regular expression of what follows a variable that takes an initial value. JAGS refuses
        initial values of variables that its program does not draw; Stan ignores them.
    """

    name: str
    title: str
    endings: tuple[str, ...]
    mark: str
    comment: str
    starts: str
    include: str = ""


@dataclass(frozen=True)
class Compiler:
    """How an engine makes executables of its programs; they are kept in the user's cache.

    Attributes
    ----------
    compile : callable
        ``compile(programs) -> list[Path]``: the executables of texts, made now or before.
    processor : callable
        ``processor(executable) -> str``: which kind of processor it was made for.
    use : callable
        ``use(executables) -> list[Path]``: lets the fits of this process run these; returns those
        that cannot run here.
    this_processor : callable
        ``this_processor() -> str``: the kind of this machine's.
    """

    compile: Callable[[Iterable[str]], list[Path]]
    processor: Callable[[Path], str]
    use: Callable[[Iterable[Path]], list[Path]]
    this_processor: Callable[[], str]


@dataclass(frozen=True)
class PreparedModel:
    """A model as one engine reads it.

    Attributes
    ----------
    program : str
        The program's text; a description for an engine that runs none.
    data : callable
        ``data(design) -> dict``: values by the program's names, for the design of the model or for
        one of some of its groups, which the same program then fits. `Backend.run` takes int, float
        and arrays in C order.
    initial : callable
        ``initial(design, values) -> dict``: initial values by the program's names, from `values` of
        the model's sampled parameters.
    monitored : tuple of str
        Variables of the program whose draws are kept.
    options : mapping
        Options of the engine that follow from the model; a user's own options override them.
    """

    program: str
    data: Callable[[Design], dict[str, Any]]
    initial: Callable[[Design, Mapping[str, Any]], dict[str, Any]]
    monitored: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def accept_all(settings: Settings) -> None:
    """Accept all values of options."""


@dataclass(frozen=True)
class Backend:
    """An engine: one per row of the registry `rmm.backends.BACKENDS`.

    Attributes
    ----------
    name : str
    program : callable
        ``program(spec, forms) -> str``: the program that samples all effects. It depends on the
        formula and on the families of outcome and priors alone, so that it needs no data.
    prepare : callable
        ``prepare(model) -> PreparedModel``: the program that `rmm.fit` runs, which may depend on
        the data, and what goes with it. All that is costly to decide is decided here, once.
    run : callable
        ``run(program, data, inits, settings, progress) -> Run``; `inits` holds one mapping per
        chain (may be empty mappings).
    available : callable
        ``available() -> Availability``; imports the engine but starts nothing long.
    language : Language or None
        Of its program texts, which users may write themselves; None for an engine without.
    options : tuple of str
        Names of the engine-specific keyword options it understands.
    check_values : callable
        ``check_values(settings)`` raises `BackendError` for a value of an option that no run
        accepts; it starts nothing.
    hamiltonian : bool
        Whether it is Hamiltonian Monte Carlo: gradients make it efficient for every family,
        transitions may diverge, and draws may be better than independent ones.
    weighted_draws : bool
        Whether draws are independent and weighted: `chains` are shares of them, `warmup` and `thin`
        are ignored, and R-hat has no meaning.
    compiler : Compiler or None
        For an engine whose programs are compiled before they run.
    results_version : int or None
        Raised when estimates change by more than their Monte Carlo errors, for kept results of
        engines that are part of this package.
    """

    name: str
    program: Callable[[ModelSpec, Forms], str]
    prepare: Callable[[Model], PreparedModel]
    run: Callable[
        [str, Mapping[str, Any], Sequence[Mapping[str, Any]], Settings, ProgressListener | None],
        Run,
    ]
    available: Callable[[], Availability]
    language: Language | None = None
    options: tuple[str, ...] = ()
    check_values: Callable[[Settings], object] = accept_all
    hamiltonian: bool = False
    weighted_draws: bool = False
    compiler: Compiler | None = None
    results_version: int | None = None
