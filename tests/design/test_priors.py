"""Priors: both notations, both named sets, and no statement that is silently ignored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.design.prepare import Model, prepare
from rmm.formula.prior_syntax import Prior, read_priors, read_statement

FORMULA = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*s))), RE=TRUE) + hm(id=cid)"


@pytest.fixture(scope="module")
def table(coalitions: pd.DataFrame) -> pd.DataFrame:
    return coalitions


def model(table: pd.DataFrame, priors: object) -> Model:
    return prepare(FORMULA, table, priors=priors)


NOTATIONS = {
    "b.w ~ dnorm(0, 0.25)": ("b_w", None, Prior("normal", (0.0, 2.0))),
    "b.w[1] <- 1": ("b_w", "1", Prior("fixed", (1.0,))),
    "tau.l1 ~ dscaled.gamma(25,1)": ("sigma_l1", None, Prior("half_t", (1.0, 25.0))),
    "tau.l2 ~ dgamma(0.01, 0.02)": ("sigma_l2", None, Prior("precision_gamma", (0.01, 0.02))),
    "sigma.l1 ~ dnorm(0, 0.25)T(0,)": ("sigma_l1", None, Prior("half_normal", (2.0,))),
    "sigma.l1 ~ dt(0, 0.25, 3)T(0,)": ("sigma_l1", None, Prior("half_t", (3.0, 2.0))),
    "zi ~ dbeta(2, 5)": ("zi", None, Prior("beta", (2.0, 5.0))),
    "b.l1 ~ dt(1, 4, 3)": ("b_l1", None, Prior("student_t", (3.0, 1.0, 0.5))),
    "b_l1[x] ~ normal(0, 1)": ("b_l1", "x", Prior("normal", (0.0, 1.0))),
    "sigma_l3 ~ half_cauchy(2)": ("sigma_l3", None, Prior("half_cauchy", (2.0,))),
    "sigma_l3 ~ exponential(2)": ("sigma_l3", None, Prior("exponential", (2.0,))),
    "b_w ~ uniform(-1, 2)": ("b_w", None, Prior("uniform", (-1.0, 2.0))),
}


@pytest.mark.parametrize("text", NOTATIONS)
def test_notations(text: str) -> None:
    statement = read_statement(text)
    assert (statement.target, statement.element, statement.prior) == NOTATIONS[text]


BAD = {
    "b_w ~ norml(0, 1)": "'norml' is not a distribution of priors. Did you mean 'normal'",
    "b_w ~ normal(0)": "takes 2 numbers",
    "b_w ~ normal(0, -1)": "the scale must be positive",
    "b_w ~ uniform(2, 1)": "lower limit",
    "b_w ~ dnorm(0, -1)": "precision (of JAGS )?must be positive",
    "b_w ~ normal(0, 1": "cannot be read",
    "b_w ~ normal(0, sd)": "is not a finite number",
    "tau.l1 ~ dnorm(0, 1)": "cannot be the prior of a precision",
    "vague": "is not a set of priors",
}


@pytest.mark.parametrize("text", BAD)
def test_unreadable_priors(text: str) -> None:
    with pytest.raises(rmm.PriorError, match=BAD[text]):
        read_priors([text])


UNMATCHED = {
    "b_l4 ~ normal(0, 1)": "no parameter `b_l4`",
    "b_l1[finance] ~ normal(0, 1)": "no element `finance`",
    "b.w[2] ~ dnorm(0, 1)": "no element `2`",
    "u_l1 ~ normal(0, 1)": r"no parameter `u_l1`[^?]*$",
    "b1 ~ normal(0, 1)": r"no parameter `b1`.*Did you mean `b_w\[b1\]`\?",
    "x ~ normal(0, 1)": r"Did you mean `b_l1\[x\]`\?",
    "sigma ~ half_normal(1)": "Did you mean `sigma_l1` or `sigma_l2` or `sigma_l3`",
    "beta_l2 ~ normal(0, 1)": r"Did you mean `b_l2`\?",
    "alpha ~ normal(0, 1)": r"Did you mean `b_l2\[Intercept\]`\?",
    "sigma_l1 ~ normal(0, 1)": "`sigma_l1` must be positive",
    "sigma_l1[1] ~ half_normal(1)": "without elements",
}


@pytest.mark.parametrize("text", UNMATCHED)
def test_a_prior_that_matches_nothing_is_an_error(text: str, table: pd.DataFrame) -> None:
    with pytest.raises(rmm.PriorError, match=UNMATCHED[text]):
        model(table, [text])


def test_weakly_informative_scales(table: pd.DataFrame) -> None:
    elements = model(table, None).priors.elements
    groups = table.drop_duplicates("gid")
    s = groups["y"].std()
    spread = np.sqrt(1 / groups["n"]).mean()
    assert elements["alpha"][0].values == pytest.approx((groups["y"].mean(), 2.5 * s))
    assert elements["beta_l2"][0].values == pytest.approx((0, 2.5 * s / groups["z"].std()))
    assert elements["b_l1"][0].values == pytest.approx((0, 2.5 * s / table["x"].std()))
    within = table["s"] - table.groupby("gid")["s"].transform("mean")
    pooled = np.sqrt((within**2).sum() / (len(table) - len(groups)))
    assert elements["b_w"][0].values == pytest.approx((0, 1 / pooled))
    assert elements["sigma_l1"][0].values == pytest.approx((2.5 * s / spread,))
    assert elements["sigma_l2"][0] == Prior("half_normal", (pytest.approx(2.5 * s),))


LOGIT = {
    "binomial": "win ~ 1 + z + mm(id(pid, gid), vars(x), RE = TRUE) + hm(id = cid)",
    "condlogit": "win ~ z + mm(id(pid, gid), vars(x), RE = TRUE) + strata(race)",
    "cox": "Surv(time, event) ~ z + mm(id(pid, gid), vars(x), RE = TRUE) + hm(id = cid)",
}


def outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an outcome of each family."""
    group = table["gid"].str[1:].astype(int)
    return table.assign(
        win=(group % 3 == 0).astype(int), race=group // 3, event=1, time=1.0 + group % 7
    )


