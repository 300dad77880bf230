"""Fits of multiply imputed tables, pooled: draws of all of them, with equal shares.

The posterior given the observed data is the average, over imputations, of the posteriors given the
completed tables, if values are imputed by draws from their own posterior (Gelman, Carlin, Stern,
Dunson, Vehtari and Rubin 2013, Bayesian Data Analysis, 3rd edition, section 18.2). Mixed draws of
m tables are draws of an estimate of that average. Their variance is W + (1 - 1/m) B, with W the
mean of the variances within tables and B the variance of the means of tables; that of Rubin (1987,
Multiple Imputation for Nonresponse in Surveys, section 3.1) is T = W + (1 + 1/m) B. So intervals of
few tables are too narrow: Zhou and Reiter (2010), The American Statistician 64, 159-163.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from rmm.arguments import check_seed, readable, readable_methods
from rmm.backends.base import Run
from rmm.errors import BackendError, ConvergenceWarning, DataError, SpecificationWarning, counted
from rmm.posterior.comparison.averaging import mixture
from rmm.posterior.comparison.pooled_hypotheses import pooled_hypotheses
from rmm.posterior.comparison.same_model import check_same_model
from rmm.posterior.diagnostics.summary import QUANTILES, ascending, quantiles, spread
from rmm.posterior.fit import Fit
from rmm.posterior.inference.hypotheses.evidence_of_hypotheses import Hypotheses
from rmm.posterior.prediction.conditional_effects import few_values, reference_groups
from rmm.posterior.prediction.linear_predictor import flat_draws, weight_chunks
from rmm.posterior.prediction.variance_components import variance_draws, variance_table
from rmm.posterior.reporting.fit_text import formatted
from rmm.posterior.reporting.summary_tables import summary_table
from rmm.tables.read import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The sd of mixed draws over that of Rubin's rules below which more tables are advised.
_NARROW = 0.98
_PLOTS = ("forest", "effects")
_OF_CHAINS = ["rhat", "ess_bulk", "ess_tail", "mcse_mean", "contraction"]
_EACH = "Look at each fit: they are in `fits`."
_NOT_HERE: dict[str, str] = {
    "loo": "the fits are of different data, so their densities cannot be mixed or compared",
    "waic": "the fits are of different data, so their densities cannot be mixed or compared",
    "log_likelihood": "each completed table has a likelihood of its own",
    "log_evidence": "each completed table has an evidence of its own; that of the observed data "
    "needs the model of the imputations",
    "check": "a predictive check compares with one table",
    "plot_check": "a predictive check compares with one table",
    "plot_weights": "its curve and groups are of one table; `weights()` is available",
    "prior_sensitivity": "it weights the draws of one posterior again",
    "r2": "it compares with the covariates of one table",
    "diagnostics": "convergence is about the chains of one fit",
    "report": "it describes one table",
    "save": "a file holds one table; save each fit and pool them again",
}


@readable_methods(DataError)
@dataclass(frozen=True)
class PooledFit:
    """Fits of one model to multiply imputed tables.

    Attributes
    ----------
    fits : tuple of Fit
        One for each table.
    """

    fits: tuple[Fit, ...]

    def __getattr__(self, name: str) -> NoReturn:
        if name in _NOT_HERE:
            raise BackendError(f"Pooled fits have no `{name}`: {_NOT_HERE[name]}. {_EACH}")
        raise AttributeError(f"Pooled fits have no attribute {name!r}.")

    @property
    def converged(self) -> bool:
        """Whether all of the fits have converged."""
        return all(fit.converged for fit in self.fits)

    @cached_property
    def _mixed(self) -> Fit:
        """A fit with the draws of all, for what needs draws and labels alone."""
        first = self.fits[0]
        names = first.run.draws
        draws = {k: np.concatenate([fit.run.draws[k] for fit in self.fits]) for k in names}
        settings = replace(first.settings, chains=first.settings.chains * len(self.fits))
        run = Run(draws, {}, sum(fit.run.seconds for fit in self.fits), first.run.engine)
        return replace(first, run=run, settings=settings)

    @cached_property
    def _shown(self) -> Array:
        return self.fits[0]._estimates.shown

    @cached_property
    def _ordered(self) -> Array:
        """(elements, S) draws of the structural parameters of all fits, in ascending order."""
        values = [f._estimates.elements.values for f in self.fits]
        return ascending(np.concatenate([v.reshape(-1, v.shape[2]) for v in values]))

    @cached_property
    def _table(self) -> pd.DataFrame:
        """Columns of `summary`, of all structural parameters."""
        own = [fit._estimates.columns for fit in self.fits]
        means, sds, errors, rhats = (
            np.array([columns[name] for columns in own])
            for name in ("mean", "sd", "mcse_mean", "rhat")
        )
        within, between = np.mean(sds**2, axis=0), np.var(means, axis=0, ddof=1)
        count = len(self.fits)
        low, median, high = quantiles(self._ordered, QUANTILES)
        with np.errstate(invalid="ignore"):
            missing = (1 + 1 / count) * between / (within + (1 + 1 / count) * between)
        return pd.DataFrame(
            {
                "mean": means.mean(axis=0),
                "sd": self._ordered.std(axis=1, ddof=1),
                "q2.5": low,
                "median": median,
                "q97.5": high,
                "rhat": rhats.max(axis=0),
                "mcse_mean": np.sqrt(np.sum(errors**2, axis=0)) / count,
                "mcse_tables": np.sqrt(between / count),
                "missing": missing,
            },
            index=pd.Index(self.fits[0]._estimates.elements.labels, name="parameter"),
        )

    def summary(
        self, prob: float = 0.95, columns: str | Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Structural parameters: mean, sd and quantiles of the mixed draws, and their errors.

        ``rhat`` is the largest of the fits. ``mcse_mean`` is the error of the mean by the number of
        draws, ``mcse_tables`` that by the number of tables, sqrt(B/m). ``missing`` is the share of
        the variance that is due to the missing values, (1 + 1/m) B / T: van Buuren (2018, Flexible
        Imputation of Missing Data, 2nd edition, section 2.3.5).

        Parameters
        ----------
        prob : float
            Probability of the interval: 0.9 gives the columns ``q5`` and ``q95``.
        columns : str or sequence of str, optional
            Columns, in their order; default all.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        BackendError
            For an unknown column, or a probability that is not between 0 and 1.
        """
        table = self._table[self._shown]
        return summary_table(table, self._ordered[self._shown], prob, columns)

    def predict(
        self,
        newdata: Any = None,
        kind: str = "mean",
        *,
        effects: str = "all",
        new: Any = False,
        draws: bool = False,
        seed: int | None = None,
    ) -> Any:
        """Predictions of the mixture; each fit has the constants of its own table.

        Parameters
        ----------
        newdata, kind, effects, new, draws, seed
            As for `rmm.Fit.predict`; without `newdata`, groups have the values of each table.

        Returns
        -------
        pandas.DataFrame or xarray.DataArray
            One row per group, as of a fit; with `draws` an array (draw, group) whose coordinate
            ``table`` says of which fit it is, from 1.
        """
        return self._each("predict", draws, newdata, kind, effects=effects, new=new, seed=seed)

    def estimand(self, *arguments: Any, draws: bool = False, **named: Any) -> Any:
        """An estimand of the mixture, computed for each table.

        Parameters
        ----------
        *arguments, draws, **named
            As for `rmm.Fit.estimand`.

        Returns
        -------
        pandas.DataFrame or xarray.DataArray
        """
        return self._each("estimand", draws, *arguments, **named)

    def _each(
        self, method: str, draws: bool, *arguments: Any, seed: int | None = None, **named: Any
    ) -> Any:
        """Draws of a method of all fits; random numbers of each table are its own."""
        check_seed(seed, BackendError)
        parts = {}
        for number, fit in enumerate(self.fits, start=1):
            own = (fit.settings.seed if seed is None else seed) + number - 1
            parts[number] = getattr(fit, method)(*arguments, draws=True, seed=own, **named)
        return mixture(parts, "table", draws)

    def conditional_effects(
        self,
        variable: str,
        by: str | None = None,
        *,
        values: Any = None,
        by_values: Any = None,
        at: Mapping[str, Any] | None = None,
        points: int = 25,
        kind: str | None = None,
        effects: str = "none",
    ) -> pd.DataFrame:
        """The expected outcome over one or two covariates, the others at the means of each table.

        Parameters
        ----------
        variable, by, values, by_values, at, points, effects
            As for `rmm.Fit.conditional_effects`; default values are those of the first table.
        kind : {"mean", "linear", "outcome"}, optional
            Default as of a fit.

        Returns
        -------
        pandas.DataFrame
            As of a fit.

        Raises
        ------
        DataError
            If a column is no predictor, or for ``kind="weight"``.
        """
        first = self.fits[0]
        if kind == "weight":
            raise DataError(f"kind='weight' is not available for pooled fits. {_EACH}")
        if kind is None:
            kind = "linear" if first.model.spec.family.needs_strata else "mean"
        # The call of the first fit says what is wrong with the arguments.
        found = first.conditional_effects(
            variable,
            by,
            values=values,
            by_values=by_values,
            at=at,
            points=points,
            kind=kind,
            effects=effects,
        )
        grid = reference_groups(first.model, variable, values, at, points)[0]
        if by is None:
            return self._conditional(variable, grid, at or {}, kind, effects).set_axis(found.index)
        second = few_values(first.model, by) if by_values is None else list(by_values)
        tables = [
            self._conditional(variable, grid, {**(at or {}), by: value}, kind, effects)
            for value in second
        ]
        return pd.concat(tables).set_axis(found.index)

    def _conditional(
        self, variable: str, grid: Array, at: Mapping[str, Any], kind: str, effects: str
    ) -> pd.DataFrame:
        parts = {}
        for number, fit in enumerate(self.fits, start=1):
            groups = reference_groups(fit.model, variable, grid, at)[1]
            found = fit.predict(groups, kind, effects=effects, new=True, draws=True)
            parts[number] = found.assign_coords(group=np.arange(len(grid)))
        table: pd.DataFrame = mixture(parts, "table", draws=False)
        return table

    def hypothesis(self, *hypotheses: str | Sequence[str], prob: float = 0.95) -> Hypotheses:
        """Probabilities and Bayes factors of hypotheses, over the mixed draws.

        The density of the mixture at a point is the mean of the densities of the fits. There are
        Bayes factors where all fits have the same prior: default priors are scaled by each table,
        so state the priors of what is compared as numbers.

        Parameters
        ----------
        *hypotheses, prob
            As for `rmm.Fit.hypothesis`.

        Returns
        -------
        Hypotheses
        """
        return pooled_hypotheses(self.fits, hypotheses, prob)

    def weights(self, block: int = 1) -> pd.DataFrame:
        """Weights of one `mm()` block: as `rmm.Fit.weights`, over the mixed draws.

        Known weights vary where their variables were imputed.

        Parameters
        ----------
        block : int
            Number of the `mm()` block, from 1.

        Returns
        -------
        pandas.DataFrame
        """
        table, member = self.fits[0].weights(block), self.fits[0].model.design.members[block - 1]
        chunks = [
            weight_chunks(fit.model, fit._part(block), block - 1, flat_draws(fit.run, fit.model))
            for fit in self.fits
        ]
        found = [spread(np.concatenate(some)) for some in zip(*chunks, strict=True)]
        for name in found[0]:
            values = np.concatenate([one[name] for one in found])
            table[name] = pd.Series(values, index=member.rows)
        return table

    def member_effects(self, block: int = 1) -> pd.DataFrame:
        """Random effects of the members, over the mixed draws, without columns of convergence.

        Parameters
        ----------
        block : int
            Number of the `mm()` block, from 1.

        Returns
        -------
        pandas.DataFrame
        """
        return self._mixed.member_effects(block).drop(columns=_OF_CHAINS, errors="ignore")

    def nesting_effects(self, block: int = 1) -> pd.DataFrame:
        """Random effects of the nesting units, over the mixed draws, as `member_effects`.

        Parameters
        ----------
        block : int
            Number of the `hm()` block, from 1.

        Returns
        -------
        pandas.DataFrame
        """
        return self._mixed.nesting_effects(block).drop(columns=_OF_CHAINS, errors="ignore")

    def variance_components(self) -> pd.DataFrame:
        """Variances and shares per level, over the mixed draws; see `rmm.Fit.variance_components`.

        Returns
        -------
        pandas.DataFrame
        """
        parts = [variance_draws(fit.model, fit.run) for fit in self.fits]
        return variance_table({k: np.concatenate([part[k] for part in parts]) for k in parts[0]})

    def plot(self, kind: str = "forest", **options: Any) -> Figure:
        """A figure of the mixed draws.

        Parameters
        ----------
        kind : {"forest", "effects"}
            Estimates with intervals; effects of members or nesting units.
        **options
            As for `rmm.Fit.plot`.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DataError
            For kinds that show the chains or the prior of one fit.
        """
        if kind not in _PLOTS:
            raise DataError(
                f"Pooled fits have the plots {' and '.join(map(repr, _PLOTS))}, not {kind!r}: "
                f"others show the chains or the prior of one fit. {_EACH}"
            )
        return self._mixed.plot(kind, **options)

    def warn(self) -> None:
        """Warn of fits that have not converged, and of too few tables."""
        failed = [str(k) for k, fit in enumerate(self.fits, start=1) if not fit.converged]
        if failed:
            warnings.warn(
                f"{counted(len(failed), 'fit')} of {len(self.fits)} have not converged: number "
                f"{', '.join(failed)}. Pooled draws contain theirs. See `fits[0].diagnostics()`.",
                ConvergenceWarning,
                stacklevel=4,
            )
        count, table = len(self.fits), self._table[self._shown]
        missing = table["missing"].fillna(0.0)
        # T is what missing and B/m give; mixed draws have 2 B/m less.
        ratio = np.sqrt(1 - 2 * missing / (count + 1))
        worst = str(ratio.idxmin())
        if ratio[worst] < _NARROW:
            warnings.warn(
                f"{count} tables are few: of {worst}, {missing[worst]:.0%} of the variance is due "
                f"to missing values, and the sd of the mixed draws is {1 - ratio[worst]:.0%} too "
                f"small, by Rubin's rules. Impute at least {_enough(missing[worst])} tables.",
                SpecificationWarning,
                stacklevel=4,
            )

    def __str__(self) -> str:
        table = formatted(self._table[self._shown]).to_string()
        return f"{self.fits[0].model.as_written}\n{self._headline()}\n\n{table}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What notebooks show: the same as text, as a table."""
        table = formatted(self._table[self._shown]).rename_axis(None).to_html(border=0)
        formula = f"<code>{escape(self.fits[0].model.as_written)}</code>"
        return f"<p>{formula}<br>{escape(self._headline())}</p>{table}"

    def _headline(self) -> str:
        return f"{counted(len(self.fits), 'fit')} of imputed tables, pooled; {self.fits[0].backend}"


