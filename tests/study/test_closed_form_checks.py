"""Closed forms stand only beside studies for which they hold; the others are refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from rmm.errors import StudyError
from rmm.simulation import Drawn
from rmm.simulation.outcomes.true_predictor import weights
from rmm.study import load_study
from rmm.study.design.check_closed_forms import REASONS
from rmm.study.design.closed_forms import CLOSED_FORMS, disaggregation_type1
from rmm.study.evaluate.score import references
from rmm.study.run.replicate import draw_replication

UNEQUAL = "1/(1 + (n-1)*exp(-(b1*power)))"
FORMULA = "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ {}), RE = TRUE)"

SHARED: dict[str, Any] = {
    "seed": 5,
    "replications": 10,
    "membership": {"kind": "synthetic", "groups": 90, "members": 25, "size": 4, "redraw": False},
    "covariates": {
        "x": {"level": "member", "redraw": False},
        "power": {"level": "membership", "redraw": False},
    },
    "truth": {
        "formula": FORMULA.format("1/n"),
        "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0, "sigma_l1": 1, "sigma_l2": 1},
    },
    "methods": [{"name": "means", "kind": "aggregation"}],
    "estimands": [{"parameter": "b_l1[x]"}],
    "reference": [
        {"closed_form": "shared_members_size", "method": "means", "parameter": "b_l1[x]"}
    ],
}
COPIED: dict[str, Any] = {
    **copy.deepcopy(SHARED),
    "membership": {"kind": "synthetic", "groups": 90, "size": 4, "overlap": 0},
    "covariates": {"x": {"level": "membership", "icc": 0.3}, "v": {"level": "membership"}},
    "methods": [{"name": "copies", "kind": "disaggregation"}],
    "reference": [
        {"closed_form": "disaggregation_type1", "method": "copies", "parameter": "b_l1[x]"}
    ],
}
MEASURED: dict[str, Any] = {
    **copy.deepcopy(SHARED),
    "membership": {"kind": "synthetic", "groups": 90, "size": 4, "overlap": 0},
    "covariates": {
        "z": {"level": "group", "correlation": {"xi": 0.4}},
        "xi": {"level": "group"},
        "x": {"level": "membership", "around": "xi", "sd": 2},
    },
    "truth": {
        "formula": "y ~ 1 + z + xi",
        "parameters": {"b_l2[Intercept]": 0, "b_l2[z]": 1, "b_l2[xi]": 2, "sigma_l2": 1},
    },
    "methods": [{"name": "means", "kind": "aggregation", "formula": "y ~ 1 + z + x"}],
    "estimands": [{"parameter": "b_l1[x]", "truth": "b_l2[xi]"}],
    "reference": [{"closed_form": "aggregation_bias", "method": "means", "parameter": "b_l1[x]"}],
}


def edited(base: dict[str, Any], *edits: tuple[str, Any]) -> dict[str, Any]:
    """A study with keys set by paths such as ``methods/0/errors``."""
    config = copy.deepcopy(base)
    for path, value in edits:
        *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]
        place: Any = config
        for part in parents:
            place = place[part]
        place[last] = value
    return config


def written(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_every_closed_form_has_conditions() -> None:
    assert list(REASONS) == list(CLOSED_FORMS)


@pytest.mark.parametrize("base", [SHARED, COPIED, MEASURED], ids=["shared", "copied", "measured"])
def test_a_closed_form_that_holds_has_a_value(base: dict[str, Any], tmp_path: Path) -> None:
    ((_, value, _),) = next(iter(references(load_study(written(tmp_path, base))).values()))
    assert np.isfinite(value)


HM = "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE) + hm(id = unit)"
REFUSED: dict[str, tuple[dict[str, Any], list[tuple[str, Any]], str]] = {
    "not null": (SHARED, [("truth/parameters/b_l1[x]", 0.3)], "true value of b_l1.x. is 0.3"),
    "another null": (SHARED, [("estimands/0/null", 0.5)], "the null value 0.5"),
    "robust errors": (SHARED, [("methods/0/errors", "robust")], "robust standard errors"),
    "summary": (SHARED, [("methods/0/summary", "max")], "summary: max"),
    "kind": (SHARED, [("methods/0/kind", "disaggregation")], "kind disaggregation, not aggreg"),
    "c = FALSE": (
        SHARED, [("truth/formula", FORMULA.format("1/n, c = FALSE"))], "do not sum to 1"
    ),
    "formula": (SHARED, [("methods/0/formula", "y ~ 1 + x + power")], "means has its own formula"),
    "redrawn": (SHARED, [("covariates/x/redraw", True)], "redraw: false"),
    "effects": (
        SHARED, [("truth/effects", {"u_l1": {"distribution": "t", "df": 3}})], "not normal"
    ),
    "no effects": (SHARED, [("truth/formula", FORMULA.format("1/n").replace("TRUE", "FALSE")),
                            ("truth/parameters", {"b_l2[Intercept]": 0, "b_l1[x]": 0,
                                                  "sigma_l2": 1})], "mm.. with random effects"),
    "binomial": (SHARED, [("truth/family", "binomial"), ("methods/0/backend", "ols"),
                          ("truth/parameters", {"b_l2[Intercept]": 0, "b_l1[x]": 0,
                                                "sigma_l1": 1})], "family binomial"),
    "endogenous": (
        SHARED, [("covariates/x/endogenous", {"u_l1": 0.5})], "correlated with random effects"
    ),
    "copied, icc of a member": (COPIED, [("covariates/x", {"level": "member"})],
                                "not a simulated covariate of level membership"),
    "copied, sizes": (COPIED, [("membership/size", {"distribution": "uniform", "low": 2,
                                                    "high": 6})], "not all of one size"),
    "copied, not null": (COPIED, [("truth/parameters/b_l1[x]", 1)], "both must be 0"),
    "copied, clustered": (COPIED, [("methods/0/errors", "cluster"),
                                   ("methods/0/cluster", ["group"])], "cluster standard errors"),
    "copied, correlated": (
        COPIED, [("covariates/x/correlation", {"v": 0.5})], "x is correlated with v"
    ),
    "copied, weights": (
        COPIED, [("truth/formula", FORMULA.format("exp(b1*x)")),
                 ("truth/parameters/b_w[b1]", 1)], "weights of the truth depend on x"
    ),
    "copied, another effect": (
        COPIED, [("truth/formula", FORMULA.format("1/n").replace("vars(x)", "vars(x + v)")),
                 ("truth/parameters/b_l1[v]", 1)], "other member covariates have effects"
    ),
    "copied, kind": (COPIED, [("methods/0/kind", "aggregation")], "kind aggregation, not"),
    "measured, zero": (MEASURED, [("truth/parameters/b_l2[xi]", 0)], "no relative bias"),
    "measured, truth": (MEASURED, [("estimands/0/truth", 1.0)], "slope of the truth, 2"),
    "measured, max": (MEASURED, [("methods/0/summary", "max")], "summary: max"),
    "measured, icc": (MEASURED, [("covariates/x/icc", 0.2)], "correlated within groups"),
    "measured, terms": (MEASURED, [("methods/0/formula", "y ~ 1 + x")],
                        "needs these terms of the truth, as measured: x, z"),
    "measured, fixed": (
        MEASURED, [("membership/redraw", False), ("covariates/xi/redraw", False),
                   ("covariates/z/redraw", False)], "drawn once"
    ),
    "measured, shape": (MEASURED, [("covariates/xi/distribution", "skew")], "xi is not normal"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_closed_form_that_does_not_hold_is_refused(
    case: tuple[dict[str, Any], list[tuple[str, Any]], str], tmp_path: Path
) -> None:
    base, edits, reason = case
    path = written(tmp_path, edited(base, *edits))
    with pytest.raises(StudyError, match=rf"reference\[0\]\.closed_form\n(.*\n)*.*{reason}"):
        load_study(path)


def test_scenarios_in_which_a_closed_form_holds_can_be_named(tmp_path: Path) -> None:
    vary = {"effect": {"path": "truth.parameters.b_l1[x]", "values": [0, 0.3]}}
    config = edited(SHARED, ("vary", vary))
    with pytest.raises(StudyError, match=r"is 0\.3, .*\(in 0\.3\)\n.*`where: {FACTOR"):
        load_study(written(tmp_path, config))
    config = edited(config, ("reference/0/where", {"effect": 0}))
    study = load_study(written(tmp_path, config))
    assert [key[0] for key in references(study)] == [study.scenarios[0].id]
    config = edited(config, ("reference/0/where", {"efect": 0}))
    with pytest.raises(StudyError, match=r"reference\[0\]\.where\.efect\n.*Did you mean 'effect'"):
        load_study(written(tmp_path, config))


def test_all_reasons_are_named_at_once(tmp_path: Path) -> None:
    edits = [
        ("truth/parameters/b_l1[x]", 0.3),
        ("methods/0/errors", "robust"),
        ("methods/0/summary", "max"),
    ]
    with pytest.raises(StudyError, match="summary: max") as error:
        load_study(written(tmp_path, edited(SHARED, *edits)))
    for reason in ("summary: max", "robust standard errors", "is 0.3"):
        assert reason in str(error.value)


def rejections(drawn: Drawn, shares: np.ndarray, replications: int) -> float:
    """Type-I error of least squares on means, simulated with numpy alone."""
    rng, m = np.random.default_rng(3), drawn.memberships
    groups = m.counts["group"]
    y = shares @ rng.normal(size=(shares.shape[1], replications))
    y += rng.normal(size=(groups, replications))
    x = np.bincount(m.group, drawn.rows("x")) / m.size
    matrix = np.column_stack([np.ones(groups), x])
    inverse = np.linalg.inv(matrix.T @ matrix)
    slopes = inverse @ matrix.T @ y
    variance = ((y - matrix @ slopes) ** 2).sum(axis=0) / (groups - 2)
    t = slopes[1] / np.sqrt(variance * inverse[1, 1])
    return float((2 * stats.t.sf(np.abs(t), groups - 2) < 0.05).mean())


@pytest.mark.parametrize(("text", "b1"), [("1/n", None), (UNEQUAL, 3.0), ("power**2", None)])
def test_closed_form_4_takes_the_weights_of_the_truth(
    text: str, b1: float | None, tmp_path: Path
) -> None:
    """Within .008: the formula is one of many groups; Monte Carlo error of the simulation .002.

    Weights 1/n would give another rate where those of the truth are far from them.
    """
    edits = [("truth/formula", FORMULA.format(text))]
    edits += [("truth/parameters/b_w[b1]", b1)] if b1 else []
    study = load_study(written(tmp_path, edited(SHARED, *edits)))
    ((_, value, _),) = next(iter(references(study).values()))
    drawn = draw_replication(study.seed, study.scenarios[0], 1)
    m, truth = drawn.memberships, drawn.truth
    shares, equal = np.zeros((2, m.counts["group"], m.counts["member"]))
    np.add.at(equal, (m.group, m.member), 1 / m.size[m.group])
    w = weights(truth.spec.members[0], truth.parameters, m, drawn.columns)
    np.add.at(shares, (m.group, m.member), w)
    assert value == pytest.approx(rejections(drawn, shares, 20_000), abs=0.008)
    if text != "1/n":
        assert rejections(drawn, equal, 20_000) > value + 0.01


def copied_rejections(effect: float, replications: int) -> tuple[float, float]:
    """Type-I error of x by least squares on copied outcomes, and its Monte Carlo error."""
    rng, groups, n, icc = np.random.default_rng(8), 60, 4, (0.3, 0.5)
    hits = 0
    for _ in range(replications):
        x, v = (
            np.sqrt(r) * rng.normal(size=(groups, 1))
            + np.sqrt(1 - r) * rng.normal(size=(groups, n))
            for r in icc
        )
        y = np.repeat(effect * v.mean(axis=1) + rng.normal(size=groups), n)
        matrix = np.column_stack([np.ones(groups * n), x.ravel(), v.ravel()])
        inverse = np.linalg.inv(matrix.T @ matrix)
        slopes = inverse @ matrix.T @ y
        variance = np.sum((y - matrix @ slopes) ** 2) / (groups * n - 3)
        t = slopes[1] / np.sqrt(variance * inverse[1, 1])
        hits += 2 * stats.t.sf(abs(t), groups * n - 3) < 0.05
    rate = hits / replications
    return rate, float(np.sqrt(rate * (1 - rate) / replications))


def test_closed_form_2_does_not_hold_beside_another_effect() -> None:
    """It is refused there: residuals then differ within groups, and fewer tests reject."""
    known = disaggregation_type1(4, 0.3)
    rate, error = copied_rejections(0.0, 3000)
    assert abs(rate - known) < 3 * error
    rate, error = copied_rejections(2.0, 3000)
    assert rate < known - 5 * error
