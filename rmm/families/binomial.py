"""Binomial outcome: y_j ~ Bernoulli(p_j), or successes of some trials, with logit(p_j) = eta_j."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit, gammaln, log_expit, logit

from rmm.errors import DataError, counted
from rmm.families.base import Array, Curvature, Family, KernelOutcome, Outcome, Values, Widths

_PSEUDO_TRIALS = 4
_SHOWN = 5  # distinct values that a message quotes


def read_binary(label: str, values: Array) -> Array:
    """(J,) 0/1 outcomes as integers.

    Raises
    ------
    DataError
        For other values, or the same value in every group.
    """
    y = np.asarray(values, dtype=float)
    found = np.unique(y)
    if not np.isin(found, (0, 1)).all():
        shown = ", ".join(f"{v:g}" for v in found[:_SHOWN])
        more = " and other values" if len(found) > _SHOWN else ""
        hint = ": 1 where the event happened, 0 elsewhere"
        if len(found) == 2:
            hint = f", for example with I({label} == {found[-1]:g})"
        raise DataError(
            f"The outcome `{label}` must be 0 or 1, or true or false. It contains: {shown}{more}. "
            f"Recode it{hint}."
        )
    _check_both(label, y.sum(), (1 - y).sum())
    return y.astype(np.int64)


def _check_both(label: str, successes: float, failures: float) -> None:
    if successes == 0 or failures == 0:
        raise DataError(
            f"The outcome `{label}` is a {'failure (0)' if successes == 0 else 'success (1)'} in "
            "every group, so there is nothing to explain. Check the name of the column."
        )


def _read_outcome(label: str, parts: tuple[Array, ...], strata: Array | None) -> dict[str, Any]:
    if len(parts) == 1:
        return {"y": read_binary(label, parts[0])}
    successes, failures = _read_counts(f"`{label}`", parts)
    trials = successes + failures
    if (trials == 0).any():
        raise DataError(
            f"{counted(int((trials == 0).sum()), 'group has', 'groups have')} neither successes "
            f"nor failures in `{label}`. Drop groups without trials."
        )
    _check_both(label, successes.sum(), failures.sum())
    return {"y": successes.astype(np.int64), "trials": trials.astype(np.int64)}


def _read_counts(whose: str, parts: tuple[Array, ...]) -> list[Array]:
    counts = [np.asarray(part, dtype=float) for part in parts]
    for count, what in zip(counts, ("successes", "failures"), strict=True):
        bad = count[(count < 0) | (count != np.round(count))]
        if len(bad):
            raise DataError(
                f"The {what} of {whose} must be whole numbers from 0, but "
                f"{counted(len(bad), 'value is', 'values are')} not, such as {bad[0]:g}. Give "
                "counts, not shares."
            )
    return counts


def _new_outcome(
    outcome: Outcome, parts: tuple[Array, ...] | None, strata: Array | None, count: int
) -> dict[str, Any]:
    """The numbers of trials of new groups, where the new table has them; else one trial each."""
    if parts is None:
        return {}
    successes, failures = _read_counts("the new groups", parts)
    return {"trials": (successes + failures).astype(np.int64)}


def trials_of(outcome: Outcome) -> Any:
    """(J,) trials, or 1."""
    return outcome.get("trials", 1)


def _scale(outcome: Outcome) -> tuple[float, float]:
    """Logit of the share of successes, half a success and failure added, and 1."""
    successes = float(np.sum(outcome["y"]))
    trials = float(np.sum(trials_of(outcome) * np.ones_like(outcome["y"], dtype=float)))
    return float(logit((successes + 0.5) / (trials + 1.0))), 1.0


def logit_widths(outcome: Outcome) -> Widths:
    """Numbers that leave most prior probabilities between .01 and .99.

    With two covariates of groups, two of members (in threes) and two kinds of effects 12% lie
    outside of it, with four covariates of groups 17%; 41 and 46% under 2.5 for everything.
    """
    return Widths(intercept=1.0, slope=1.5, sd=1.0)


def log_ways(outcome: Outcome) -> Any:
    """Logs of the binomial coefficients (J,), or 0 of single trials."""
    if "trials" not in outcome:
        return 0.0
    y, n = outcome["y"], outcome["trials"]
    return gammaln(n + 1.0) - gammaln(y + 1.0) - gammaln(n - y + 1.0)


def _log_likelihood(eta: Array, values: Values, outcome: Outcome) -> Array:
    y, n = outcome["y"], trials_of(outcome)
    # log(1 - p) = log(p) - eta: one logarithm for both.
    return np.asarray(log_ways(outcome) + n * log_expit(eta) - (n - y) * eta)


def _curvature(eta: Array, values: Values, outcome: Outcome) -> Curvature:
    n, p = trials_of(outcome), expit(eta)
    total = _log_likelihood(eta, values, outcome).sum(axis=1)
    return Curvature(total, outcome["y"] - n * p, n * p * (1 - p))


def kernel_of(likelihood: int, outcome: Outcome) -> KernelOutcome:
    """Successes and trials for one of the kernels' links."""
    y = np.asarray(outcome["y"], dtype=float)
    trials = np.broadcast_to(np.asarray(trials_of(outcome), dtype=float), y.shape)
    return KernelOutcome(likelihood, y, trials, float(np.sum(log_ways(outcome))))


