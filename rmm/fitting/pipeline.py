"""The whole pipeline on one screen: formula -> spec -> program and data -> run -> draws -> Fit."""

from __future__ import annotations

import inspect
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rmm.arguments import readable
from rmm.backends import find_backend
from rmm.backends.base import Backend, Settings
from rmm.backends.initial_values import initial_values
from rmm.design.checks.design_warnings import warn_of_design
from rmm.design.prepare import Model, prepare, prepare_without_data
from rmm.errors import BackendError, unknown_name
from rmm.families import Family, family_options, find_family, is_family
from rmm.fitting.engine_choice import (
    AUTO,
    Request,
    check_options,
    engines_for,
    fit_by_choice,
    fit_with,
)
from rmm.posterior.fit import Fit

MONITORS = ("structural", "summary")
_R_MONITORS = {True: "summary", False: "structural"}  # R's `monitor =`


@readable(BackendError, is_family=is_family)
def fit(
    formula: str,
    data: Any,
    family: Any = "gaussian",
    *,
    sigma: str | None = None,
    observation_weights: str | None = None,
    backend: str = "auto",
    priors: Any = "weakly_informative",
    chains: int = 4,
    warmup: int = 1000,
    draws: int = 1000,
    thin: int = 1,
    seed: int | None = None,
    cores: int | None = None,
    inits: Any = None,
    monitor: str | bool | Sequence[str] = "summary",
    transform: str | None = None,
    missing: str = "error",
    na: Sequence[str] | None = None,
    cov: Mapping[str, Any] | None = None,
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
        ``"gaussian"``, ``"binomial"``, ``"condlogit"``, ``"weibull"``, ``"cox"``, ``"poisson"``,
        ``"negbinomial"``, ``"zero_inflated_poisson"``, ``"zero_inflated_negbinomial"``,
        ``"hurdle_poisson"``, ``"hurdle_negbinomial"``,
        ``"lognormal"``, ``"gamma"``, ``"student"``, ``"beta"``,
        ``"ordinal"`` (``levels=[...]`` is the order of its levels); ``link="probit"`` for binomial
        and ordinal, ``link="cloglog"`` for binomial (the families ``"probit"`` and
        ``"cloglog"``), in any case and with R's synonyms: `rmm.families`. R's order,
        ``fit(formula, "Weibull", data=table)``, is understood too.
    sigma : str, optional
        Formula of the log of the residual standard deviation, ``"~ 1 + z + log(n)"`` (gaussian,
        lognormal, student): terms of groups, and the group size ``n``. Its coefficients are
        ``b_sigma``.
        Default: all groups have one, ``sigma_l2``.
    observation_weights : str, optional
        Column of numbers, the same in all rows of a group: the log likelihood of the group counts
        so many times (frequencies, sampling weights). Not the weights of members, which are in the
        formula. If they are no counts, the posterior is that of a pseudo-likelihood.
    backend : {"auto", "laplace", "stan", "jags"}
        ``"auto"`` chooses ``"laplace"``, the package's own engine, if it supports the model and the
        fit passes its checks (Pareto k, effective draws, inner variance). Otherwise it chooses
        Stan, or JAGS if there is no C++ compiler. ``print(fit)`` shows the engine and the reason.
        An option of one engine, or `program`, also determines the engine. laplace does not use
        `warmup` and `thin`; it keeps ``chains * draws`` draws.
    priors : str, mapping or list
        A named set or statements; see `rmm.formula.prior_syntax.read_priors`.
    chains, warmup, draws, thin : int
        `draws` kept draws per chain, after `warmup`; ``draws * thin`` iterations are run.
    seed : int, optional
        The same seed gives the same draws. Default: a random seed, kept in ``Fit.run.engine``.
    cores : int, optional
        Processes at the same time; default: as many as chains and processors.
    inits : mapping or list of mappings, optional
        Initial values by parameter; default: dispersed and valid ones.
    monitor : str, bool or sequence of str
        ``"summary"`` (or True) keeps parameters and effects, ``"structural"`` (or False) parameters
        alone; a list names variables of the program to be kept as well, in ``Fit.draws``.
    transform : {"center", "std", "std2"}, optional
        Continuous predictors minus their mean; also divided by their standard deviation
        (``"std"``) or by two standard deviations (``"std2"``). Default: unchanged.
    missing : {"error", "drop", "impute"}
        ``"drop"`` leaves out groups (strata) that miss a value in a used column, whole.
        ``"impute"`` makes missing values of numeric covariates parameters of the model (stan and
        jags), normal given the complete covariates of their level.
    na : sequence of str, optional
        Texts that stand for a missing value in a text file. An empty cell is always missing.
        Default: NA, N/A, NaN, NULL, None, #N/A and . in columns that otherwise contain numbers.
    cov : mapping of str to pandas.DataFrame, optional
        Covariance or correlation matrices of member effects, by the names that ``cov = A`` in the
        formula gives them: ``cov={"A": matrix}``. Rows and columns are labelled with the members
        as in the data; more members than the data have are allowed.
    program : str or path, optional
        Your own text (of `rmm.program`, edited), or its file (.txt, .jags, .bug, .stan); code.
    progress : bool, optional
        Whether to show progress; default: only on a terminal.
    timeout : float, optional
        Seconds of sampling after which the engine is ended; of all engines that were asked.
    **backend_options
        Options of the engine, such as ``adapt_delta`` (stan) or ``ess`` (laplace: effective draws
        to be reached, 500 by default).

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
        If R-hat, ESS or divergences, or Pareto k, say that the draws cannot be trusted.
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
    family, options = _family(family, backend_options, sigma, observation_weights)
    choose = isinstance(backend, str) and backend == AUTO
    if choose:
        names, why = engines_for(options, program, _ARGUMENTS)
    else:
        check_options(options, find_backend(backend), _ARGUMENTS)
    settings = _settings(chains, warmup, draws, thin, seed, cores, timeout)
    keep = _monitor(monitor)
    _check_flag("progress", progress)
    model = prepare(
        formula, data, family, priors=priors, transform=transform, missing=missing, na=na, cov=cov
    )
    warn_of_design(model)
    asked = _request(model, settings, keep, options, inits, program, progress)
    result = fit_by_choice(asked, names, why) if choose else fit_with(find_backend(backend), asked)
    result.warn()
    return result


def fit_model(
    model: Model,
    backend: str,
    settings: Settings,
    *,
    monitor: str = "summary",
    options: Mapping[str, Any] | None = None,
) -> Fit:
    """The fit of a model that is prepared: the same draws as `fit`, no warnings.

    Warnings take longer than small fits. A simulation study, which ignores them, calls this.

    Parameters
    ----------
    model : Model
    backend : str
        Name of an engine.
    settings : Settings
    monitor : {"summary", "structural"}
    options : mapping, optional
        Options of the engine.

    Returns
    -------
    Fit

    Raises
    ------
    RmmError
    """
    engine, own = find_backend(backend), dict(options or {})
    check_options(own, engine, _ARGUMENTS)
    return fit_with(engine, _request(model, settings, monitor, own, progress=False))


def _request(
    model: Model,
    settings: Settings,
    monitor: str | tuple[str, ...],
    options: Mapping[str, Any],
    inits: Any = None,
    program: str | Path | None = None,
    progress: bool | None = None,
) -> Request:
    """A fit to be asked of an engine, with initial values."""
    neutral = initial_values(model, settings.chains, settings.seed, inits)
    return Request(model, settings, neutral, monitor, program, progress, options)


_ARGUMENTS = tuple(
    name for name, p in inspect.signature(fit).parameters.items() if p.kind is not p.VAR_KEYWORD
)


@readable(BackendError, is_family=is_family)
def program(
    formula: str,
    family: Any = "gaussian",
    backend: str = "jags",
    *,
    data: Any = None,
    priors: Any = "weakly_informative",
    transform: str | None = None,
    missing: str = "error",
    na: Sequence[str] | None = None,
    cov: Mapping[str, Any] | None = None,
    sigma: str | None = None,
    observation_weights: str | None = None,
    integrate: bool = True,
) -> str:
    """The program text that `fit` would run, without running anything.

    Where Stan's program integrates effects out (`rmm.backends.stan.marginalize.choose`) there is
    no line of the likelihood to edit: ``integrate=False`` gives the text that samples all effects,
    of the same posterior, which runs on the same data. Without `data` all effects are sampled, and
    predictors outside `mm()` count as level 2 unless `hm(vars=)` names them.

    Parameters
    ----------
    formula : str
    family : str or Family
    backend : {"jags", "stan", "laplace"}
        Whose language; the text in JAGS's is the plainest to read.
    priors : str, mapping or list
        As for `fit`.
    transform : {"center", "std", "std2"}, optional
    missing : {"error", "drop", "impute"}
    na : sequence of str, optional
    cov : mapping, optional
    sigma : str, optional
    observation_weights : str, optional
        As for `fit`.
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
    # Multiple-membership multilevel model, gaussian outcome, for JAGS
    """
    engine = _named_engine(backend)
    family, _ = _family(family, {}, sigma, observation_weights)
    if data is None:
        return engine.program(*prepare_without_data(formula, family, priors=priors))
    model = prepare(
        formula, data, family, priors=priors, transform=transform, missing=missing, na=na, cov=cov
    )
    if not integrate:
        return engine.program(model.spec, model.priors.forms)
    return engine.prepare(model).program


@readable(BackendError, is_family=is_family)
def program_data(
    formula: str,
    data: Any,
    family: Any = "gaussian",
    backend: str = "jags",
    *,
    priors: Any = "weakly_informative",
    transform: str | None = None,
    missing: str = "error",
    na: Sequence[str] | None = None,
    cov: Mapping[str, Any] | None = None,
    sigma: str | None = None,
    observation_weights: str | None = None,
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
    missing : {"error", "drop", "impute"}
    na : sequence of str, optional
    cov : mapping, optional
    sigma : str, optional
    observation_weights : str, optional
        As for `fit`.

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
    engine = _named_engine(backend)
    family, _ = _family(family, {}, sigma, observation_weights)
    model = prepare(
        formula, data, family, priors=priors, transform=transform, missing=missing, na=na, cov=cov
    )
    return engine.prepare(model).data(model.design)


_MOST = 1_000_000_000  # beyond it no memory holds the draws
_RANGES = {"warmup": (0, _MOST), "chains": (1, 10_000)}


def _counts(**counts: int) -> dict[str, Any]:
    for name, value in counts.items():
        least, most = _RANGES.get(name, (1, _MOST))
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            raise BackendError(
                f"`{name}` must be a whole number of at least {least}, but is {value!r}."
            )
        if value > most:
            raise BackendError(
                f"`{name}` must be a whole number of at most {most:,}, but is {value!r}."
            )
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
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**31:
        raise BackendError(
            f"`seed` must be a whole number between 0 and 2**31 - 1, but is {seed!r}."
        )
    return int(seed)


def _monitor(monitor: Any) -> str | tuple[str, ...]:
    """``"summary"``, ``"structural"``, or names of variables."""
    if isinstance(monitor, bool):
        return _R_MONITORS[monitor]
    if isinstance(monitor, str):
        if monitor not in MONITORS:
            raise BackendError(
                unknown_name(monitor, "a value of `monitor`", MONITORS)
                + " Or give a list of variables of the program."
            )
        return monitor
    if not isinstance(monitor, list | tuple):
        raise BackendError(
            f"`monitor` must be one of {', '.join(MONITORS)}, True, False, or a list of names of "
            f"variables of the program, not of type {type(monitor).__name__}."
        )
    bad = [name for name in monitor if not isinstance(name, str)]
    if bad:
        raise BackendError(f"`monitor` must be a list of names, but {bad[0]!r} is not text.")
    return tuple(monitor)


def _check_flag(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, bool | np.bool_):
        raise BackendError(f"`{name}` must be True, False or None, not {value!r}.")


def _named_engine(backend: Any) -> Backend:
    """The engine of a name other than ``"auto"``."""
    if isinstance(backend, str) and backend == AUTO:
        raise BackendError(
            'With backend="auto", the engine is chosen during the fit. For a program, set '
            'backend="jags" or backend="stan".'
        )
    return find_backend(backend)


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
    most = min(counts["chains"], os.cpu_count() or 1)
    cores = _counts(cores=most if cores is None else cores)["cores"]
    return replace(Settings(**counts), seed=_seed(seed), cores=cores, timeout=_seconds(timeout))


def _family(
    family: Any,
    given: Mapping[str, Any],
    sigma: str | None,
    observation_weights: str | None,
) -> tuple[Family, dict[str, Any]]:
    """The family with its own options, and the options that are left for the engine."""
    own = {k: v for k, v in given.items() if k in family_options()}
    left = {k: v for k, v in given.items() if k not in own}
    more = {"sigma": sigma, "observation_weights": observation_weights}
    return find_family(family, own | {k: v for k, v in more.items() if v is not None}), left
