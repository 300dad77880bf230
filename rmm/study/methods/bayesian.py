"""Bayesian methods: a fit with the draws of `rmm.fit` -> rows of estimates.

Nothing is computed that no row shows: no warnings, no advice, no ArviZ tree and no data frames,
which together take longer than a small fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.backends import find_backend
from rmm.backends.base import Settings
from rmm.design.plan import ModelPlan
from rmm.design.prepare import Model, lay_out
from rmm.errors import BackendError, counted
from rmm.families import find_family
from rmm.fitting.pipeline import fit_model
from rmm.formula.parse_formula import id_columns
from rmm.formula.prior_syntax import read_priors
from rmm.formula.terms import Formula, Term
from rmm.model.spec import with_family
from rmm.posterior.diagnostics.summary import (
    Weighing,
    ascending,
    quantiles,
    summary_columns,
    weighing,
)
from rmm.posterior.draw_estimates import Estimates
from rmm.posterior.estimands import estimate
from rmm.posterior.estimands.quantity import Source
from rmm.posterior.fit import Fit
from rmm.simulation import Drawn
from rmm.simulation.estimands import TRUE_ESTIMANDS
from rmm.simulation.memberships.structures import Memberships
from rmm.study.files.parquet import NOT_CONVERGED, OK
from rmm.study.methods.layouts import LAYOUTS, parameter_of
from rmm.study.methods.pilot_fits import chain_length, fit_length, pilot_length
from rmm.study.methods.ranks import rank, rank_among_ties
from rmm.study.methods.task import INTERVALS, Outcome, Task, parsed
from rmm.study.methods.true_log_likelihood import LOG_LIKELIHOOD, true_log_likelihood
from rmm.tables.array_table import source_column, table_of_arrays
from rmm.tables.table import SourceColumn

if TYPE_CHECKING:
    from rmm.study.methods.method import Method

Array = np.ndarray[Any, Any]
#: Effective draws per chain that laplace aims at in a study. The gate must not change the draws.
_ESS_PER_CHAIN = 125


def fit_engine(task: Task) -> Outcome:
    """A Bayesian fit, with the draws of `rmm.fit`, as rows of estimates."""
    method = task.method
    formula, likelihood = parsed(task.formula), method.config["log_likelihood"]
    effects = likelihood or any(TRUE_ESTIMANDS[name].effects for name, _ in task.ready.values())
    result = sampled(task, task.formula, task.seed, "summary" if effects else "structural")
    table = _estimates(result, task, formula)
    _check_levels(task, table.names)
    rows = table.rows(task)
    reason = unconverged(task, result, table)
    if likelihood:
        rows.append(_likelihood_row(result, task))
    return Outcome(
        NOT_CONVERGED if reason else OK,
        tuple(rows),
        message=reason,
        divergences=divergences(result),
        engine=engine_version(result, method.backend),
        fit=result,
    )


def sampled(task: Task, formula: str, seed: int, monitor: str) -> Fit:
    """The fit of a formula with the method's settings: draws of `rmm.fit`, without warnings."""
    sampler, options = task.method.config["sampler"], _options(task.method)
    length = fit_length(sampler, task.adaptation)
    if task.adaptation and "ess" not in sampler:
        options["adaptation"] = {**task.adaptation, "warmup": sampler["pilot"]}
    return _fit(task, formula, seed, monitor, length, options)


def adapt(task: Task) -> dict[str, Any]:
    """What a pilot fit gives to all others: see `rmm.study.methods.pilot_fits`.

    Raises
    ------
    BackendError
        If chain lengths are wanted of a fit that does not pass the method's gate.
    """
    sampler = task.method.config["sampler"]
    length, options = pilot_length(sampler), _options(task.method)
    found = _fit(task, task.formula, task.seed, "structural", length, options)
    if "ess" not in sampler:
        return dict(found.run.adaptation)
    table = structural_table(found)
    if reason := unconverged(task, found, table):
        raise BackendError(f"The pilot fit did not converge: {reason}.")
    ess = dict(zip(table.names, _smallest_ess(table).tolist(), strict=True))
    moving = {name: size for name, size in ess.items() if size > 0}
    gated = [table.names[k] for k in _gated(task, table) if table.names[k] in moving]
    return chain_length(moving, gated or list(moving), sampler)


