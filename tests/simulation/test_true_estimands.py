"""True values of ready estimands: by hand, from what was drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

from rmm.simulation import Drawn, RecipeError, draw, draw_fixed, prepare
from rmm.simulation.estimands import TRUE_ESTIMANDS, check_options, true_value
from rmm.simulation.outcomes.true_predictor import linear_predictor
from tests import ROOT

Array = np.ndarray[Any, Any]
WEIGHTS = "fn(w ~ 1/(1 + (n-1)*exp(-(b1*power))), c = {c})"
FORMULA = "{y} ~ 1 + z + mm(id(member, group), vars(x + s), {w}, RE = TRUE) + hm(id = nesting)"
TRUTH = {
    "b_l2[Intercept]": 0.2,
    "b_l2[z]": 0.5,
    "b_l1[x]": 0.8,
    "b_l1[s]": -0.6,
    "b_w[b1]": 0.7,
    "sigma_l1": 0.9,
    "sigma_l3": 0.5,
}


def recipe(formula: str = FORMULA, c: str = "TRUE", family: str = "gaussian", **more: Any) -> Any:
    y = "Surv(t, e)" if family in ("weibull", "cox") else "y"
    own = {"sigma_l2": 1.1} if family in ("gaussian", "lognormal", "student") else {}
    own |= {"phi": 6.0} if family == "beta" else {}
    own |= {"nu": 3.0} if family == "student" else {}
    own |= {"shape": 1.5} if family in ("weibull", "gamma") or "negbinomial" in family else {}
    own |= {"zi": 0.3} if family.startswith("zero") else {}
    own |= {"hu": 0.3} if family.startswith("hurdle") else {}
    parameters = {**TRUTH, **own, **more.pop("parameters", {})}
    if family in ("cox", "ordinal"):
        formula = formula.replace("1 + z", "z")
        del parameters["b_l2[Intercept]"]
    if family == "ordinal":
        parameters |= {"tau[1|2]": -0.5, "tau[2|3]": 0.6}
    content = {
        "membership": {
            "kind": "synthetic",
            "groups": 40,
            "members": 12,
            "size": {"distribution": "uniform", "low": 1, "high": 4},
            "units": 5,
            "within": False,
            "redraw": False,
        },
        "covariates": {
            "x": {"level": "member"},
            "s": {"level": "membership"},
            "power": {"level": "membership"},
            "z": {"level": "group"},
        },
        "truth": {
            "formula": formula.format(y=y, w=WEIGHTS.format(c=c)),
            "family": family,
            "parameters": parameters,
            **more,
        },
    }
    return prepare(content, ROOT)


def simulated(made: Any, seed: int = 1) -> Drawn:
    fixed = draw_fixed(made, lambda part: np.random.default_rng(seed))
    return draw(made, fixed, np.random.default_rng(seed + 1))


def weights(drawn: Drawn, c: str) -> Array:
    m = drawn.memberships
    n = m.size[m.group]
    raw = 1 / (1 + (n - 1) * np.exp(-0.7 * drawn.rows("power")))
    if c == "FALSE":
        return raw
    if c == "2":
        return raw * 40 / raw.sum()
    return raw / np.bincount(m.group, raw)[m.group]


def predictor(drawn: Drawn, w: Array, rows: Array | None = None, **moved: Array) -> Array:
    """(J,) linear predictor, with other covariates of memberships, or other members in rows."""
    m = drawn.memberships
    x, s = (moved.get(name, drawn.rows(name)) for name in ("x", "s"))
    u = drawn.effects["u_l1"][m.member if rows is None else rows]
    z = moved.get("z", drawn.by_group("z"))
    each = w * (0.8 * x - 0.6 * s + u)
    intercept = drawn.truth.parameters.get("b_l2[Intercept]", 0.0)
    return intercept + 0.5 * z + np.bincount(m.group, each) + drawn.effects["u_l3"][m.nesting]


@pytest.mark.parametrize("c", ["TRUE", "2", "FALSE"])
def test_effects_that_are_kept_are_those_of_the_predictor(c: str) -> None:
    drawn = simulated(recipe(c=c))
    np.testing.assert_allclose(predictor(drawn, weights(drawn, c)), drawn.eta)
    again = linear_predictor(drawn.truth, drawn.memberships, drawn.columns, drawn.effects)
    np.testing.assert_array_equal(again, drawn.eta)


@pytest.mark.parametrize("c", ["TRUE", "2", "FALSE"])
def test_weights(c: str) -> None:
    drawn = simulated(recipe(c=c))
    m, w = drawn.memberships, weights(drawn, c)
    share = w / np.bincount(m.group, w)[m.group]
    power = drawn.rows("power")
    top = [a + int(np.argmax(power[a:b])) for a, b in zip(m.start[:-1], m.start[1:], strict=True)]
    assert true_value(drawn, "largest_weight", {"by": "power"}) == pytest.approx(w[top].mean())
    found = true_value(drawn, "largest_weight", {"by": "power", "share": True})
    assert found == pytest.approx(share[top].mean())
    label = m.member_labels[3]
    found = true_value(drawn, "member_weight", {"member": int(label)})
    assert found == pytest.approx(w[m.member == 3].mean())
    assert np.isnan(true_value(drawn, "member_weight", {"member": "nobody"}))
    effective = 1 / np.bincount(m.group, share**2)
    assert true_value(drawn, "effective_members", {}) == pytest.approx(effective.mean())


@pytest.mark.parametrize(
    ("family", "noise"),
    [
        ("gaussian", 1.1**2),
        ("binomial", np.pi**2 / 3),
        ("weibull", np.pi**2 / 6 / 1.5**2),
        ("cox", np.pi**2 / 6),
    ],
)
def test_variance_shares(family: str, noise: float) -> None:
    drawn = simulated(recipe(family=family))
    m, w = drawn.memberships, weights(drawn, "TRUE")
    members = 0.9**2 * np.bincount(m.group, w**2).mean()
    total = members + 0.5**2 + noise
    for component, variance in (
        ("members", members),
        ("nesting units", 0.25),
        ("residual", noise),
    ):
        found = true_value(drawn, "variance_share", {"component": component})
        assert found == pytest.approx(variance / total)


def test_variance_share_of_random_walks_counts_their_steps() -> None:
    formula = FORMULA.replace("RE = TRUE)", "RE = TRUE, ar = z)")
    drawn = simulated(recipe(formula))
    m, w = drawn.memberships, weights(drawn, "TRUE")
    time = drawn.by_group("z")[m.group]
    steps = [np.sum((m.member == i) & (time <= t)) for i, t in zip(m.member, time, strict=True)]
    members = 0.9**2 * np.bincount(m.group, w**2 * steps).mean()
    found = true_value(drawn, "variance_share", {"component": "members"})
    assert found == pytest.approx(members / (members + 0.25 + 1.1**2))


def test_marginal_effects_of_probabilities() -> None:
    """p (1 - p) times the coefficient; of one member's covariate times its weight too."""
    drawn = simulated(recipe(family="binomial"))
    m, w = drawn.memberships, weights(drawn, "TRUE")
    p = special.expit(drawn.eta)
    slope = p * (1 - p)
    found = true_value(drawn, "marginal_effect", {"variable": "x"})
    assert found == pytest.approx(0.8 * slope.mean(), rel=1e-7)
    found = true_value(drawn, "marginal_effect", {"variable": "z"})
    assert found == pytest.approx(0.5 * slope.mean(), rel=1e-7)
    here = m.member == 3
    label = m.member_labels[3]
    for name, b in (("x", 0.8), ("s", -0.6)):
        found = true_value(drawn, "marginal_effect", {"variable": name, "member": label})
        assert found == pytest.approx(b * (slope[m.group] * w)[here].mean(), rel=1e-7)
    high, low = (
        special.expit(predictor(drawn, w, z=np.full(40, value))).mean() for value in (2.0, -1.0)
    )
    found = true_value(drawn, "marginal_effect", {"variable": "z", "values": [-1, 2]})
    assert found == pytest.approx(high - low)