@pytest.mark.parametrize("family", LOGIT)
def test_scales_of_logits_and_log_hazards(family: str, table: pd.DataFrame) -> None:
    frame = outcomes(table)
    frame = frame[frame["race"] < frame["race"].max()]
    elements = prepare(LOGIT[family], frame, family).priors.elements
    groups = frame.drop_duplicates("gid")
    spread = np.sqrt(1 / groups["n"]).mean()
    assert elements["beta_l2"][0].values == pytest.approx((0, 1.5 / groups["z"].std()))
    assert elements["b_l1"][0].values == pytest.approx((0, 1.5 / frame["x"].std()))
    assert elements["sigma_l1"][0] == Prior("half_normal", (pytest.approx(1 / spread),))
    if "hm(" in LOGIT[family]:
        assert elements["sigma_l3"][0] == Prior("half_normal", (1.0,))
    if family == "binomial":
        share = (groups["win"].sum() + 0.5) / (len(groups) + 1)
        assert elements["alpha"][0].values == pytest.approx((np.log(share / (1 - share)), 1.0))


def test_scales_of_log_durations(table: pd.DataFrame) -> None:
    formula = "Surv(time, event) ~ 1 + z + mm(id(pid, gid), RE = TRUE) + hm(id = cid)"
    for unit in (1.0, 365.0):
        frame = outcomes(table).assign(time=lambda t, unit=unit: t["time"] * unit)
        elements = prepare(formula, frame, "weibull").priors.elements
        groups = frame.drop_duplicates("gid")
        spread = np.sqrt(1 / groups["n"]).mean()
        assert elements["alpha"][0].values == pytest.approx((np.log(groups["time"].mean()), 1.5))
        assert elements["beta_l2"][0].values == pytest.approx((0, 1 / groups["z"].std()))
        assert elements["sigma_l1"][0] == Prior("half_normal", (pytest.approx(1 / spread),))
        assert elements["sigma_l3"][0] == Prior("half_normal", (1.0,))
        inside = stats.gamma(2.4, scale=1 / 1.25).cdf([0.3, 5])
        assert elements["shape"] == (Prior("gamma", (2.4, 1.25)),)
        assert np.diff(inside)[0] == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize("events", [1.0, 0.5, 0.05])
