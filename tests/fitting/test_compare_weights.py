"""Weight functions compared, averaged, and replaced in a formula."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.errors import DataError, FormulaError, SpecificationWarning
from rmm.fitting.compare_weights import WeightComparison
from rmm.formula.replaced_weights import with_weights

ESTIMATED = "exp(b1*share)"
FORMULA = "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ {}), RE = TRUE)"
CANDIDATES = {
    "mean": "1/n",
    "share": "exp(share)",
    "largest": "share == max(share)",
    "free": ESTIMATED,
    "sum": "1, c = FALSE",
}


@cache
def table(size: Any = 3, seed: int = 5) -> pd.DataFrame:
    """Groups whose members count by their shares; the coefficient of the strength is 1."""
    found = rmm.simulate(
        FORMULA.format(ESTIMATED),
        {
            "b_l2[Intercept]": 0,
            "b_l2[z]": 0.5,
            "b_l1[x]": 1.0,
            "b_w[b1]": 1.0,
            "sigma_l1": 1,
            "sigma_l2": 0.5,
        },
        membership={"kind": "synthetic", "groups": 150, "members": 40, "size": size},
        covariates={
            "x": {"level": "member"},
            "z": {"level": "group"},
            "share": {"level": "membership"},
        },
        seed=seed,
    ).data
    assert isinstance(found, pd.DataFrame)
    return found


@cache
def compared() -> WeightComparison:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.compare_weights(FORMULA.format("1/n"), table(), CANDIDATES, seed=1)


def test_the_weights_that_made_the_data_have_the_evidence() -> None:
    found = compared()
    assert set(found.table.index[:2]) == {"share", "free"}
    assert found.table.loc["largest", "bayes_factor"] < 0.01
    assert found.table["probability"].sum() == pytest.approx(1)
    assert found.table["stacking"].sum() == pytest.approx(1)


def test_candidates_share_priors_on_the_scale_of_the_outcome() -> None:
    widths = compared().priors["on_outcome"]
    for parameter in ("b_l1[x]", "sigma_l1", "sigma_l2", "b_l2[z]"):
        assert np.ptp(widths[parameter]) < 1e-9 * widths[parameter].max(), parameter
    mean, total = compared().fits["mean"], compared().fits["sum"]
    scales = [f.model.priors.elements["b_l1"][0].values[1] for f in (mean, total)]
    assert scales[0] == pytest.approx(3 * scales[1])  # groups of three


def test_groups_of_one_size_have_one_model_of_mean_and_sum() -> None:
    found = compared()
    rows = found.table.loc[["mean", "sum"]]
    assert np.ptp(rows["log_evidence"]) < 4 * np.hypot(*rows["mcse"]) + 1e-9
    assert "`mean` has 0.333333 times the weights of `sum` here: they are one model." in found.notes
    assert "`free` is `mean` where its coefficients are 0." in found.notes
    evidence = found.table["log_evidence"]
    assert all(f" {value:.2f} " in str(found) for value in evidence), "differences of .1 matter"
    assert "`free` is `mean` where its coefficients are 0." in str(found)


def test_groups_of_one_member_say_that_candidates_are_the_same() -> None:
    alone = table().drop_duplicates("group")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = rmm.compare_weights(FORMULA.format("1/n"), alone, ["1/n", "exp(share)"], seed=1)
    assert found.notes[0].startswith("All groups have one member")
    assert np.ptp(found.table["log_evidence"]) < 0.05


def test_shared_quantities_are_those_of_the_weights() -> None:
    found = compared()
    weights = found.fits["share"].weights().assign(group=lambda t: t["group"])
    by_group = weights.groupby("group")["mean"]
    row = found.table.loc["share"]
    assert row["largest_weight"] == pytest.approx(by_group.max().mean())
    assert row["effective_members"] == pytest.approx(
        (1 / by_group.agg(lambda w: (w**2).sum())).mean()
    )
    assert found.table.loc["mean", "effective_members"] == pytest.approx(3)
    rows = table().merge(weights[["mean"]], left_index=True, right_index=True)
    sums = (rows["mean"] * rows["x"]).groupby(rows["group"]).sum()
    slope = found.fits["share"].summary().loc["b_l1[x]", "mean"]
    assert row["effect[x]"] == pytest.approx(slope * sums.std(ddof=1), rel=0.02)


def test_priors_that_the_user_states_are_kept_and_their_difference_is_said() -> None:
    with pytest.warns(SpecificationWarning, match=r"b_l1\[x\] differ on the scale of the outcome"):
        found = rmm.compare_weights(
            FORMULA.format("1/n"),
            table(),
            ["1/n", "1, c = FALSE"],
            priors={"b_l1": "normal(0, 1)"},
            seed=1,
        )
    assert set(found.priors.loc["b_l1[x]", "prior"]) == {"normal(0, 1)"}


def test_average_mixes_draws_in_proportion() -> None:
    found = compared().average("evidence")
    assert found.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        found.weights, compared().table["probability"].reindex(found.weights.index)
    )
    new = table().iloc[:9]
    mixed = found.predict(new)
    each = {name: fit.predict(new)["mean"] for name, fit in compared().fits.items()}
    expected = sum(found.weights[name] * mean for name, mean in each.items())
    np.testing.assert_allclose(mixed["mean"], expected, atol=0.02)
    draws = found.predict(new, draws=True)
    shares = pd.Series(draws["model"].to_numpy()).value_counts(normalize=True)
    for name, share in shares.items():
        assert share == pytest.approx(found.weights[name], abs=0.001)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("largest_weight", {"by": "share"}),
        ("effective_members", {}),
        ("variance_share", {}),
        ("marginal_effect", {"variable": "x"}),
    ],
)
def test_average_has_the_estimands_of_its_fits(name: str, options: dict[str, Any]) -> None:
    average = compared().average("evidence")
    mixed = average.estimand(name, **options)
    each = {k: fit.estimand(name, **options)["mean"] for k, fit in compared().fits.items()}
    expected = sum(average.weights[k] * one for k, one in each.items())
    np.testing.assert_allclose(mixed["mean"], expected, atol=0.02)
    draws = average.estimand(name, draws=True, **options)
    assert draws.dims[0] == "draw"
    assert float(draws.to_numpy().reshape(draws.sizes["draw"], -1)[:, 0].mean()) == pytest.approx(
        mixed["mean"].iloc[0]
    )


@pytest.mark.thorough
def test_average_by_stacking_predicts_as_well_as_the_best() -> None:
    """Log densities of new outcomes of new groups, over 30 tables whose weights are no candidate's.

    Stacking is judged by its predictions: none of its models is true, so that intervals of the
    average need not cover anything. It may lose little to the best candidate, whichever that is,
    and gains on their mean.
    """
    scores = []
    for seed in range(1, 31):
        whole = table(seed=seed)
        groups = whole["group"].unique()
        rest, new = (whole[whole["group"].isin(g)] for g in (groups[:100], groups[100:]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = rmm.compare_weights(
                FORMULA.format("1/n"), rest, ["1/n", "share == max(share)", "ilogit(share)"], seed=1
            )
            both = {**found.fits, "average": found.average("stacking")}
            observed = new.groupby("group")["y"].first()
            scores.append([_log_score(fit, new, observed) for fit in both.values()])
    *single, average = np.array(scores).T
    best = np.max(single, axis=0)
    lost = best - average
    assert lost.mean() < 0.01 + 3 * lost.std() / np.sqrt(len(lost))
    gained = average - np.mean(single, axis=0)
    assert gained.mean() > 3 * gained.std() / np.sqrt(len(gained))


def _log_score(fit: Any, new: pd.DataFrame, observed: pd.Series) -> float:
    """Mean log density of outcomes: kernel estimates of draws of the predictive distribution."""
    draws = fit.predict(new, kind="outcome", draws=True, seed=1)
    values = draws.transpose(..., "group").to_numpy().reshape(-1, len(observed))
    laws = [stats.gaussian_kde(column) for column in values.T]
    return float(np.mean([law.logpdf(y)[0] for law, y in zip(laws, observed, strict=True)]))


def test_average_of_given_weights_and_bad_ones() -> None:
    fits = {name: compared().fits[name] for name in ("mean", "share")}
    assert rmm.average(fits, weights={"mean": 1, "share": 3}).weights["share"] == 0.75
    for weights in ({"mean": 1}, {"mean": -1, "share": 2}, {"mean": 0, "share": 0}):
        with pytest.raises(DataError, match="`weights` must"):
            rmm.average(fits, weights=weights)
    with pytest.raises(DataError, match="`by` must be one of stacking, evidence"):
        rmm.average(fits, "loo")
    with pytest.raises(DataError, match="`by` must be one of"):
        compared().average("loo")


def test_figures_have_a_row_per_candidate() -> None:
    figure = compared().plot()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == list(compared().table.index)
    curve = rmm.evidence_curve({n: compared().fits[n] for n in ("mean", "free")}, "b_w")
    assert curve.plot().axes[0].get_xlabel().startswith("scale of the prior of b_w")


@pytest.mark.parametrize(
    ("candidates", "error", "said"),
    [
        ("1/n", DataError, "must be a list of weights"),
        (["1/n"], DataError, "two candidates or more"),
        (["1/n", "1/n"], DataError, "given twice"),
        (["1/n", 3], DataError, "must be text"),
        (["1/n", "1/"], FormulaError, "cannot be used after"),
        (["1/n", "unknown"], FormulaError, "unknown"),
        (["1/n", ""], FormulaError, "is empty"),
        (["1/n", "1/n) + mm(id(a, b)"], FormulaError, "must be one expression"),
    ],
)
def test_bad_candidates(candidates: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        rmm.compare_weights(FORMULA.format("1/n"), table(), candidates)


@pytest.mark.parametrize(
    ("formula", "weights", "block", "expected"),
    [
        (
            "y ~ mm(id(m, g), vars(x), fn(w ~ 1/n, c = 2), RE = TRUE)",
            "w ~ x",
            1,
            "y ~ mm(id(m, g), vars(x), fn(w ~ x, c = 2), RE = TRUE)",
        ),
        (
            "y ~ mm(id(m, g), vars(x), fn = fn(w ~ 1/n, c = 2)) + mm(id(k, g), fn(w ~ a))",
            "b, c = 3",
            2,
            "y ~ mm(id(m, g), vars(x), fn = fn(w ~ 1/n, c = 2)) + mm(id(k, g), fn(w ~ b, c = 3))",
        ),
        (
            "y ~ 1 + mm(id(m, g), vars(x), RE = TRUE) + z",
            "1/n",
            1,
            "y ~ 1 + mm(id(m, g), vars(x), RE = TRUE, fn = fn(w ~ 1/n)) + z",
        ),
        (
            "y ~ mm(id(m, g), vars(x), w = w(~ q, scale = FALSE), fn = fn('sum'))",
            "1/n",
            1,
            "y ~ mm(id(m, g), vars(x), fn(w ~ 1/n, c = FALSE), fn = fn('sum'))",
        ),
    ],
)
def test_weights_are_replaced(formula: str, weights: str, block: int, expected: str) -> None:
    assert with_weights(formula, weights, block) == expected


@pytest.mark.parametrize("block", [0, 2])
def test_a_block_that_is_not_there(block: int) -> None:
    with pytest.raises(FormulaError, match=f"has 1 mm\\(\\) block, but `block` is {block}"):
        with_weights(FORMULA.format("1/n"), "x", block)