def _enough(missing: float) -> int:
    """Tables with which the sd of mixed draws is `_NARROW` of that of Rubin's rules."""
    return int(np.ceil(2 * missing / (1 - _NARROW**2))) - 1


@readable(DataError)
def pool(fits: Sequence[Fit]) -> PooledFit:
    """Pool fits of multiply imputed tables: their draws are mixed, with equal shares.

    Fit the same model to each of the imputed tables, with the same options. Intervals need many
    tables, more than Rubin's rules do: see `rmm.posterior.comparison.pooling.PooledFit.summary`.

    Parameters
    ----------
    fits : sequence of Fit
        Two or more, of tables with the same groups and members.

    Returns
    -------
    PooledFit
        It has the summary, predictions, estimands, hypotheses, weights and effects of a fit. What
        is about one table, such as `loo`, is refused.

    Raises
    ------
    DataError
        If the fits differ in more than the values of their tables; the difference is named.

    Warns
    -----
    ConvergenceWarning
        If a fit has not converged.
    SpecificationWarning
        If, by Rubin's rules, the tables are so few that an sd is more than 2% too small.

    Examples
    --------
    >>> import numpy as np, rmm
    >>> rng = np.random.default_rng(1)
    >>> x = np.arange(40.0)
    >>> y = x + rng.normal(0, 5, 40)
    >>> imputed = [np.r_[x[:36], rng.normal(y[36:], 5)] for _ in range(20)]
    >>> fits = [rmm.fit("y ~ 1 + x", {"y": y, "x": x}, backend="laplace", seed=1) for x in imputed]
    >>> pooled = rmm.pool(fits)
    >>> list(pooled.summary(columns=["mean", "sd", "missing"]).index)
    ['b_l2[Intercept]', 'b_l2[x]', 'sigma_l2']
    """
    given = list(fits) if isinstance(fits, Sequence) and not isinstance(fits, str) else []
    if len(given) < 2 or not all(isinstance(fit, Fit) for fit in given):
        raise DataError(
            "`fits` must be a list of two or more fits, one for each imputed table: "
            "rmm.pool([rmm.fit(formula, table) for table in tables])."
        )
    check_same_model(given)
    pooled = PooledFit(tuple(given))
    pooled.warn()
    return pooled
