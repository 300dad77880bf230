"""Fits averaged: draws of several models, each in proportion to its weight.

By evidence the weights are posterior probabilities of the models (Hoeting, Madigan, Raftery and
Volinsky 1999, Statistical Science 14, 382-417): right if one of them is. By stacking they are those
of the best predictions of left-out groups (Yao, Vehtari, Simpson and Gelman 2018, Bayesian Analysis
13, 917-1007): none needs to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import xarray

from rmm.arguments import readable, readable_methods
from rmm.errors import DataError, counted
from rmm.posterior.comparison.bayes_factors import bayes_factor
from rmm.posterior.comparison.compare import compare
from rmm.posterior.fit import Fit
from rmm.posterior.prediction.predict import probability_table, table

WAYS = ("stacking", "evidence")
_LEAST = 1e-6  # weight of a model that is left out: no draw would be its own


@readable_methods(DataError)
@dataclass(frozen=True)
class AverageFit:
    """Several fits of the same outcomes, each with a weight.

    Attributes
    ----------
    fits : mapping of str to Fit
    weights : pandas.Series
        Of the models, by name; they sum to one.
    by : str
        ``"stacking"``, ``"evidence"`` or ``"given"``.
    """

    fits: Mapping[str, Fit]
    weights: pd.Series
    by: str

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
        """Predictions of the mixture.

        Parameters
        ----------
        newdata, kind, effects, new, draws, seed
            As for `rmm.Fit.predict`.

        Returns
        -------
        pandas.DataFrame or xarray.DataArray
            One row per group (or per group and level), as of a fit; with `draws` an array
            (draw, group) whose coordinate ``model`` says whose draw it is.
        """
        return self._mixed("predict", draws, newdata, kind, effects=effects, new=new, seed=seed)

    def estimand(self, *arguments: Any, draws: bool = False, **named: Any) -> Any:
        """An estimand of the mixture.

        Parameters
        ----------
        *arguments, draws, **named
            As for `rmm.Fit.estimand`.

        Returns
        -------
        pandas.DataFrame or xarray.DataArray
        """
        return self._mixed("estimand", draws, *arguments, **named)

    def _mixed(self, method: str, draws: bool, *arguments: Any, **named: Any) -> Any:
        """Draws that a method of all fits gives, in proportion to the weights."""
        parts = {}
        for name, share in self._shares().items():
            some = _with_some_draws(self.fits[name], share)
            parts[name] = getattr(some, method)(*arguments, draws=True, **named)
        return mixture(parts, "model", draws)

    def parts(self) -> list[Fit]:
        """The fits with as many evenly spaced draws, as one chain, as their weights give them."""
        return [_with_some_draws(self.fits[name], n) for name, n in self._shares().items()]

    def _shares(self) -> dict[str, int]:
        """Draws of each model: as many in all as the smallest of the fits has."""
        fits = self.fits.values()
        count = min(fit.settings.chains * fit.settings.draws for fit in fits)
        exact = self.weights[self.weights > _LEAST] * count
        whole = np.floor(exact).astype(int)
        left = exact - whole
        rest = round(exact.sum()) - int(whole.sum())
        whole[left.sort_values(ascending=False, kind="stable").index[:rest]] += 1
        return {str(name): int(one) for name, one in whole.items() if one > 0}

    def __str__(self) -> str:
        lines = [f"{name:40} {share:.3f}" for name, share in self.weights.items()]
        return "\n".join([self._headline(), *lines])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What notebooks show: the same as text, as a table."""
        weights = self.weights.to_frame().rename_axis(None)
        table = weights.to_html(header=False, float_format="{:.3f}".format, border=0)
        return f"<p>{escape(self._headline())}</p>{table}"

    def _headline(self) -> str:
        return f"Average of {counted(len(self.fits), 'fit')}, weights by {self.by}"


