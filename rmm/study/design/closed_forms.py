"""Closed forms that simulated results must reproduce; a study asks for them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from rmm.simulation import Drawn
from rmm.simulation.outcomes.true_predictor import weights
from rmm.study.design.check_closed_forms import inside

Array = np.ndarray[Any, Any]


def disaggregation_type1(n: float, icc: float, alpha: float = 0.05) -> float:
    """Type-I error of least squares for a group's outcome copied to its n rows.

    The variance of the slope is 1 + (n - 1) rho_x times what least squares thinks, because the
    outcome's intra-group correlation is 1: Moulton (1986), Journal of Econometrics 32, 385-397.

    Parameters
    ----------
    n : float
        Rows per group.
    icc : float
        Intra-group correlation of the covariate.
    """
    z = special.ndtri(1 - alpha / 2)
    return float(2 * special.ndtr(-z / np.sqrt(1 + (n - 1) * icc)))


def aggregation_bias(covariance: Array, slopes: Array, error: Array) -> Array:
    """Relative bias of least squares where regressors are group means of n members.

    Croon & van Veldhoven (2007), Psychological Methods 12, 45-57: the mean of n members measures
    the group's value with variance of error var(nu) / n, so slopes go to
    (Sigma + E)^-1 Sigma beta.

    Parameters
    ----------
    covariance : (k, k) array
        Sigma, of the true regressors.
    slopes : (k,) array
        beta.
    error : (k,) array
        Diagonal of E: var(nu) / n, 0 for a regressor without error.

    Returns
    -------
    (k,) array
        (limit - beta) / beta.
    """
    limit = np.linalg.solve(covariance + np.diag(error), covariance @ slopes)
    return np.asarray(limit / slopes - 1)


def shared_members_size(
    matrix: Array, covariance: Array, column: int, alpha: float = 0.05
) -> float:
    """Type-I error of least squares where groups are correlated by the members they share.

    With V the covariance of the outcomes and A = (X'X)^-1, least squares estimates the variance
    of a slope by tr((I - XAX')V)/(G - p) A_kk on average; it is (A X'VX A)_kk.

    Parameters
    ----------
    matrix : (G, p) array
        X, of the drawn design.
    covariance : (G, G) array
        V = sigma^2 I + sigma_u^2 W W'.
    column : int
        k, the slope that is tested.
    """
    groups, p = matrix.shape
    inverse = np.linalg.inv(matrix.T @ matrix)
    sandwich = inverse @ (matrix.T @ covariance @ matrix) @ inverse
    hat = matrix @ inverse @ matrix.T
    thought = (np.trace(covariance) - np.sum(hat * covariance)) / (groups - p)
    ratio = np.sqrt(thought * inverse[column, column] / sandwich[column, column])
    return float(2 * special.ndtr(special.ndtri(alpha / 2) * ratio))


@dataclass(frozen=True)
class SharedMembersEffect:
    """How much shared members inflate the variance of a slope of least squares on group means.

    Attributes
    ----------
    effective_members : float
        Number of members, equally active and in many groups, who would inflate it as much.
    icc : float
        Share of the members' effects in the variance of the outcomes.
    design_effect : float
        True variance of the slope over the variance that least squares estimates.
    """

    effective_members: float
    icc: float
    design_effect: float

    def size(self, alpha: float = 0.05) -> float:
        """Type-I error of a test at level alpha that ignores the members."""
        z = special.ndtri(alpha / 2) / np.sqrt(self.design_effect)
        return float(2 * special.ndtr(z))


def shared_members_effect(shares: Any, sd_ratio: float) -> SharedMembersEffect:
    """Design effect of shared members for a covariate that is independent between members.

    `shared_members_size` for a drawn covariate, with expectations of numerator and denominator
    over the covariate: with W the weights after their column means are subtracted, C = WW' and
    r the ratio of standard deviations, it is (1 + r^2 tr(C^2)/tr(C)) / (1 + r^2 tr(C)/(G - 1)).
    This is Moulton's 1 + (m - 1) icc (1986, Journal of Econometrics 32, 385-397) with (G - 1)/K
    in the place of his m units per cluster, where K = tr(C)^2/tr(C^2) is the effective number of
    members.

    Parameters
    ----------
    shares : (G, K) array or sparse array
        Weights of the members in each group, 0 for other members; rows sum to 1.
    sd_ratio : float
        sd of the members' effects over that of the residuals.

    Returns
    -------
    SharedMembersEffect
    """
    # Late: reading a study file needs no libraries of fits.
    from scipy import sparse

    rows = sparse.csr_array(shares)
    groups = rows.shape[0]
    mean = np.asarray(rows.sum(axis=0)).ravel() / groups
    # Traces of the centred matrix from those of the sparse one.
    total = float((rows.data**2).sum() - groups * mean @ mean)
    square = float(((rows.T @ rows).data ** 2).sum())
    square += float((groups * mean @ mean) ** 2 - 2 * groups * np.sum((rows @ mean) ** 2))
    between = sd_ratio**2 * total / (groups - 1)
    icc = between / (1 + between)
    effective = total**2 / square
    return SharedMembersEffect(effective, icc, 1 + icc * ((groups - 1) / effective - 1))


# -- from a scenario -------------------------------------------------------------------------


@dataclass(frozen=True)
class ClosedForm:
    """One row of `CLOSED_FORMS`.

    Attributes
    ----------
    measure : str
        The measure that it is the value of.
    value : callable
        ``(scenario content, one drawn replication, parameter, alpha) -> value``, for cases without
        a reason in `rmm.study.design.check_closed_forms.REASONS`.
    """

    name: str
    measure: str
    source: str
    value: Callable[[Mapping[str, Any], Drawn, str, float], float]


def _disaggregation(
    content: Mapping[str, Any], drawn: Drawn, parameter: str, alpha: float
) -> float:
    icc = content["covariates"][inside(parameter)]["icc"]
    return disaggregation_type1(float(drawn.memberships.size[0]), icc, alpha)


def _aggregation(content: Mapping[str, Any], drawn: Drawn, parameter: str, alpha: float) -> float:
    covariates, truth = content["covariates"], drawn.truth
    names = [t.label for t in truth.spec.terms]
    measured = {c["around"]: n for n, c in covariates.items() if c.get("around")}
    size = drawn.memberships.size[0]
    sd = np.array([covariates[n]["sd"] for n in names])
    correlation = np.eye(len(names))
    for i, name in enumerate(names):
        for other, value in covariates[name]["correlation"].items():
            if not value:
                continue
            j = names.index(other)
            correlation[i, j] = correlation[j, i] = value
    errors = [covariates[measured[n]]["sd"] ** 2 / size if n in measured else 0 for n in names]
    slopes = np.array([truth.parameters[f"b_l2[{n}]"] for n in names])
    with np.errstate(divide="ignore", invalid="ignore"):  # of other slopes that are 0
        bias = aggregation_bias(correlation * np.outer(sd, sd), slopes, np.array(errors))
    return float(bias[[measured.get(n, n) for n in names].index(inside(parameter))])


def _shared(content: Mapping[str, Any], drawn: Drawn, parameter: str, alpha: float) -> float:
    """Means of members as regressors; the covariance follows from the weights of the truth."""
    m, truth = drawn.memberships, drawn.truth
    part = truth.spec.members[0]
    groups, b = m.counts["group"], truth.parameters
    shares = np.zeros((groups, m.counts["member"]))
    np.add.at(shares, (m.group, m.member), weights(part, b, m, drawn.columns))
    labels = [t.label for t in part.block.terms]
    plain = [t.label for t in truth.spec.terms]
    means = [np.add.reduceat(drawn.rows(x), m.start[:-1]) / m.size for x in labels]
    matrix = np.column_stack([np.ones(groups), *(drawn.by_group(z) for z in plain), *means])
    covariance = b["sigma_l2"] ** 2 * np.eye(groups) + b[part.sigma] ** 2 * shares @ shares.T
    column = 1 + [*plain, *labels].index(inside(parameter))
    return shared_members_size(matrix, covariance, column, alpha)


_ROWS = (
    ClosedForm(
        "disaggregation_type1",
        "rejection",
        "2(1 - Phi(z/sqrt(1+(n-1)rho))), Moulton (1986)",
        _disaggregation,
    ),
    ClosedForm("aggregation_bias", "relative_bias", "Croon & van Veldhoven (2007)", _aggregation),
    ClosedForm("shared_members_size", "rejection", "2(1 - Phi(z r)) for the drawn design", _shared),
)

#: Name -> closed form.
CLOSED_FORMS: dict[str, ClosedForm] = {row.name: row for row in _ROWS}