def _kernel(outcome: Outcome) -> KernelOutcome:
    return kernel_of(1, outcome)


def _mean(eta: Array, values: Values, outcome: Outcome) -> Array:
    return np.asarray(trials_of(outcome) * expit(eta))


def _draw(eta: Array, values: Values, outcome: Outcome, rng: np.random.Generator) -> Array:
    return rng.binomial(trials_of(outcome), expit(eta))


def _residual_variance(values: Values, outcome: Outcome) -> float:
    """Variance of the standard logistic distribution, pi^2/3."""
    return float(np.pi**2 / 3)


def _working(outcome: Outcome) -> tuple[Array, Array]:
    """Working response and weight of iteratively weighted least squares.

    At each group's own share of successes, drawn towards that of all groups as if by four more
    trials, so that it is finite. McCullagh & Nelder (1989), Generalized Linear Models, 2.5.
    """
    y, n = np.asarray(outcome["y"], dtype=float), trials_of(outcome)
    share = drawn_shares(outcome)
    weight = n * share * (1 - share)
    return logit(share) + (y - n * share) / weight, weight


def drawn_shares(outcome: Outcome) -> Array:
    """(J,) shares of successes as if there were four more trials with that of all groups."""
    y, n = np.asarray(outcome["y"], dtype=float), trials_of(outcome)
    return np.asarray((y + _PSEUDO_TRIALS * expit(_scale(outcome)[0])) / (n + _PSEUDO_TRIALS))


def _for_outcome(kind: str, strata: bool = False) -> Family:
    if kind == "plain":
        return BINOMIAL
    return replace(
        BINOMIAL,
        stan_data="array[J] int<lower=1> trials;  // number of trials of each group\n"
        "array[J] int<lower=0> y;  // number of successes",
        stan_model="y ~ binomial_logit(trials, eta);",
        stan_density="binomial_logit_lpmf(y[j] | trials[j], eta[j])",
        jags_model="y[j] ~ dbin(p[j], trials[j])  # successes of trials\nlogit(p[j]) <- eta[j]",
        observed=("y", "trials"),
    )


BINOMIAL = Family(
    name="binomial",
    measure="trials",
    binary=True,
    outcome_kinds=("plain", "cbind"),
    intercept=True,
    parameters=(),
    read_outcome=_read_outcome,
    scale=_scale,
    widths=logit_widths,
    log_likelihood=_log_likelihood,
    mean=_mean,
    draw=_draw,
    residual_variance=_residual_variance,
    check="shares",
    in_words=("a binomial outcome (logit link)", "the log odds change"),
    like_residual=(
        "With a 0/1 outcome, such effects cannot be separated from chance. The data can estimate "
        "the coefficients (b_*) only relative to the total spread. The posterior of {which} is "
        "mostly its prior, and all coefficients grow with {which}. Predicted probabilities are not"
        " affected."
    ),
    separated="the zeros and ones of `{label}` are separated in all or some groups",
    separation="binomial",
    working=_working,
    curvature=_curvature,
    kernel=_kernel,
    new_outcome=_new_outcome,
    stan_data="array[J] int<lower=0, upper=1> y;  // outcome of each group, 0 or 1",
    stan_model="y ~ bernoulli_logit(eta);",
    stan_density="bernoulli_logit_lpmf(y[j] | eta[j])",
    jags_standard_effects=True,
    jags_model="y[j] ~ dbern(p[j])\nlogit(p[j]) <- eta[j]",
    for_outcome=_for_outcome,
)