def _fit(
    task: Task,
    formula: str,
    seed: int,
    monitor: str,
    length: tuple[int, int],
    options: Mapping[str, Any],
) -> Fit:
    sampler = task.method.config["sampler"]
    warmup, draws = length
    settings = Settings(
        chains=sampler["chains"],
        warmup=warmup,
        draws=draws,
        thin=sampler["thin"],
        seed=seed,
        cores=1,
        timeout=sampler["timeout"],
    )
    model = lay_out_model(task, formula)
    return fit_model(model, task.method.backend, settings, monitor=monitor, options=options)


def lay_out_model(task: Task, formula: str) -> Model:
    """The model of a formula on the data of a task, as `rmm.fit` would prepare it.

    Raises
    ------
    RmmError
    """
    method, drawn, written = task.method, task.drawn, parsed(formula)
    priors = json.dumps(method.priors(drawn.truth))
    family = drawn.truth.spec.family
    plan = _plan(formula, family.name, json.dumps(dict(family.options)), priors)
    ids = _id_names(formula)
    known = _ids(drawn.memberships) if method.kind.layout not in LAYOUTS else {}
    return lay_out(plan, table_of_arrays(engine_data(method, drawn, written), ids, known))


@lru_cache(maxsize=256)
def _plan(formula: str, family: str, options: str, priors: str) -> ModelPlan:
    """What is the same for all data sets; `options` of the family and `priors` as JSON."""
    known = find_family(family, json.loads(options))
    written = with_family(parsed(formula), known)
    return ModelPlan(written, known, read_priors(json.loads(priors)))


@lru_cache(maxsize=256)
def _id_names(formula: str) -> tuple[str, ...]:
    """Columns of ids of a formula."""
    return tuple(id_columns(parsed(formula)))


@lru_cache(maxsize=4)
def _ids(memberships: Memberships) -> dict[str, SourceColumn]:
    """Columns of ids: read once where all data sets of a scenario have the same memberships."""
    columns = memberships.ids()
    return {name: source_column(name, v, is_id=True) for name, v in columns.items()}


def _options(method: Method) -> dict[str, Any]:
    """Options of the engine, as the study file gives them."""
    sampler = method.config["sampler"]
    given = dict(sampler["options"])
    if "ess" in find_backend(method.backend).options:
        given.setdefault("ess", _ESS_PER_CHAIN * sampler["chains"])
    return given


def divergences(result: Fit) -> int:
    """Divergent transitions of a fit; 0 for engines that have none."""
    return int(np.sum(result.run.sample_stats.get("diverging", 0)))


def engine_version(result: Fit, backend: str) -> str:
    """What the estimates say of the engine."""
    version = str(result.run.engine.get("version", backend))
    results = find_backend(backend).results_version
    return version if results is None else f"{version} (results {results})"


def _check_levels(task: Task, estimated: Any) -> None:
    """A predictor that is constant within nesting units in one data set changes its level there.

    Such a fit has no estimate of the estimand: it is a failed one, not one that goes missing.
    """
    for name in task.nulls:
        other = name.replace("b_l2[", "b_l3[") if "b_l2[" in name else name.replace("b_l3", "b_l2")
        if name not in estimated and other != name and other in estimated:
            raise ValueError(
                f"{name} is missing: in this data set the coefficient is {other}, because the "
                "level of a predictor is determined from the data"
            )


def engine_data(method: Method, drawn: Drawn, formula: Formula) -> dict[str, Array]:
    """The table that `rmm.fit` gets for a method: column -> values."""
    if method.kind.layout not in LAYOUTS:
        return drawn.arrays()
    flat = LAYOUTS[method.kind.layout](drawn, formula, method.config["summary"])
    nesting = drawn.memberships.names.nesting if formula.nestings else None
    return flat.arrays(nesting, formula.strata)


