"""The whole pipeline on one screen: formula -> spec -> program and data -> run -> draws -> Fit."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.backends import find_backend
from rmm.backends.base import Backend, Settings
from rmm.draws import check_draws
from rmm.errors import BackendError
from rmm.families import Family, family_options, find_family
from rmm.fitted import Fit
from rmm.inits import initial_values
from rmm.model import Model, prepare, prepare_without_data
from rmm.own_program import check_variables, drawn_only, read_program
from rmm.programs import find_language
from rmm.progress import progress_bar

if TYPE_CHECKING:
    pass

MONITORS = ("structural", "summary")


def fit(
    formula: str,
    data: Any,
    family: Any = "gaussian",
    *,
    backend: str = "jags",
    priors: Any = "weakly_informative",
    chains: int = 4,
    warmup: int = 1000,
    draws: int = 1000,
    thin: int = 1,
    seed: int | None = None,
    cores: int | None = None,
    inits: Any = None,
    monitor: str | Sequence[str] = "summary",
    transform: str | None = None,
    missing: str = "error",
    na: Sequence[str] | None = None,
    program: str | Path | None = None,
    progress: bool | None = None,
    timeout: float | None = None,
    **backend_options: Any,
) -> Fit:
    """Fit a multiple-membership multilevel model.

    Parameters
    ----------
    formula : str
        For example ``"y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)"``.
    data : frame, table, mapping or path
        One row per membership: pandas, polars, PyArrow, or a file of text (.csv, .tsv, .txt,
        compressed or not), .parquet, .rda, Stata, SPSS, SAS or Excel.
    family : str or Family
        ``"gaussian"``, ``"binomial"``, ``"condlogit"``, ``"weibull"``, ``"cox"``: `rmm.families`.
    backend : {"jags", "stan", "laplace"}
        ``"laplace"`` is the package's own engine: tenths of a second, normal priors of
        coefficients only; `warmup` and `thin` mean nothing to it.
    priors : str, mapping or list
        A named set or statements; see `rmm.prior_language.read_priors`.
    chains, warmup, draws, thin : int
        `draws` kept draws per chain, after `warmup`; ``draws * thin`` iterations are run.
    seed : int, optional
        Same seed, same draws; without one it is drawn and kept in ``Fit.run.engine``.
    cores : int, optional
        Processes at the same time; default: as many as chains and processors.
    inits : mapping or list of mappings, optional
        Initial values by parameter; default: dispersed and valid ones.
    monitor : str or sequence of str
        ``"summary"`` keeps parameters and effects, ``"structural"`` parameters alone; a list
        names variables of the program to be kept as well, in ``Fit.draws``.
    transform : {"center", "std", "std2"}, optional
    missing : {"error", "drop"}
        ``"drop"`` leaves out groups (strata) that miss a value in a used column, whole.
    na : sequence of str, optional
        Texts that mean a missing value in a text file, besides the empty cell; by default those
        such as NA and . in columns that otherwise hold numbers.
    program : str or path, optional
        Your own text (of `rmm.program`, edited), or its file (.txt, .jags, .bug, .stan); code.
    progress : bool, optional
        Whether to show progress; default: only on a terminal.
    timeout : float, optional
        Seconds of sampling after which the engine is ended.
    **backend_options
        Options of the engine, such as ``adapt_delta`` (stan).

    Returns
    -------
    Fit

    Raises
    ------
    RmmError
        What is wrong with the input, before an engine starts; or what an engine said.

    Warns
    -----
    ConvergenceWarning
        If R-hat, ESS or divergences say that the draws cannot be trusted.
    SpecificationWarning
        If the data say little or nothing of a parameter.

    Examples
    --------
    >>> import rmm
    >>> simulated = rmm.simulate(
    ...     "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n))",
    ...     {"b_l2[Intercept]": 0, "b_l1[x]": 1, "sigma_l2": 0.5},
    ...     membership={"kind": "synthetic", "groups": 60, "members": 30, "size": 2},
    ...     covariates={"x": {"level": "member"}},
    ...     seed=1,
    ... )
    >>> fit = rmm.fit("y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE=FALSE)",
    ...               simulated.data, backend="laplace", seed=1)
    >>> list(fit.summary().index)
    ['b_l1[x]', 'b_l2[Intercept]', 'sigma_l2']
    >>> fit.converged
    True
    """
    engine = find_backend(backend)
    family, options = _family(engine, family, backend_options)
    model = prepare(
        formula, data, family, priors=priors, transform=transform, missing=missing, na=na
    )
    settings = _settings(chains, warmup, draws, thin, seed, cores, timeout)
    return _sampled(engine, model, settings, monitor, inits, program, progress, options)


def _sampled(
    engine: Backend,
    model: Model,
    settings: Settings,
    monitor: str | Sequence[str],
    inits: Any,
    program: str | Path | None,
    progress: bool | None,
    options: Mapping[str, Any],
) -> Fit:
    """Program and data to the engine, draws back."""
    language, forms = find_language(engine.language), model.priors.forms
    own = program is not None
    text = read_program(program) if own else language.write(model.spec, forms, model.integration)
    needed = {} if own else language.engine_options(model.spec, forms, model.integration)
    settings = replace(
        settings,
        monitor=_monitored(language, model, monitor),
        options={**needed, **options},
    )
    if own or engine.language != "laplace":
        check_variables(text, engine.language, settings.monitor)
    values = language.values(model)
    neutral = initial_values(model, settings.chains, settings.seed, inits)
    nuisance = language.nuisance(model.spec, model.design)
    starts = [
        {**nuisance, **language.initial(model.spec, forms, model.priors.data, v)} for v in neutral
    ]
    if own:
        starts = [drawn_only(text, engine.language, values) for values in starts]
    with progress_bar(progress, f"{engine.name}: sampling") as listener:
        run = engine.run(text, values, starts, settings, listener)
    check_draws(run, model, settings.chains, settings.draws)
    result = Fit(model, run, text, values, engine.name, settings)
    result.warn()
    return result


def program(
    formula: str,
    family: Any = "gaussian",
    backend: str = "jags",
    *,
    data: Any = None,
    priors: Any = "weakly_informative",
    transform: str | None = None,
    missing: str = "error",
    integrate: bool = True,
) -> str:
    """The program text that `fit` would run, without running anything.

    Where Stan's program integrates effects out (`rmm.integration`) there is no line of the
    likelihood to edit: ``integrate=False`` gives the text that samples all effects, of the same
    posterior, which runs on the same data. Without `data` all effects are sampled, and predictors
    outside `mm()` count as level 2 unless `hm(vars=)` names them.

    Parameters
    ----------
    formula : str
    family : str or Family
    backend : {"jags", "stan", "laplace"}
        Whose language.
    priors : str, mapping or list
        As for `fit`.
    transform : {"center", "std", "std2"}, optional
    missing : {"error", "drop"}
    data : frame, table, mapping or path, optional
    integrate : bool
        Whether effects may be integrated out, as `fit` does.

    Returns
    -------
    str
        JAGS or Stan, in full; a description for ``"laplace"``.

    Raises
    ------
    RmmError
        What is wrong with the formula, priors or data.

    Examples
    --------
    >>> import rmm
    >>> text = rmm.program("y ~ 1 + mm(id(m, g), vars(x), fn(w ~ 1/n), RE=TRUE)")
    >>> print(text.splitlines()[0])
    # Multiple-membership multilevel model, gaussian outcome (JAGS)
    """
    language = find_language(find_backend(backend).language)
    if data is None:
        return language.write(*prepare_without_data(formula, family, priors=priors), None)
    model = prepare(formula, data, family, priors=priors, transform=transform, missing=missing)
    way = model.integration if integrate else None
    return language.write(model.spec, model.priors.forms, way)


def program_data(
    formula: str,
    data: Any,
    family: Any = "gaussian",
    backend: str = "jags",
    *,
    priors: Any = "weakly_informative",
    transform: str | None = None,
    missing: str = "error",
) -> dict[str, Any]:
    """The data that `fit` would give to the engine, by the program's names.

    Parameters
    ----------
    formula : str
    data : frame, table, mapping or path
    family : str or Family
    backend : {"jags", "stan", "laplace"}
        Whose names.
    priors : str, mapping or list
        As for `fit`.
    transform : {"center", "std", "std2"}, optional
    missing : {"error", "drop"}

    Returns
    -------
    dict
        Numbers and arrays, such as ``y``, (J,) over the groups in sorted order, and ``X_l1``, the
        K members' predictors less their centres: (M, K) over the memberships, or (J, K), summed
        with their weights, where these are known.

    Raises
    ------
    RmmError
        What is wrong with the formula, priors or data.

    Examples
    --------
    >>> import rmm
    >>> values = rmm.program_data("y ~ 1 + x", {"y": [1.0, 2.0, 4.0], "x": [0.0, 1.0, 2.0]})
    >>> values["J"], values["y"].shape
    (3, (3,))
    """
    language = find_language(find_backend(backend).language)
    model = prepare(formula, data, family, priors=priors, transform=transform, missing=missing)
    return dict(language.values(model))


def _counts(**counts: int) -> dict[str, Any]:
    for name, value in counts.items():
        least = 0 if name == "warmup" else 1
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise BackendError(f"`{name}` must be a whole number from {least}, not {value!r}.")
    return {name: int(value) for name, value in counts.items()}


def _seconds(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise BackendError(f"`timeout` must be a positive number of seconds, not {timeout!r}.")
    return float(timeout)


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(2**31)
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**31:
        raise BackendError(f"`seed` must be a whole number from 0 to 2**31 - 1, not {seed!r}.")
    return int(seed)


def _monitored(language: Any, model: Model, monitor: str | Sequence[str]) -> tuple[str, ...]:
    extra = () if isinstance(monitor, str) else tuple(monitor)
    if isinstance(monitor, str) and monitor not in MONITORS:
        raise BackendError(
            f"Unknown monitor {monitor!r}. Known: {', '.join(MONITORS)}, or a list of names of "
            "variables of the program."
        )
    bad = [name for name in extra if not isinstance(name, str)]
    if bad:
        raise BackendError(f"`monitor` names variables; {bad[0]!r} is no name.")
    effects = {p.name for p in model.spec.parameters if not p.structural}
    names = language.monitored(model.spec, model.priors.forms)
    kept = [n for n in names if monitor != "structural" or n not in effects]
    return tuple(dict.fromkeys((*kept, *extra)))


def _settings(
    chains: int,
    warmup: int,
    draws: int,
    thin: int,
    seed: int | None,
    cores: int | None,
    timeout: float | None,
) -> Settings:
    counts = _counts(chains=chains, warmup=warmup, draws=draws, thin=thin)
    cores = _counts(cores=cores or min(counts["chains"], os.cpu_count() or 1))["cores"]
    return replace(Settings(**counts), seed=_seed(seed), cores=cores, timeout=_seconds(timeout))


def _family(
    engine: Backend, family: Any, given: Mapping[str, Any]
) -> tuple[Family, dict[str, Any]]:
    """The family with its own options, and the options that are left for the engine."""
    own = {k: v for k, v in given.items() if k in family_options()}
    rest = {k: v for k, v in given.items() if k not in own}
    return find_family(family, own), _options(engine, rest)


def _options(engine: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in given if name not in engine.options]
    if unknown:
        raise BackendError(
            f"Backend {engine.name!r} has no option `{unknown[0]}`. "
            f"It has: {', '.join(engine.options) or 'none'}."
        )
    return dict(given)