def test_few_events_widen_the_prior_of_a_time_scale(table: pd.DataFrame, events: float) -> None:
    """sd = sqrt(1.5^2 + log(groups/events)^2): total time per event is right for shape 1 alone."""
    frame = outcomes(table)
    last = frame.drop_duplicates("gid")["gid"].iloc[int(np.ceil(events * frame["gid"].nunique())) :]
    frame["event"] = (~frame["gid"].isin(last)).astype(int)
    groups = frame.drop_duplicates("gid")
    (prior,) = prepare("Surv(time, event) ~ 1 + z", groups, "weibull").priors.elements["alpha"]
    per_event = len(groups) / groups["event"].sum()
    assert prior.values == pytest.approx(
        (np.log(groups["time"].mean() * per_event), np.hypot(1.5, np.log(per_event)))
    )


def test_classic_set(table: pd.DataFrame) -> None:
    elements = model(table, "rmm").priors.elements
    assert {str(p) for k, v in elements.items() if not k.startswith("sigma") for p in v} == {
        "normal(0, 100)"
    }
    assert elements["sigma_l1"] == (Prior("half_cauchy", (25.0,)),)


def test_statements_override_the_set(table: pd.DataFrame) -> None:
    given = {"default": "rmm", "b_w[b1]": "normal(0, 1)", "b_l2[Intercept]": "normal(3, 4)"}
    elements = model(table, given).priors.elements
    assert elements["b_w"] == (Prior("normal", (0.0, 1.0)),)
    assert elements["alpha"] == (Prior("normal", (3.0, 4.0)),)
    assert elements["beta_l2"] == (Prior("normal", (0.0, 100.0)),)


def test_an_intercept_prior_of_ones_own_is_about_the_intercept_itself(table: pd.DataFrame) -> None:
    default = model(table, None).design
    own = model(table, ["b_l2[Intercept] ~ normal(0, 1)"]).design
    assert default.center_l2[0] == pytest.approx(table.drop_duplicates("gid")["z"].mean())
    assert np.all(own.center_l2 == 0) and np.all(own.members[0].center == 0)


def test_fixed_weight_coefficient_becomes_a_number(table: pd.DataFrame) -> None:
    fixed = model(table, ["b.w[1] <- 0"])
    assert not fixed.spec.members[0].estimated
    assert fixed.design.members[0].weight == pytest.approx(1 / fixed.design.members[0].n)


def test_fixed_coefficient_is_an_offset(table: pd.DataFrame) -> None:
    fixed = model(table, ["b_l2[z] <- 0.5"])
    assert not fixed.spec.terms and fixed.design.offset is not None
    z = fixed.grouped.group_frame["z"].to_numpy()
    assert fixed.design.offset == pytest.approx(0.5 * z)


def test_mixed_families_give_one_form_per_element(table: pd.DataFrame) -> None:
    formula = "y ~ 1 + z + q + mm(id(pid, gid), RE=TRUE)"
    priors = prepare(formula, table, priors=["b_l2[q] ~ student_t(3, 0, 2)"]).priors
    assert priors.forms["beta_l2"] == ("normal", "student_t")
    assert priors.data["prior_beta_l2_df"] == pytest.approx([0, 3])