def _renamed(formula: Formula, drawn: Drawn) -> dict[str, str]:
    """`b_l2[x]` of a regression on one row per unit -> the name that the truth has for it."""
    nested: list[Term] = [t for block in formula.nestings for t in block.terms or ()]
    out: dict[str, str] = {}
    for term in (*formula.terms, *nested):
        wanted = parameter_of(term, drawn.truth, drawn)
        out |= {f"{b}[{term.label}]": wanted for b in ("b_l2", "b_l3")}
    return out


@dataclass(frozen=True)
class Table:
    """Summary of some parameters, as arrays.

    Attributes
    ----------
    names : tuple of str
    draws : (S, parameters) array
        Chain after chain.
    ordered : (parameters, S) array
        The draws of each parameter in ascending order.
    columns : mapping
        Column of `Fit.summary` -> (parameters,) array.
    """

    names: tuple[str, ...]
    draws: Array
    ordered: Array
    columns: Mapping[str, Array]

    def some(self, places: Array) -> Table:
        """Some of the parameters."""
        return Table(
            tuple(self.names[k] for k in places),
            self.draws[:, places],
            self.ordered[places],
            {name: column[places] for name, column in self.columns.items()},
        )

    def rows(self, task: Task) -> list[dict[str, Any]]:
        """Columns of estimates that depend on the parameter, one entry per parameter."""
        null = np.array([task.nulls.get(name, 0.0) for name in self.names])
        count = len(self.draws)
        above = np.count_nonzero(self.draws > null, axis=0) / count
        below = np.count_nonzero(self.draws < null, axis=0) / count
        levels = [tail for _, level in INTERVALS for tail in ((1 - level) / 2, (1 + level) / 2)]
        bounds = iter(quantiles(self.ordered, levels))
        found = {
            **{own: self.columns[given] for own, given in _COLUMNS.items()},
            "null": null,
            "p_value": np.minimum(1.0, 2 * np.minimum(above, below)),
        }
        for label, _ in INTERVALS:
            found[f"lower{label}"], found[f"upper{label}"] = next(bounds), next(bounds)
        values = zip(*(column.tolist() for column in found.values()), strict=True)
        rows: list[dict[str, Any]] = []
        truth = task.drawn.truth
        for k, (name, own) in enumerate(zip(self.names, values, strict=True)):
            rows.append({"parameter": name, **dict(zip(found, own, strict=True))})
            if name in truth.priors:
                rows[-1]["rank"] = rank(self.draws[:, k], truth.parameters[name])
            elif truth.priors and not np.isnan(task.truths.get(name, np.nan)):
                found_rank = rank_among_ties(self.draws[:, k], task.truths[name], task.seed)
                rows[-1]["rank"] = found_rank
        return rows


#: Column of estimates -> column of a summary.
_COLUMNS = {
    "mean": "mean",
    "median": "median",
    "sd": "sd",
    "rhat": "rhat",
    "ess_bulk": "ess_bulk",
    "ess_tail": "ess_tail",
    "mcse": "mcse_mean",
    "contraction": "contraction",
}


def _estimates(result: Fit, task: Task, formula: Formula) -> Table:
    """What `Fit.summary` shows, under the names of the truth, and squares that are estimands."""
    renamed = _renamed(formula, task.drawn) if task.method.kind.layout in LAYOUTS else {}
    table = structural_table(result, renamed)
    place = {name: k for k, name in enumerate(table.names)}
    squares = [n for n in task.nulls if n.endswith("^2") and n[:-2] in place]
    if squares:
        draws = table.draws[:, [place[n[:-2]] for n in squares]] ** 2
        table = _joined(table, _summary(tuple(squares), draws, result))
    if task.ready and task.method.kind.layout not in LAYOUTS:
        source = Source(result.model, result.run, task.seed)
        numbers = [estimate(source, *one).number() for one in task.ready.values()]
        table = _joined(table, _summary(tuple(task.ready), np.column_stack(numbers), result))
    return table