def test_marginal_effect_through_the_weights() -> None:
    """A weight variable that is moved in one member changes the weights of all."""
    drawn = simulated(recipe())
    m, h = drawn.memberships, 1e-6
    here, label = m.member == 3, m.member_labels[3]
    inside = np.unique(m.group[here])
    n, ends = m.size[m.group], []
    for sign in (-1, 1):
        power = drawn.rows("power") + sign * h * here
        raw = 1 / (1 + (n - 1) * np.exp(-0.7 * power))
        ends.append(predictor(drawn, raw / np.bincount(m.group, raw)[m.group])[inside].mean())
    found = true_value(drawn, "marginal_effect", {"variable": "power", "member": label})
    assert found == pytest.approx((ends[1] - ends[0]) / (2 * h), rel=1e-5)
    assert abs(found) > 1e-3


@pytest.mark.parametrize(
    ("family", "options", "value"),
    [
        ("weibull", {}, lambda eta: np.exp(eta) * np.log(2) ** (1 / 1.5)),
        ("weibull", {"scale": "mean"}, lambda eta: np.exp(eta) * special.gamma(1 + 1 / 1.5)),
        ("weibull", {"time": 2}, lambda eta: np.exp(-((2 / np.exp(eta)) ** 1.5))),
        ("cox", {"time": 2}, lambda eta: np.exp(-0.3 * 2**1.2 * np.exp(eta))),
        ("cox", {"scale": "linear"}, lambda eta: eta),
        ("poisson", {}, np.exp),
        ("negbinomial", {}, np.exp),
        ("poisson", {"scale": "linear"}, lambda eta: eta),
        ("zero_inflated_poisson", {}, lambda eta: 0.7 * np.exp(eta)),
        ("zero_inflated_negbinomial", {}, lambda eta: 0.7 * np.exp(eta)),
        ("hurdle_poisson", {}, lambda eta: 0.7 * np.exp(eta) / (1 - np.exp(-np.exp(eta)))),
        (
            "hurdle_negbinomial",
            {},
            lambda eta: 0.7 * np.exp(eta) / (1 - (1 + np.exp(eta) / 1.5) ** -1.5),
        ),
        ("gamma", {}, np.exp),
        ("beta", {}, special.expit),
        ("probit", {}, special.ndtr),
        ("cloglog", {}, lambda eta: 1 - np.exp(-np.exp(eta))),
        ("student", {}, lambda eta: eta),
        ("lognormal", {}, lambda eta: np.exp(eta + 1.1**2 / 2)),
        ("lognormal", {"scale": "median"}, np.exp),
        ("ordinal", {}, lambda eta: eta),
        ("ordinal", {"level": 1}, lambda eta: special.expit(-0.5 - eta)),
        ("ordinal", {"level": 2}, lambda eta: special.expit(0.6 - eta) - special.expit(-0.5 - eta)),
        (
            "ordinal",
            {"scale": "mean"},
            lambda eta: 3 - special.expit(0.6 - eta) - special.expit(-0.5 - eta),
        ),
    ],
)
def test_marginal_effects_on_the_scale_of_the_outcome(
    family: str, options: dict[str, Any], value: Any
) -> None:
    more = {"baseline": {"shape": 1.2, "rate": 0.3}} if family == "cox" else {}
    drawn = simulated(recipe(family=family, **more))
    h = 1e-6
    ends = [
        value(predictor(drawn, weights(drawn, "TRUE"), z=drawn.by_group("z") + s * h)).mean()
        for s in (-1, 1)
    ]
    found = true_value(drawn, "marginal_effect", {"variable": "z", **options})
    assert found == pytest.approx((ends[1] - ends[0]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize("c", ["TRUE", "2", "FALSE"])
def test_contrasts(c: str) -> None:
    drawn = simulated(recipe(c=c))
    m = drawn.memberships
    group = int(np.flatnonzero(m.size == 4)[0])
    rows = np.arange(m.start[group], m.start[group + 1])
    members = m.member[rows]
    labels = [int(v) for v in m.member_labels[members]]
    power, s, u = drawn.rows("power")[rows], drawn.rows("s")[rows], drawn.effects["u_l1"]
    x = drawn.columns["x"].values  # a member's own
    whole = 1 / (1 + (m.size[m.group] - 1) * np.exp(-0.7 * drawn.rows("power")))

    def part(kept: Array, who: Array) -> float:
        raw = 1 / (1 + (kept.sum() - 1) * np.exp(-0.7 * power[kept]))
        w = {"TRUE": raw / raw.sum(), "2": raw * 40 / whole.sum(), "FALSE": raw}[c]
        return float(w @ (0.8 * x[who[kept]] - 0.6 * s[kept] + u[who[kept]]))

    every = np.ones(4, dtype=bool)
    before = part(every, members)
    place = {"group": m.group_labels[group]}
    found = true_value(drawn, "contrast", {**place, "without": [labels[1]]})
    assert found == pytest.approx(part(np.arange(4) != 1, members) - before)
    inside = members[[2, 1, 0, 3]]
    found = true_value(drawn, "contrast", {**place, "swap": [labels[0], labels[2]]})
    assert found == pytest.approx(part(every, inside) - before)
    other = next(k for k in range(12) if k not in members)
    outside = np.where(np.arange(4) == 0, other, members)
    swap = [labels[0], m.member_labels[other]]
    found = true_value(drawn, "contrast", {**place, "swap": swap})
    assert found == pytest.approx(part(every, outside) - before)
    joins = {"member": [int(m.member_labels[other])], "x": [0.4], "power": [1.5], "s": [-0.3]}
    found = true_value(drawn, "contrast", {**place, "without": [labels[1]], "joins": joins})
    stay = np.arange(4) != 1
    raw = 1 / (1 + 3 * np.exp(-0.7 * np.append(power[stay], 1.5)))
    w = {"TRUE": raw / raw.sum(), "2": raw * 40 / whole.sum(), "FALSE": raw}[c]
    values = 0.8 * np.append(x[members[stay]], 0.4) - 0.6 * np.append(s[stay], -0.3)
    after = float(w @ (values + u[np.append(members[stay], other)]))
    assert found == pytest.approx(after - before)
    for absent in (
        {"without": [99]},
        {"swap": [99, labels[0]]},
        {"without": labels},
        {"joins": {**joins, "member": [99]}},
        {"joins": {**joins, "member": [labels[0]]}},  # is there already
    ):
        assert np.isnan(true_value(drawn, "contrast", {**place, **absent}))
    assert np.isnan(true_value(drawn, "contrast", {"group": 999, "without": [labels[0]]}))


def test_ranks() -> None:
    drawn = simulated(recipe())
    m, w = drawn.memberships, weights(drawn, "TRUE")
    u = drawn.effects["u_l1"]
    each = w * (0.8 * drawn.rows("x") - 0.6 * drawn.rows("s") + u[m.member])
    mean = np.bincount(m.member, each) / np.bincount(m.member)
    for k, label in enumerate(m.member_labels):
        found = true_value(drawn, "rank", {"member": label})
        assert found == 1 + np.sum(u > u[k])
        found = true_value(drawn, "rank", {"member": label, "of": "contribution"})
        assert found == 1 + np.sum(mean > mean[k])
    assert np.isnan(true_value(drawn, "rank", {"member": 99}))


def test_unknown_names_and_options() -> None:
    for name, options, message in (
        ("largest", {}, "'largest' is not an estimand"),
        ("largest_weight", {}, "`by` is missing"),
        ("rank", {"members": 1}, "'members' is not an option of 'rank'"),
    ):
        with pytest.raises(RecipeError, match=message):
            check_options(name, options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("largest_weight", {"by": "powr"}, "'powr' is not a covariate of the simulation"),
        ("effective_members", {"block": 2}, "has 1 mm.. block, but `block` is 2"),
        ("variance_share", {"component": "groups"}, "not a variance component of the truth"),
        ("marginal_effect", {"variable": "y"}, "'y' is not a covariate of the truth"),
        ("marginal_effect", {"variable": "z", "member": 1}, "is a covariate of level group"),
        ("marginal_effect", {"variable": "x", "scale": "median"}, "not a scale of family"),
        ("marginal_effect", {"variable": "x", "values": [1]}, "There are 1 values"),
        ("contrast", {"group": 1}, "Nothing changes in the group"),
        ("contrast", {"group": 1, "swap": [1]}, "There are 1 members"),
        ("contrast", {"group": 1, "joins": {"member": [1], "x": [0]}}, "`s` is missing"),
        ("contrast", {"group": 1, "joins": {"z": [1]}}, "'z' is not a column of members"),
        (
            "contrast",
            {"group": 1, "joins": {"member": [1, 2], "x": [0], "power": [0], "s": [0]}},
            "member has 2, x has 1",
        ),
        ("rank", {"member": 1, "of": "weight"}, "'weight' is not a value of `of`"),
    ],
)
def test_what_no_data_set_has(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        TRUE_ESTIMANDS[name].check(recipe(), **options)


def test_constants_of_the_data_set_are_refused() -> None:
    """`center(power)` of changed rows would have another mean than that of the data set."""
    made = recipe(FORMULA.replace("{w}", "fn(w ~ exp(b1*center(power)))"))
    marginal, contrast = (TRUE_ESTIMANDS[name].check for name in ("marginal_effect", "contrast"))
    marginal(made, variable="x")
    with pytest.raises(RecipeError, match="The truth contains center, whose constants"):
        marginal(made, variable="power")
    with pytest.raises(RecipeError, match="The truth contains center, whose constants"):
        contrast(made, group=1, without=[2])
    walks = recipe(FORMULA.replace("RE = TRUE)", "RE = TRUE, ar = z)"))
    with pytest.raises(RecipeError, match="not available with `ar =`"):
        contrast(walks, group=1, without=[2])
    with pytest.raises(RecipeError, match="Use `of: contribution`"):
        TRUE_ESTIMANDS["rank"].check(walks, member=1)
