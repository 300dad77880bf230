"""Conditional logit: one group is chosen in each stratum, P(j) = exp(eta_j) / sum exp(eta).

McFadden (1974), "Conditional logit analysis of qualitative choice behavior". Whatever is constant
within strata cancels, so there is no intercept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.errors import DataError, counted
from rmm.families.base import Array, Curvature, Family, KernelOutcome, Outcome, Parts, Values
from rmm.families.binomial import logit_widths, read_binary


def _read_outcome(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
    assert strata is not None, "needs_strata"
    y = read_binary(label, parts[0])
    names, stratum = np.unique(strata, return_inverse=True)
    size, chosen = np.bincount(stratum), np.bincount(stratum, y)
    wrong = np.flatnonzero((size < 2) | (chosen != 1))
    if len(wrong):
        first = wrong[0]
        more = f" ({len(wrong)} strata are wrong)" if len(wrong) > 1 else ""
        raise DataError(
            f"Stratum {names[first]} has {counted(int(size[first]), 'group')}, and "
            f"{chosen[first]:g} of them {'has' if chosen[first] == 1 else 'have'} `{label}` = "
            f"1{more}. Every stratum needs two or more groups, and exactly one with `{label}` = 1. "
            "Correct or drop strata that are different."
        )
    return {"y": y, **_by_stratum(stratum), **_choice(y, stratum)}


def _by_stratum(stratum: Array) -> dict[str, Any]:
    """Groups one stratum after the other; indices are those of programs, from 1."""
    size = np.bincount(stratum)
    return {
        "S": len(size),
        "stratum": stratum + 1,
        "by_stratum": np.argsort(stratum, kind="stable") + 1,
        "stratum_start": np.concatenate([[0], np.cumsum(size)]) + 1,
    }


def _choice(y: Array, stratum: Array) -> dict[str, Array]:
    """(S,) chosen group of each stratum, and its place within the stratum; from 1."""
    order = np.argsort(stratum, kind="stable")
    first = np.searchsorted(stratum[order], np.arange(len(np.bincount(stratum))))
    at = np.flatnonzero(y[order] == 1)  # one in each stratum
    return {"chosen": order[at] + 1, "place": at - first + 1}


def _new_outcome(
    outcome: Outcome, parts: Parts | None, strata: Array | None, count: int
) -> dict[str, Any]:
    if strata is None:
        raise DataError(
            "The new table needs the column of strata(), because a choice is made between the "
            "groups of a stratum."
        )
    return _by_stratum(np.unique(strata, return_inverse=True)[1])


def _some_groups(outcome: Outcome, groups: Array) -> dict[str, Any]:
    stratum = np.unique(outcome["stratum"][groups], return_inverse=True)[1]
    y = outcome["y"][groups]
    return {"y": y, **_by_stratum(stratum), **_choice(y, stratum)}


def _scale(outcome: Outcome) -> tuple[float, float]:
    return 0.0, 1.0


def _sorted(eta: Array, outcome: Outcome) -> tuple[Array, Array, Array]:
    """Predictors stratum by stratum (S, J), first place and code of the strata."""
    order = outcome["by_stratum"] - 1
    return eta[:, order], outcome["stratum_start"][:-1] - 1, outcome["stratum"][order] - 1


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    by_stratum, first, _ = _sorted(eta, outcome)
    total = np.logaddexp.reduceat(by_stratum, first, axis=1)
    return np.asarray(eta[:, outcome["chosen"] - 1] - total)


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    by_stratum, first, _ = _sorted(eta, outcome)
    total = np.logaddexp.reduceat(by_stratum, first, axis=1)
    return np.asarray(np.exp(eta - total[:, outcome["stratum"] - 1]))


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    """The Hessian of a stratum is that of a multinomial outcome: p p' less the diagonal of p."""
    p = _mean(eta, values, outcome)
    order, first = outcome["by_stratum"] - 1, outcome["stratum_start"][:-1] - 1

    def shared(s: int, rows: Array) -> Array:
        return np.add.reduceat(p[s, order, None] * rows[order], first, axis=0)

    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, outcome["y"] - p, p, shared)


def _kernel(outcome: Outcome) -> KernelOutcome:
    return KernelOutcome(3, outcome["y"], strata=outcome["stratum"] - 1)


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    """The largest of eta_j plus a Gumbel variate is chosen, which has these probabilities."""
    utility, first, code = _sorted(eta + rng.gumbel(size=eta.shape), outcome)
    chosen = utility == np.maximum.reduceat(utility, first, axis=1)[:, code]
    out = np.empty_like(chosen, dtype=np.int64)
    out[:, outcome["by_stratum"] - 1] = chosen
    return out


def _residual_variance(values: Values, outcome: Outcome) -> float:
    """Variance of the standard Gumbel distribution, pi^2/6."""
    return float(np.pi**2 / 6)


CONDLOGIT = Family(
    name="condlogit",
    binary=True,
    outcome_kinds=("plain",),
    intercept=False,
    parameters=(),
    read_outcome=_read_outcome,
    scale=_scale,
    widths=logit_widths,
    log_likelihood=_log_likelihood,
    mean=_mean,
    draw=_draw,
    residual_variance=_residual_variance,
    check="shares",
    in_words=("choices within strata (conditional logit)", "the log odds of a choice change"),
    like_residual=(
        "With choices, such effects cannot be separated from chance. The data can estimate the "
        "coefficients (b_*) only relative to the total spread. The posterior of {which} is mostly "
        "its prior, and all coefficients grow with {which}. Predicted probabilities are not "
        "affected."
    ),
    separated="the choices of `{label}` are separated",
    separation="condlogit",
    curvature=_curvature,
    kernel=_kernel,
    stan_data="int<lower=1> S;  // number of strata\n"
    "array[J] int<lower=1, upper=J> by_stratum;  // groups, one stratum after the other\n"
    "// place of the first group of each stratum in by_stratum; the last element is J + 1\n"
    "array[S + 1] int<lower=1> stratum_start;\n"
    "array[S] int<lower=1, upper=J> chosen;  // group that is chosen in each stratum",
    stan_model="""// likelihood: P(group j is chosen) = exp(eta[j]) / sum of exp(eta) in stratum
{
  vector[J] ordered_eta = eta[by_stratum];
  vector[S] total;  // logarithms of these sums
  for (k in 1:S) {
    total[k] = log_sum_exp(ordered_eta[stratum_start[k]:(stratum_start[k + 1] - 1)]);
  }
  target += sum(eta[chosen]) - sum(total);
}""",
    # As Poisson counts with a free rate per stratum, the glm module has a block for all effects,
    # but its auxiliary mixtures mix far worse: 27 effective draws of a slope in 4,000.
    jags_model="odds[j] <- exp(eta[by_stratum[j]])  # groups sorted by stratum",
    jags_outside="""# In stratum k group number place[k] is chosen.
for (k in 1:S) { place[k] ~ dcat(odds[stratum_start[k]:(stratum_start[k + 1] - 1)]) }""",
    jags_block=False,
    # Slices of sds mix 8 times better under standard normal effects.
    jags_standard_effects=True,
    new_outcome=_new_outcome,
    some_groups=_some_groups,
    unit="stratum",
    needs_strata=True,
    takes_strata=True,
)