def structural_table(result: Fit, renamed: Mapping[str, str] | None = None) -> Table:
    """The parameters that `Fit.summary` shows."""
    found = Estimates(result.model, result.run)
    values = found.elements.values
    whole = Table(
        tuple((renamed or {}).get(name, name) for name in found.elements.labels),
        values.reshape(-1, values.shape[2]),
        found.ordered,
        found.columns,
    )
    return whole if found.shown.all() else whole.some(np.flatnonzero(found.shown))


def _summary(names: tuple[str, ...], draws: Array, result: Fit) -> Table:
    """`structural_table` of draws that are functions of the posterior's, (S, names)."""
    by_chain = draws.reshape(result.settings.chains, -1, len(names))
    ordered = ascending(draws)
    columns = summary_columns(by_chain, weighing(result.run), ordered)
    columns["contraction"] = np.full(len(names), np.nan)
    return Table(names, draws, ordered, columns)


def table_of_draws(names: tuple[str, ...], draws: Array) -> Table:
    """A table of independent draws (S, names), without diagnostics of chains."""
    unknown = np.full(len(names), np.nan)
    columns = dict.fromkeys(_COLUMNS.values(), unknown)
    moments = {"mean": draws.mean(0), "median": np.median(draws, 0), "sd": draws.std(0, ddof=1)}
    return Table(names, draws, ascending(draws), {**columns, **moments})


def _joined(one: Table, other: Table) -> Table:
    return Table(
        one.names + other.names,
        np.hstack([one.draws, other.draws]),
        np.vstack([one.ordered, other.ordered]),
        {k: np.concatenate([v, other.columns[k]]) for k, v in one.columns.items()},
    )


def _likelihood_row(result: Fit, task: Task) -> dict[str, Any]:
    """The joint log likelihood of the data, and its true value's rank among the draws."""
    draws = result.log_likelihood().to_numpy().sum(axis=2).reshape(-1, 1)
    (row,) = _summary((LOG_LIKELIHOOD,), draws, result).rows(task)
    truth = true_log_likelihood(task.drawn)
    return {**row, "truth": truth, "rank": rank(draws[:, 0], truth), "p_value": None}


def unconverged(task: Task, result: Fit, table: Table) -> str:
    """Why a fit does not count as converged; empty if it does."""
    gate, chains, count = task.method.config["gate"], result.settings.chains, divergences(result)
    if count > gate["divergences"]:
        return f"{counted(count, 'divergence')}"
    wanted, weighed = gate["ess_per_chain"] * chains, weighing(result.run)
    if weighed is not None:
        return _weights_problem(weighed, wanted, chains * result.settings.draws)
    kept = _gated(task, table)
    if not kept:
        return ""
    rhat = np.nan_to_num(table.columns["rhat"][kept], nan=np.inf, posinf=np.inf)
    if rhat.max() > gate["rhat"]:
        return f"R-hat {rhat.max():.3f} of {table.names[kept[int(rhat.argmax())]]}"
    ess = _smallest_ess(table)[kept]
    if ess.min() < wanted:
        worst = table.names[kept[int(ess.argmin())]]
        return f"ESS {ess.min():.0f} of {worst}, {wanted:.0f} wanted"
    return ""


def _gated(task: Task, table: Table) -> list[int]:
    """Places of the parameters that the gate looks at."""
    estimands = task.method.config["gate"]["parameters"] == "estimands"
    return [k for k, name in enumerate(table.names) if not estimands or name in task.nulls]


def _smallest_ess(table: Table) -> Array:
    """Bulk or tail effective sample size, whichever is smaller, of each parameter."""
    ess: Array = np.fmin(table.columns["ess_bulk"], table.columns["ess_tail"])
    return np.nan_to_num(ess, nan=0.0)


def _weights_problem(weighed: Weighing, wanted: float, kept: int) -> str:
    """Why weighted draws do not count as converged: they have no R-hat."""
    size = min(weighed.ess, kept)
    if weighed.problem() or size >= wanted:
        return weighed.problem()
    return f"ESS {size:.0f} of the weights, {wanted:.0f} wanted"
