"""Features of one `mm()` block on a table: their variables, and their values for any shares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rmm.design.columns.encode import atom_values
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members
from rmm.errors import DataError, counted
from rmm.formula.features import FEATURES, group_range, smooth_threshold, threshold_slope
from rmm.formula.terms import FeatureTerm
from rmm.tables.read import Array, first_varying

_DOMAINS = {"nonnegative": (">= 0", np.greater_equal), "positive": ("> 0", np.greater)}


@dataclass(frozen=True)
class FeatureArrays:
    """Arrays of one feature; M memberships of the block, J groups, S draws.

    Attributes
    ----------
    term : FeatureTerm
    x : (M,) array
        The variable; empty for a feature of the weights.
    start : (J+1,) int array
        Row pointer of the groups; a group without members has an empty segment, its feature is 0.
    slope : float
        Of a smooth threshold.
    prior : (location, scale)
        Of the normal prior of its estimated number.
    reference : (J,) array
        Its values where priors, centres and the check of collinearity look at it: at typical
        weights, and half a scale of the prior above its location, where `softmax` and `genmean`
        are not just the mean.
    center, scale : float
        What the program takes off, and the standard deviation of `reference`.
    """

    term: FeatureTerm
    x: Array
    start: Array
    slope: float
    prior: tuple[float, float]
    reference: Array
    center: float = 0.0

    @property
    def scale(self) -> float:
        """Standard deviation over groups, for the prior of the coefficient."""
        return float(np.std(self.reference, ddof=1))

    def of(self, rows: Array, start: Array, groups: Array) -> FeatureArrays:
        """The arrays of some groups: their memberships `rows`, and their row pointer."""
        x = self.x[rows] if self.term.atom is not None else self.x
        return replace(self, x=x, start=start, reference=self.reference[groups])

    def values(self, share: Array, number: Array | float | None = None) -> Array:
        """The feature of each group.

        Parameters
        ----------
        share : (M,) or (S, M) array
            Weights over the sums of their groups.
        number : float or (S, 1) array, optional
            The estimated number, if it has one.

        Returns
        -------
        (J,) or (S, J) array
        """
        segments = np.unique(self.start)
        if len(segments) < 2:  # no group has a member of the block's kind
            return np.zeros((*share.shape[:-1], len(self.start) - 1))
        row, given = FEATURES[self.term.function], self.term.value
        if self.term.function == "threshold" and given is None:
            assert number is not None
            found = smooth_threshold(share, self.x, number, segments, self.slope)
        else:
            inner = given if given is not None else 0.0 if number is None else number
            found = row.values(share, self.x, inner, segments)
        out = np.zeros((*found.shape[:-1], len(self.start) - 1))
        out[..., np.flatnonzero(np.diff(self.start))] = found
        return out

    @property
    def ranges(self) -> tuple[Array, Array, Array]:
        """(M,) x less its group's middle, (J,) middle and (J,) half range; of log x in `genmean`.

        See `rmm.formula.features.group_range`. For blocks in which every group has a member.
        """
        x = np.log(self.x) if self.term.function == "genmean" else self.x
        middle, half = group_range(x, self.start)
        return x - np.repeat(middle, np.diff(self.start)), middle, half


def build_feature(
    term: FeatureTerm,
    units: Members,
    grouped: Grouped,
    share: Array,
    fitted: FeatureArrays | None = None,
    *,
    check: bool = True,
) -> FeatureArrays:
    """The arrays of a feature.

    Parameters
    ----------
    term : FeatureTerm
    units : Members
    grouped : Grouped
        For the names of groups.
    share : (M,) array
        Weights over the sums of their groups, known or typical ones.
    fitted : FeatureArrays, optional
        The feature in the fit, whose slope of a smooth threshold and whose prior count.
    check : bool
        Whether the variable must vary within groups, as in a fit.

    Raises
    ------
    DataError
        If the variable is not numeric, outside the feature's domain or constant within groups.
    """
    x = np.zeros(0)
    if term.atom is not None and len(units.table):
        x = atom_values(term.atom, units.table)
    _check_domain(term, x, units.table.index)
    if check and term.atom is not None and first_varying(x, units.group) is None:
        raise DataError(
            f"`{term.label}` needs differences between the members of a group, but "
            f"{term.atom.label} is constant within every group. Use {term.atom.label} outside mm()."
        )
    prior, slope = (fitted.prior, fitted.slope) if fitted is not None else _constants(term, x)
    empty = FeatureArrays(term, x, units.start, slope, prior, np.zeros(0))
    reference = empty.values(share, prior[0] + 0.5 * prior[1])
    bad = ~np.isfinite(reference)
    if bad.any():
        group = grouped.groups.labels[int(np.argmax(bad))]
        raise DataError(
            f"`{term.label}` is not a finite number in {counted(int(bad.sum()), 'group')}; the "
            f"first is {group}. For shares, the sum in a group must not be 0."
        )
    return FeatureArrays(term, x, units.start, slope, prior, reference)


def _constants(term: FeatureTerm, x: Array) -> tuple[tuple[float, float], float]:
    """Prior of the number that is estimated, and the slope of a smooth threshold."""
    prior_of = FEATURES[term.function].prior
    prior = prior_of(x) if term.parameter is not None and prior_of is not None else (0.0, 1.0)
    return prior, threshold_slope(x) if term.function == "threshold" else 0.0


def _check_domain(term: FeatureTerm, x: Array, rows: Array) -> None:
    domain = FEATURES[term.function].domain
    if domain not in _DOMAINS or term.atom is None:
        return
    text, inside = _DOMAINS[domain]
    outside = ~inside(x, 0)
    if outside.any():
        first = int(np.argmax(outside))
        raise DataError(
            f"`{term.label}` needs {term.atom.label} {text}. This is not so in "
            f"{counted(int(outside.sum()), 'row')}; the first is row "
            f"{int(rows[first]) + 1}, with the value {x[first]:g}. Shift or transform the "
            "variable, or use another feature."
        )
