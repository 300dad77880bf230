"""What can be asked of a fit: predictions, cross-validation, variances, checks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray

from rmm.arguments import check_seed, readable_methods
from rmm.backends.base import Run, Settings
from rmm.design.columns.outcome import outcome_parts
from rmm.design.prepare import Model
from rmm.errors import BackendError, SpecificationWarning
from rmm.posterior.draw_estimates import Estimates
from rmm.posterior.draws import structural_draws, text_labels, to_datatree
from rmm.posterior.estimands import as_array, as_table, estimate, split_spec
from rmm.posterior.estimands.quantity import Source
from rmm.posterior.inference.hypotheses.evidence_of_hypotheses import Hypotheses, hypotheses_of
from rmm.posterior.inference.prior_checks.power_scaling import PriorSensitivity, of_fit
from rmm.posterior.prediction.cross_validation import (
    Pointwise,
    Refits,
    loo,
    relative_size,
    waic,
)
from rmm.posterior.prediction.effect_tables import effect_table
from rmm.posterior.prediction.explained_variance import explained_variance
from rmm.posterior.prediction.linear_predictor import Totals, flat_draws, weight_totals
from rmm.posterior.prediction.predict import (
    level_labels,
    log_likelihood,
    predict,
    probability_table,
    table,
    unit_labels,
)
from rmm.posterior.prediction.predictive_checks import check, in_order_of_predictions
from rmm.posterior.prediction.variance_components import variance_components
from rmm.tables.read import Array

if TYPE_CHECKING:
    import xarray


@readable_methods(BackendError)
class AfterFit:
    """The methods of `rmm.Fit` that need posterior draws and the model, nothing else."""

    model: Model
    run: Run
    program: str
    backend: str
    settings: Settings
    own_program: bool

    @cached_property
    def draws(self) -> xarray.DataTree:
        """ArviZ DataTree: posterior, sample_stats, observed_data, constant_data."""
        return to_datatree(self.run, self.model)

    @cached_property
    def _estimates(self) -> Estimates:
        return Estimates(self.model, self.run, self.own_program)

    @cached_property
    def _contraction(self) -> pd.DataFrame:
        """Contraction of each structural parameter, and whether it is of interquartile ranges."""
        value, quartiles = self._estimates.contraction
        index = pd.Index(self._estimates.elements.labels, name="parameter")
        return pd.DataFrame({"contraction": value, "quartiles": quartiles}, index=index)

    @cached_property
    def _weight_totals(self) -> Totals:
        """See `weight_totals`; computed once, since it takes all rows of the fit."""
        return weight_totals(self.model, flat_draws(self.run, self.model))

    def _seed(self, seed: int | None) -> int:
        check_seed(seed, BackendError)
        return self.settings.seed if seed is None else seed

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
        """Predictions for the groups of the fit, or for new groups.

        New groups are made of known and new members, in known and new nesting units. Categories,
        `transform=`, and the total of weights under constraint 2 are those of the fit; group
        sizes and group aggregates are those of the new table.

        Parameters
        ----------
        newdata : frame, table, mapping or path, optional
            One row per membership, with the formula's columns; the outcome may be left out.
        kind : {"mean", "outcome", "linear", "probability"}
            Expected outcome, a new outcome (its own noise included), the linear predictor or, of
            family ordinal, the probability of each level. Levels that are text count from 1 in the
            expected and the new outcome, whole numbers as themselves. Of
            ``cbind(successes, failures)`` the outcome is the number of successes. `newdata` with
            both columns gives the trials, their sum; without them each group has one trial, so
            that the mean is a probability.
        effects : {"all", "known", "none"}
            ``"all"``: new members and units have effects drawn from N(0, sigma^2) of each draw,
            the same for a member in all its groups; ``"known"``: effects of new ones are 0;
            ``"none"``: all member and nesting effects are 0. With a known covariance of the members
            (`cov =`) new members have the distribution, or expectation, given those of the fit. So
            have members at new times with `ar = ar1(time)`.
        new : bool, id or list of ids
            Members and nesting units of `newdata` that may be new: True for all. Other ids that
            the fit does not have are predicted as new, too, with a warning that lists them: they
            may be misspelt.
        draws : bool
            Whether to give all draws.
        seed : int, optional
            Of new effects and new outcomes; default: the fit's.

        Returns
        -------
        pandas.DataFrame or xarray.DataArray
            One row per group, sorted: mean, sd, q2.5, median, q97.5; with `draws` an array
            (chain, draw, group). Of probabilities one row per group and level (index ``group``,
            ``level``), the lowest level first; with `draws` (chain, draw, group, level).

        Raises
        ------
        DataError
            For columns, levels or units with fixed effects that the fit does not know, and ids in
            `new` that it knows.
        BackendError
            If the fit did not keep effects that are needed (monitor="structural").

        Warns
        -----
        SpecificationWarning
            For members and nesting units that the fit does not know, and that are not in `new`.

        Examples
        --------
        >>> import rmm
        >>> data = {"y": [1.0, 2.0, 3.0, 4.0, 6.0], "x": [0.0, 1.0, 2.0, 3.0, 4.0]}
        >>> fit = rmm.fit("y ~ 1 + x", data, backend="laplace", seed=1)
        >>> new = fit.predict({"x": [0.0, 10.0]})
        >>> list(new.columns)
        ['mean', 'sd', 'q2.5', 'median', 'q97.5']
        >>> new["mean"].diff().iloc[1] > 8
        np.True_
        >>> fit.predict(draws=True).dims
        ('chain', 'draw', 'group')
        """
        chosen = self._seed(seed)
        totals = None if newdata is None else self._weight_totals
        labels, values = predict(
            self.model, self.run, newdata, kind, effects, chosen, totals, expected=new
        )
        if kind == "probability":
            levels = level_labels(self.model)
            if not draws:
                return probability_table(labels, levels, values)
            each = [self._array(values[:, :, k], "group", labels) for k in range(len(levels))]
            return xarray.concat(each, dim=xarray.Variable("level", text_labels(levels))).transpose(
                "chain", "draw", "group", "level"
            )
        return self._array(values, "group", labels) if draws else table(labels, values)

    def log_likelihood(self) -> xarray.DataArray:
        """Pointwise log likelihood (chain, draw, unit); units are groups, or strata.

        It is then the group ``log_likelihood`` of `draws` too.
        """
        dim = self.model.spec.family.unit
        values = log_likelihood(self.model, self.run)
        found = self._array(values, dim, unit_labels(self.model)).rename("log_likelihood")
        self.draws["log_likelihood"] = xarray.DataTree(xarray.Dataset({"y": found}))
        return found

    def posterior_predictive(self, seed: int | None = None) -> xarray.DataArray:
        """New outcomes of the fit's groups (chain, draw, group), not censored.

        They are then the group ``posterior_predictive`` of `draws` too.

        Parameters
        ----------
        seed : int, optional
            Default: the fit's.

        Returns
        -------
        xarray.DataArray
            In the unit of the outcome; durations in that of the time column.
        """
        found = self.predict(kind="outcome", draws=True, seed=seed).rename("posterior_predictive")
        self.draws["posterior_predictive"] = xarray.DataTree(xarray.Dataset({"y": found}))
        return found

    def _pointwise(self) -> Pointwise:
        """The log likelihood, and how dependent the draws of structural parameters are.

        Raises
        ------
        BackendError
            With observation weights.
        """
        if self.model.spec.family.observation_weights:
            raise BackendError(
                "loo() and waic() are not available with observation weights: a density to the "
                "power of a weight is not that of an outcome that could be left out. If weights "
                "are counts, repeat the rows of the table, or compare fits by rmm.bayes_factor()."
            )
        return Pointwise(
            log_likelihood(self.model, self.run),
            self.model.spec.family.unit,
            text_labels(unit_labels(self.model)),
            relative_size(structural_draws(self.run, self.model).values),
        )

    def loo(self, *, refit: bool = False) -> Any:
        """Leave-one-out cross-validation by Pareto-smoothed importance sampling.

        Vehtari, Gelman and Gabry (2017), Statistics and Computing 27, 1413-1432, section 2; k^ and
        its threshold: Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72).

        The unit left out is the group, or the stratum of family condlogit, given the effects of
        its members: prediction for another such group of known members.

        Parameters
        ----------
        refit : bool
            Fit again without each unit whose Pareto k is above the threshold (0.7 from 2,200
            draws up), with the fit's program, priors and settings: exact for these.

        Returns
        -------
        arviz_stats.ELPDData
            Pointwise: ``elpd``, ``se``, ``p``, ``elpd_i``, ``pareto_k`` (0 where refitted).

        Warns
        -----
        SpecificationWarning
            Without `refit`, names the units whose Pareto k is too large.
        ConvergenceWarning
            Names the units whose refits have not converged, or whose weights are not to be
            trusted.
        """
        refits = Refits(self.model, self.program, self.settings, self.backend)
        return loo(self._pointwise(), refits if refit else None)

    def waic(self) -> Any:
        """The widely applicable information criterion; see `waic`."""
        return waic(self._pointwise())

    def variance_components(self) -> pd.DataFrame:
        """Variances and shares per level; see `variance_components`."""
        return variance_components(self.model, self.run)

    def estimand(
        self, name_or_spec: Any, *, draws: bool = False, seed: int | None = None, **options: Any
    ) -> Any:
        """A quantity on a scale that can be reported and compared between models.

        Definitions, formulas and the options of each: page "Estimands" of the reference.

        Parameters
        ----------
        name_or_spec : str or mapping
            ``"largest_weight"``, ``"member_weight"``, ``"effective_members"``,
            ``"variance_share"``, ``"marginal_effect"``, ``"contrast"`` or ``"rank"``; or name and
            options as in a study file: ``{"estimand": "largest_weight", "by": "power"}``.
        draws : bool
            Whether to give all draws.
        seed : int, optional
            Of effects of new members and of baseline hazards; default: the fit's.
        **options
            Those of the estimand, such as ``by="power"``.

        Returns
        -------
        pandas.DataFrame or xarray.DataArray
            A row per group, member, component, ..., or one row: mean, sd, q2.5, median, q97.5.
            With `draws` an array (chain, draw, ...).

        Raises
        ------
        BackendError
            For unknown names and options, and what the model or the family does not have.
        DataError
            For members, groups, columns and levels that the fit does not know.

        Examples
        --------
        >>> import rmm
        >>> data = {"y": [1.0, 2.0, 3.0, 4.0, 6.0], "x": [0.0, 1.0, 2.0, 3.0, 4.0]}
        >>> fit = rmm.fit("y ~ 1 + x", data, backend="laplace", seed=1)
        >>> effect = fit.estimand("marginal_effect", variable="x")
        >>> 1.0 < effect.loc["marginal_effect", "mean"] < 1.4
        np.True_
        """
        name, chosen = split_spec(name_or_spec, options)
        found = estimate(Source(self.model, self.run, self._seed(seed)), name, chosen)
        if draws:
            return as_array(name, found, next(iter(self.run.draws.values())).shape[0])
        return as_table(name, found)

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
        """The expected outcome over one or two covariates, the others at mean or base level.

        Parameters
        ----------
        variable, values, at, points
            See `rmm.posterior.prediction.conditional_effects.reference_groups`.
        by : str, optional
            A second covariate, such as the other one of an interaction.
        by_values : array-like, optional
            Its values; default: all levels of a category, or the mean of a number and one standard
            deviation below and above it.
        kind : {"mean", "linear", "outcome", "probability", "weight"}, optional
            Default: ``"mean"``; ``"linear"`` for families with strata, whose expectation hangs on
            the other choices; ``"probability"`` of each level for family ordinal. ``"weight"``:
            the weight of one member whose weight variable is moved, the other members of its group
            at the reference.
        effects : {"none", "all"}
            ``"none"``: effects are 0; ``"all"``: new members and units, with their variation.

        Returns
        -------
        pandas.DataFrame
            Index `variable`, or (`by`, `variable`), of probabilities with ``level`` as the last;
            columns mean, sd, q2.5, median, q97.5.

        Raises
        ------
        DataError
            If a column is no predictor, or, with ``kind="weight"``, no weight variable.
        """
        options = {"values": values, "at": at, "points": points}
        return effect_table(self, variable, by, by_values, kind, effects, options)

    def check(self, kind: str = "auto", seed: int | None = None) -> pd.DataFrame:
        """A posterior predictive check as a table.

        Parameters
        ----------
        kind : {"auto", "statistics", "survival"}
            ``"statistics"``: mean, sd, least and greatest outcome, or the share of ones, in the
            data and in replications; ``"survival"``: Kaplan-Meier curve and bands of replications.
        seed : int, optional
            Of the replications; default: the fit's.

        Returns
        -------
        pandas.DataFrame
            See `statistics` and `survival`.
        """
        grouped, outcome = self.model.grouped, self.model.spec.formula.outcome
        with warnings.catch_warnings():  # which label is 1 was reported by the fit
            warnings.simplefilter("ignore", SpecificationWarning)
            parts: tuple[Array, ...] = (
                (self.model.design.outcome["y"],)
                if self.model.spec.family.ordered
                else outcome_parts(outcome, self.model.spec.family, grouped.first_rows)
            )
        chosen = self._seed(seed)
        _, new = predict(self.model, self.run, None, "outcome", "all", chosen)
        return check(kind, outcome.kind, in_order_of_predictions(self.model, parts), new)

    def r2(self) -> pd.DataFrame:
        """Bayesian R2: marginal, of each kind of effects, and conditional.

        See `rmm.posterior.prediction.explained_variance.explained_variance`.
        """
        return explained_variance(self.model, self.run)

    def prior_sensitivity(
        self, priors: str | Sequence[str] | None = None, *, refit: bool = False
    ) -> PriorSensitivity:
        """How much each parameter depends on the priors and on the likelihood, by power scaling.

        Kallioinen, Paananen, Bürkner and Vehtari (2024), Statistics and Computing 34, 57. Priors of
        coefficients and hyperparameters are scaled, not the distribution of effects given their
        standard deviation, which is part of the model. No engine runs (without `refit`).

        Draws of backend ``"laplace"`` have been resampled by their weights, so that some are equal.
        Estimates stay consistent; their errors, and the limit of Pareto k, are those of the
        effective draws (``ess_bulk``), not of all.

        Parameters
        ----------
        priors : str or sequence of str, optional
            Scale the priors of these parameters alone (``"b_w"``, ``["b_l1[x]", "sigma_l1"]``);
            default all.
        refit : bool
            Compute the means with weaker and stronger priors by two fits, not by weights.

        Returns
        -------
        PriorSensitivity
            Printed, it is a table; `table` is the data frame.

        Raises
        ------
        PriorError
            For unknown names, if no prior can be scaled, or the fit is of a program of your own.
        BackendError
            With fewer than 100 draws.

        Examples
        --------
        >>> import rmm
        >>> data = {"y": [1.0, 2.0, 3.0, 4.0, 6.0], "x": [0.0, 1.0, 2.0, 3.0, 4.0]}
        >>> fit = rmm.fit(
        ...     "y ~ 1 + x", data, priors={"b_l2[x]": "normal(0, 0.1)"}, backend="laplace", seed=1
        ... )
        >>> "b_l2[x]" in fit.prior_sensitivity().sensitive
        True
        """
        return of_fit(self, priors, refit)

    def hypothesis(self, *hypotheses: str | Sequence[str], prob: float = 0.95) -> Hypotheses:
        """Probabilities and Bayes factors of hypotheses about parameters.

        ``"b_l1[x] > 0.2"``: posterior probability, and the evidence ratio against the complement.
        ``"b_w[b1] = 0"``: the Savage-Dickey density ratio, posterior over prior density at the
        point; the posterior's is estimated by an exponential family of splines about a normal
        distribution. ``"-0.1 < b_l1[x] < 0.1"``: a region of practical equivalence (ROPE). All may
        be about linear combinations: ``"2*b_l2[a] - b_l2[b] = 0"``.

        Parameters
        ----------
        *hypotheses : str or sequence of str
            Names as in ``fit.summary().index``.
        prob : float
            Probability of the interval, and of the highest density interval of a ROPE.

        Returns
        -------
        Hypotheses
            Printed, it is a table; `table` is the data frame.

        Raises
        ------
        FormulaError
            For a text that is no hypothesis; with a caret under the place.
        BackendError
            For a point, with fewer than 50 effective draws.

        Examples
        --------
        >>> import rmm
        >>> data = {"y": [1.0, 2.0, 3.0, 4.0, 6.0], "x": [0.0, 1.0, 2.0, 3.0, 4.0]}
        >>> fit = rmm.fit("y ~ 1 + x", data, backend="laplace", seed=1)
        >>> found = fit.hypothesis("b_l2[x] > 0", "b_l2[x] = 0", "0.8 < b_l2[x] < 1.6")
        >>> found.table.loc["b_l2[x] > 0", "probability"] > 0.95
        np.True_
        """
        return hypotheses_of(self, hypotheses, prob)

    def _array(self, values: Array, dim: str, labels: Array) -> xarray.DataArray:
        """(S, units) as (chain, draw, unit)."""
        chains = next(iter(self.run.draws.values())).shape[0]
        shaped = values.reshape(chains, -1, values.shape[1])
        coords = {
            "chain": np.arange(chains),
            "draw": np.arange(shaped.shape[1]),
            dim: text_labels(labels),
        }
        return xarray.DataArray(shaped, dims=("chain", "draw", dim), coords=coords)