def mixture(parts: Mapping[Any, xarray.DataArray], kind: str, draws: bool) -> Any:
    """Draws of several fits, one below the other, or a table of their mixture.

    Parameters
    ----------
    parts : mapping of xarray.DataArray
        Fit -> its draws (chain, draw, ...), with the same labels.
    kind : str
        Name of the coordinate that says whose draw it is.
    draws : bool
        Whether to give all draws.
    """
    first = next(iter(parts.values()))
    dims = [str(dim) for dim in first.dims if dim not in ("chain", "draw")]
    coords = {dim: first.coords[dim] for dim in dims if dim in first.coords}
    flat = []
    for part in parts.values():
        same = part.sel(coords).transpose("chain", "draw", *dims).to_numpy()
        flat.append(same.reshape(-1, *same.shape[2:]))
    values = np.concatenate(flat)
    if draws:
        whose = [name for name, part in zip(parts, flat, strict=True) for _ in range(len(part))]
        every = {**coords, "draw": np.arange(len(values)), kind: ("draw", whose)}
        return xarray.DataArray(values, dims=("draw", *dims), coords=every)
    if not dims:  # one number
        return table(np.array([first.name]), values[:, None]).rename_axis("estimand")
    labels = [first.coords[dim].to_numpy() for dim in dims]
    if len(dims) == 2:  # probabilities of the levels of each group
        return probability_table(labels[0], labels[1], values)
    rows = table(labels[0], values)
    return rows.rename_axis(dims[0])


def _with_some_draws(fit: Fit, wanted: int) -> Fit:
    """The fit with evenly spaced draws of all its chains, as one chain."""
    draws = {}
    for name, values in fit.run.draws.items():
        flat = values.reshape(-1, *values.shape[2:])
        places = np.floor((np.arange(wanted) + 0.5) * len(flat) / wanted).astype(int)
        draws[name] = flat[places][None]
    settings = replace(fit.settings, chains=1, draws=wanted)
    return replace(fit, run=replace(fit.run, draws=draws), settings=settings)


@readable(DataError)
def average(
    fits: Mapping[str, Fit],
    by: str = "stacking",
    *,
    weights: Mapping[str, float] | None = None,
) -> AverageFit:
    """Average fits: their draws are mixed, each in proportion to a weight.

    Parameters
    ----------
    fits : mapping of str to Fit
        Two or more, of the same outcomes of the same groups.
    by : {"stacking", "evidence"}
        How the weights are found: by `rmm.compare`, of all draws, or by `rmm.bayes_factor`.
    weights : mapping of str to float, optional
        Your own weights instead, in any proportion.

    Returns
    -------
    AverageFit
        It predicts, and has estimands, as a fit has.

    Raises
    ------
    DataError
        If the fits are not of the same outcomes.

    Examples
    --------
    >>> import rmm
    >>> data = {"y": [1.1, 1.9, 3.2, 3.8, 5.1, 6.0, 6.9, 8.2], "x": [1.0, 2, 3, 4, 5, 6, 7, 8]}
    >>> fits = {f: rmm.fit(f, data, backend="laplace", seed=1) for f in ("y ~ 1", "y ~ 1 + x")}
    >>> both = rmm.average(fits, weights={"y ~ 1": 1, "y ~ 1 + x": 3})
    >>> both.weights["y ~ 1 + x"]
    np.float64(0.75)
    >>> list(both.predict({"x": [3.0]}).columns)
    ['mean', 'sd', 'q2.5', 'median', 'q97.5']
    """
    if not isinstance(by, str) or by not in WAYS:
        raise DataError(f"`by` must be one of {', '.join(WAYS)}, not {by!r}.")
    if weights is not None:
        found, by = _given(fits, weights), "given"
    elif by == "evidence":
        found = bayes_factor(fits).table["probability"]
    else:
        found = compare(fits)["weight"]
    found = found.reindex(list(fits)).astype(float)
    return AverageFit(dict(fits), found / found.sum(), by)


def _given(fits: Any, weights: Mapping[str, float]) -> pd.Series:
    """The user's weights, one for each fit."""
    if not isinstance(weights, Mapping) or set(weights) != set(fits):
        raise DataError(
            f"`weights` must have a number for each of the fits ({', '.join(map(repr, fits))})."
        )
    found = pd.Series({name: float(value) for name, value in weights.items()})
    if not (np.isfinite(found).all() and (found >= 0).all() and found.sum() > 0):
        raise DataError("`weights` must be numbers of 0 or more, at least one of them above 0.")
    return found
