"""Unordered categories: against MNLogit and binomial fits, other references, engines, messages."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax

import rmm
from rmm.design.unordered.choice_model import CategoryModel, prepare_categories
from rmm.families import FAMILIES
from rmm.posterior.comparison.multinomial_fit import MultinomialFit

Array = np.ndarray[Any, Any]
FAST: dict[str, Any] = {"backend": "laplace", "seed": 1, "progress": False}
MM = "mm(id(party, gov), vars(x), fn(w ~ 1/n), RE = TRUE)"
FORMULA = f"choice ~ 1 + z + {MM}"
TRUTH = {
    "b_l2[left:Intercept]": -3.0,
    "b_l2[right:Intercept]": 2.0,
    "b_l2[left:z]": 1.0,
    "b_l2[right:z]": -0.5,
    "b_l1[left:x]": 1.0,
    "b_l1[right:x]": -1.0,
    "sigma_l1[left]": 0.6,
    "sigma_l1[right]": 1.2,
}


def simulated(groups: int = 200, members: int = 40, seed: int = 1) -> pd.DataFrame:
    """Groups of three, x of members with mean 1, z of groups."""
    return rmm.simulate(
        FORMULA,
        TRUTH,
        membership={
            "kind": "synthetic",
            "groups": groups,
            "members": members,
            "size": 3,
            "member": "party",
            "group": "gov",
        },
        covariates={"x": {"level": "member", "mean": 1.0}, "z": {"level": "group", "mean": 2.0}},
        family="multinomial",
        categories=["centre", "left", "right"],
        seed=seed,
    ).data


def without_members(count: int = 500, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    z, soil = rng.normal(1, 1, count), rng.choice(["clay", "loam"], count)
    eta = np.column_stack([0 * z, 0.5 + z, -0.5 - 0.8 * z + (soil == "loam")])
    code = (eta + rng.gumbel(size=eta.shape)).argmax(axis=1)
    return pd.DataFrame({"z": z, "soil": soil, "crop": np.array(["barley", "oat", "rye"])[code]})


def quiet(formula: str, data: Any, **options: Any) -> MultinomialFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.multinomial(formula, data, **{**FAST, **options})


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return simulated()


@pytest.fixture(scope="module")
def fitted(table: pd.DataFrame) -> MultinomialFit:
    return quiet(FORMULA, table)


# ---- the likelihood ----------------------------------------------------------------------------


def linear_predictor(model: CategoryModel, slopes: dict[str, float]) -> tuple[Array, Array]:
    """(1, alternatives) predictor of the conditional logit, and its columns, by hand."""
    prepared = choice_model(model)
    X = prepared.design.X_l2
    b = np.array([slopes[str(label)] for label in prepared.design.coords["slope_l2"]])
    return (X @ b)[None], X


def choice_model(model: CategoryModel) -> Any:
    from rmm.design.prepare import prepare

    return prepare(model.choices, model.rows(), "condlogit", priors=model.priors.of_choices())


def test_mnlogit_has_the_maximum_and_the_log_likelihood() -> None:
    """At MNLogit's estimates the score is 0 to 1e-4 and the log likelihood the same to 1e-6.

    MNLogit stops where its own gradient is 1e-8 (Newton's method); the prior "rmm" is not centred,
    so that the columns are the user's.
    """
    from statsmodels.discrete.discrete_model import MNLogit

    data = without_members()
    model = prepare_categories("crop ~ 1 + z + soil", data, priors="rmm")
    X = np.column_stack([np.ones(len(data)), data["z"], data["soil"] == "loam"]).astype(float)
    other = MNLogit(pd.Categorical(data["crop"]).codes, X).fit(disp=0, tol=1e-12)
    names = ("Intercept", "z", "soil=loam")
    slopes = {
        f"{k}:{name}": float(other.params[p, i])
        for i, k in enumerate(("oat", "rye"))
        for p, name in enumerate(names)
    }
    eta, columns = linear_predictor(model, slopes)
    outcome = choice_model(model).design.outcome
    family = FAMILIES["condlogit"]
    each = family.log_likelihood(eta, {}, outcome)
    assert each.shape == (1, len(data))
    assert each.sum() == pytest.approx(other.llf, abs=1e-6)
    assert family.curvature is not None
    score = family.curvature(eta, {}, outcome).gradient[0] @ columns
    assert np.abs(score).max() < 1e-4


def test_estimates_are_those_of_mnlogit() -> None:
    """Flat priors: means within .2 sd and 4.5 Monte Carlo errors, sds within 15%.

    6 coefficients of 500 effective draws: sds have errors of 3%; 1 in 25,000 beyond 4.5 errors.
    """
    from statsmodels.discrete.discrete_model import MNLogit

    data = without_members()
    fit = quiet("crop ~ 1 + z + soil", data, priors="rmm")
    X = np.column_stack([np.ones(len(data)), data["z"], data["soil"] == "loam"]).astype(float)
    other = MNLogit(pd.Categorical(data["crop"]).codes, X).fit(disp=0)
    found = fit.summary()
    assert len(found) == 6
    for i, k in enumerate(("oat", "rye")):
        for p, name in enumerate(("Intercept", "z", "soil=loam")):
            own = found.loc[f"b_l2[{k}:{name}]"]
            limit = 0.2 * own["sd"] + 4.5 * own["mcse_mean"]
            assert abs(own["mean"] - other.params[p, i]) < limit
            assert own["sd"] == pytest.approx(other.bse[p, i], rel=0.15)


def test_two_categories_are_a_binomial_outcome(table: pd.DataFrame) -> None:
    """The same posterior, default priors and all: means within 5 Monte Carlo errors of both.

    8 parameters (means and sds of 5) of 500 effective draws: 1 in 10^5 beyond 5 errors.
    """
    data = table.assign(choice=np.where(table["choice"] == "left", "left", "other"))
    ours = quiet(FORMULA, data, reference="other", ess=1500)
    other = rmm.fit(
        FORMULA, data.assign(choice=(data["choice"] == "left") * 1), "binomial", **FAST, ess=1500
    )
    renamed = {
        name: name.replace("left:", "").replace("[left]", "") for name in ours.summary().index
    }
    found, expected = ours.summary().rename(index=renamed), other.summary()
    assert set(found.index) == set(expected.index)
    for name in expected.index:
        error = np.hypot(found.loc[name, "mcse_mean"], expected.loc[name, "mcse_mean"])
        assert abs(found.loc[name, "mean"] - expected.loc[name, "mean"]) < 5 * error
        # The error of an sd is at most about that of the mean for posteriors like these.
        assert abs(found.loc[name, "sd"] - expected.loc[name, "sd"]) < 5 * error
    p = ours.predict().xs("left", level="category")["mean"]
    q = other.predict()["mean"]
    assert np.abs(p.to_numpy() - q.to_numpy()).max() < 0.05


def test_default_priors_are_those_of_a_binomial_model(table: pd.DataFrame) -> None:
    data = table.assign(choice=np.where(table["choice"] == "left", 1, 0))
    from rmm.design.prepare import prepare

    model = prepare_categories(FORMULA, data)
    own = prepare(FORMULA, data, "binomial").priors.elements
    found = {s.text.split(" ~ ")[0]: s.prior for s in model.priors.of_choices().statements}
    assert set(found) == {"b_l2[1:alpha]", "b_l2[1:z]", "b_l1[1:x]", "sigma_slope_l1[1]"}
    assert found["b_l2[1:z]"] == own["beta_l2"][0]
    assert found["b_l1[1:x]"] == own["b_l1"][0]
    assert found["sigma_slope_l1[1]"] == own["sigma_l1"][0]
    # log((a + .5) / (b + .5)) and the logit of (a + .5) / (a + b + 1) are the same number.
    assert found["b_l2[1:alpha]"].values == pytest.approx(own["alpha"][0].values, rel=1e-12)


def test_priors_of_intercepts_are_about_the_counts_of_their_category() -> None:
    data = without_members()
    model = prepare_categories("crop ~ 1 + z", data, reference="rye")
    count = data["crop"].value_counts() + 0.5
    for statement in model.priors.of_choices().statements:
        if statement.element and statement.element.endswith(":alpha"):
            own = statement.element.split(":")[0]
            assert statement.prior.values[0] == pytest.approx(np.log(count[own] / count["rye"]))


def test_other_references_and_labels_have_the_same_likelihood() -> None:
    """With flat priors log likelihoods at matching coefficients are equal, to rounding."""
    data = without_members()
    rng = np.random.default_rng(1)
    b = {k: rng.normal(size=2) for k in ("oat", "rye", "barley")}
    total = []
    for order in (["barley", "oat", "rye"], ["rye", "barley", "oat"], ["oat", "rye", "barley"]):
        own = data.assign(crop=pd.Categorical(data["crop"], order))
        model = prepare_categories("crop ~ 1 + z", own, priors="rmm")
        assert model.categories.labels == tuple(order)
        slopes = {
            f"{k}:{name}": float(b[k][p] - b[order[0]][p])
            for k in order[1:]
            for p, name in enumerate(("Intercept", "z"))
        }
        eta, _ = linear_predictor(model, slopes)
        outcome = choice_model(model).design.outcome
        total.append(FAMILIES["condlogit"].log_likelihood(eta, {}, outcome).sum())
        relabelled = own.assign(crop=own["crop"].cat.rename_categories(["c", "a", "b"]))
        again = prepare_categories("crop ~ 1 + z", relabelled, priors="rmm")
        slopes = dict(
            zip(["a:Intercept", "a:z", "b:Intercept", "b:z"], slopes.values(), strict=True)
        )
        eta, _ = linear_predictor(again, slopes)
        outcome = choice_model(again).design.outcome
        total.append(FAMILIES["condlogit"].log_likelihood(eta, {}, outcome).sum())
    assert np.ptp(total) < 1e-8


def test_another_reference_is_the_difference_of_coefficients() -> None:
    """Means and sds of contrasts, flat priors: within 5 Monte Carlo errors, 500 draws each."""
    data = without_members()
    one = quiet("crop ~ 1 + z", data, priors="rmm", ess=1500)
    two = quiet("crop ~ 1 + z", data, priors="rmm", reference="rye", ess=1500, seed=2)
    b, c = one.draws["b_l2"], two.draws["b_l2"]
    for name in ("Intercept", "z"):
        difference = b.sel(element_b_l2=f"oat:{name}") - b.sel(element_b_l2=f"rye:{name}")
        other = c.sel(element_b_l2=f"oat:{name}")
        error = float(difference.std()) * (2 / 1500) ** 0.5
        assert abs(float(difference.mean() - other.mean())) < 5 * error


# ---- parameters, priors, predictions -----------------------------------------------------------


def test_names_and_truth(fitted: MultinomialFit) -> None:
    found = fitted.summary()
    assert list(found.index) == [
        "b_l1[left:x]",
        "b_l1[right:x]",
        "b_l2[left:Intercept]",
        "b_l2[right:Intercept]",
        "b_l2[left:z]",
        "b_l2[right:z]",
        "sigma_l1[left]",
        "sigma_l1[right]",
    ]
    z = (found["mean"] - pd.Series(TRUTH)) / found["sd"]
    assert z.abs().max() < 3.5  # 8 parameters: 1 in 270
    assert fitted.converged
    assert "multinomial, laplace: 200 groups, 40 members" in str(fitted)
    assert "'left', 'right', against 'centre'" in str(fitted)
    assert "b_l2[right:z]" in fitted._repr_html_()
    assert set(fitted.draws) == {"b_l1", "b_l2", "sigma_l1", "u_l1"}
    assert fitted.diagnostics()["converged"]


def test_predictions_are_softmax_of_what_the_draws_say(
    fitted: MultinomialFit, table: pd.DataFrame
) -> None:
    """Known and new groups by hand from the draws of `fit.draws`, to rounding."""
    draws = fitted.draws
    new = pd.DataFrame(
        {"gov": ["b", "b", "a"], "party": [3, 7, 3], "z": [1.0, 1.0, 2.5], "x": [0.5, 2.0, 1.0]}
    )
    known = table[["gov", "party", "z", "x"]]
    for rows, found in (
        (new, fitted.predict(new, draws=True)),
        (known, fitted.predict(draws=True)),
    ):
        assert found.dims == ("chain", "draw", "group", "category")
        assert list(found["category"]) == ["centre", "left", "right"]
        for gov, own in list(rows.groupby("gov"))[:5]:
            eta = [np.zeros(draws["b_l2"].shape[:2])]
            for k in ("left", "right"):
                u = draws["u_l1"].sel(category=k, member=own["party"].to_numpy()).mean("member")
                b = draws["b_l2"].sel(element_b_l2=f"{k}:Intercept")
                b = b + draws["b_l2"].sel(element_b_l2=f"{k}:z") * own["z"].iloc[0]
                b = b + draws["b_l1"].sel(element_b_l1=f"{k}:x") * own["x"].mean()
                eta.append(np.asarray(b + u))
            p = softmax(np.stack(eta, axis=-1), axis=-1)
            assert np.abs(found.sel(group=gov).to_numpy() - p).max() < 1e-10
    shown = fitted.predict(new)
    assert list(shown.index)[:2] == [("a", "centre"), ("a", "left")]
    assert shown["mean"].groupby("group").sum().to_numpy() == pytest.approx(1)
    linear = fitted.predict(new, kind="linear")
    assert (linear.xs("centre", level="category") == 0).all(axis=None)


def test_new_members_have_effects_of_their_own(fitted: MultinomialFit) -> None:
    new = pd.DataFrame({"gov": [1, 2], "party": [99, 99], "z": 2.0, "x": 1.0})
    known = fitted.predict(new, effects="known", draws=True)
    drawn = fitted.predict(new, draws=True, seed=2)
    assert float(drawn.var(("chain", "draw")).sum()) > float(known.var(("chain", "draw")).sum())
    # One member has the same effects in all its groups.
    assert np.abs(drawn.sel(group=1) - drawn.sel(group=2)).max() < 1e-12
    none = fitted.predict(new, effects="none", draws=True)
    assert np.abs(none - known).max() < 1e-12


def test_log_likelihood_and_loo_have_one_term_per_group(
    fitted: MultinomialFit, table: pd.DataFrame
) -> None:
    found = fitted.log_likelihood()
    p = fitted.predict(draws=True)
    choice = table.groupby("gov")["choice"].first()
    for gov in (1, 50, 200):
        expected = np.log(p.sel(group=gov, category=choice[gov])).to_numpy()
        assert np.abs(found.sel(group=gov).to_numpy() - expected).max() < 1e-10
    assert found.sizes["group"] == 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.SpecificationWarning)  # groups with large Pareto k
        assert fitted.loo().n_data_points == 200
        assert fitted.waic().n_data_points == 200


def test_rows_keep_their_order_without_members() -> None:
    """Predictions of a table without mm() are in the order of its rows."""
    data = without_members(60)
    fit = quiet("crop ~ 1 + z", data)
    z = np.array([3.0, -3.0, 0.0])
    p = fit.predict({"z": z}, draws=True)
    b = fit.draws["b_l2"]
    oat = np.asarray(b.sel(element_b_l2="oat:Intercept"))[..., None]
    oat = oat + np.asarray(b.sel(element_b_l2="oat:z"))[..., None] * z
    found = np.log(p.sel(category="oat") / p.sel(category="barley"))
    assert np.abs(found.to_numpy() - oat).max() < 1e-8
    own = fit.predict(draws=True, kind="linear").sel(category="oat")
    expected = np.asarray(b.sel(element_b_l2="oat:Intercept"))[..., None]
    expected = expected + np.asarray(b.sel(element_b_l2="oat:z"))[..., None] * data["z"].to_numpy()
    assert np.abs(own.to_numpy() - expected).max() < 1e-8


@pytest.mark.thorough
def test_estimated_weights_are_the_same_for_all_categories(table: pd.DataFrame) -> None:
    """Weights of each draw by hand, from b_w."""
    data = table.assign(s=np.random.default_rng(1).random(len(table)))
    formula = "choice ~ 1 + z + mm(id(party, gov), vars(x), fn(w ~ exp(b1*s)), RE = TRUE)"
    fit = quiet(formula, data, chains=2, draws=200)
    assert [name for name in fit.summary().index if name.startswith("b_w")] == ["b_w[b1]"]
    b1 = fit.draws["b_w"].to_numpy()[..., 0].ravel()
    raw = np.exp(b1[:, None] * data["s"].to_numpy())
    total = pd.DataFrame(raw.T).groupby(data["gov"].to_numpy()).transform("sum").to_numpy().T
    found = fit.weights()
    assert list(found["group"]) == list(data["gov"])
    assert list(found["member"]) == list(data["party"])
    assert np.abs(found["mean"].to_numpy() - (raw / total).mean(axis=0)).max() < 1e-10


@pytest.mark.thorough
@pytest.mark.parametrize("constraint", ["TRUE", "2", "FALSE"])
def test_known_weights_are_those_of_the_formula(table: pd.DataFrame, constraint: str) -> None:
    data = table.assign(s=np.random.default_rng(1).random(len(table)) + 0.5)
    block = f"mm(id(party, gov), vars(x), fn(w ~ scale(s)^2 + s, c = {constraint}), RE = TRUE)"
    fit = quiet(f"choice ~ 1 + {block}", data, chains=1, draws=100)
    binary = data.assign(choice=(data["choice"] == "left") * 1)
    other = rmm.fit(f"choice ~ 1 + {block}", binary, "binomial", **FAST, chains=1, draws=100)
    assert np.abs(fit.weights()["mean"] - other.weights()["mean"]).max() < 1e-12
    new = data[data["gov"] <= 3]
    p, own = fit.predict(new, draws=True), fit.predict(draws=True)
    assert np.abs(p.to_numpy() - own.sel(group=[1, 2, 3]).to_numpy()).max() < 1e-10


@pytest.mark.thorough
@pytest.mark.parametrize("constraint", ["TRUE", "2", "FALSE"])
def test_new_groups_have_the_estimated_weights_of_the_fit(
    table: pd.DataFrame, constraint: str
) -> None:
    data = table.assign(s=np.random.default_rng(1).random(len(table)))
    weight = f"fn(w ~ exp(b1*s), c = {constraint})"
    fit = quiet(FORMULA.replace("fn(w ~ 1/n)", weight), data, chains=1, draws=100)
    own = fit.predict(draws=True)
    p = fit.predict(data[data["gov"] <= 3].sample(frac=1, random_state=1), draws=True)
    assert np.abs(p.to_numpy() - own.sel(group=[1, 2, 3]).to_numpy()).max() < 1e-10


@pytest.mark.thorough
def test_transform_and_interactions_have_the_names_of_other_fits(table: pd.DataFrame) -> None:
    data = table.assign(place=np.where(table["gov"] % 2 == 0, "north", "south"))
    formula = f"choice ~ 1 + z*place + I(z^2) + {MM}"
    fit = quiet(formula, data, transform="std", chains=1, draws=100)
    binary = data.assign(choice=(data["choice"] == "left") * 1)
    other = rmm.fit(formula, binary, "binomial", transform="std", **FAST, chains=1, draws=100)
    own = [n.replace("left:", "").replace("[left]", "") for n in fit.summary().index if "left" in n]
    assert sorted(own) == sorted(other.summary().index)
    assert "b_l2[left:z:place=south]" in fit.summary().index


def test_priors_by_names(table: pd.DataFrame) -> None:
    fit = quiet(
        FORMULA,
        table,
        priors=[
            "b_l2[left:z] ~ normal(3, 0.001)",
            "b_l1[right:x] <- 0.5",
            "sigma_l1 ~ exponential(50)",
        ],
    )
    found = fit.summary()
    assert found.loc["b_l2[left:z]", "mean"] == pytest.approx(3, abs=0.01)
    assert "b_l1[right:x]" not in found.index
    assert found.loc["sigma_l1[left]", "mean"] < 0.1
    assert fit.model.centred
    # The held coefficient counts where intercepts are moved to 0.
    linear = fit.predict(kind="linear", draws=True, effects="none").sel(category="right")
    b = fit.draws["b_l2"]
    x, z = table.groupby("gov")["x"].mean(), table.groupby("gov")["z"].first()
    expected = np.asarray(b.sel(element_b_l2="right:Intercept"))[..., None]
    expected = expected + np.asarray(b.sel(element_b_l2="right:z"))[..., None] * z.to_numpy()
    assert np.abs(linear.to_numpy() - expected - 0.5 * x.to_numpy()).max() < 1e-8


@pytest.mark.thorough
def test_a_prior_of_an_intercept_is_one_where_predictors_are_0(table: pd.DataFrame) -> None:
    for statement in ("b_l2[left:Intercept] ~ normal(-7, 0.001)", "b.l2[left:Intercept] <- -7"):
        fit = quiet(FORMULA, table, priors=[statement])
        assert not fit.model.centred
        if "normal" in statement:
            own = fit.summary().loc["b_l2[left:Intercept]", "mean"]
            assert own == pytest.approx(-7, abs=0.01)
        else:
            assert "b_l2[left:Intercept]" not in fit.summary().index


def test_without_an_intercept(table: pd.DataFrame) -> None:
    fit = quiet("choice ~ 0 + z", table.drop_duplicates("gov"))
    assert list(fit.summary().index) == ["b_l2[left:z]", "b_l2[right:z]"]


def test_report_names_categories_and_sources(fitted: MultinomialFit) -> None:
    report = fitted.report()
    assert "3 unordered categories (multinomial logit) to 200 groups" in report.text
    assert "centre is the reference" in report.text
    assert "The coefficient of z for the log odds of left against centre is" in report.text
    fit = fitted  # the name that sources use
    for _, row in report.numbers.iterrows():
        value = eval(row["source"], {"fit": fit, "len": len})  # noqa: S307
        assert float(value) == pytest.approx(row["value"])


def test_saved_and_read_again(fitted: MultinomialFit, tmp_path: Path) -> None:
    path = fitted.save(tmp_path / "fit")
    again = rmm.MultinomialFit.load(path)
    pd.testing.assert_frame_equal(again.summary(), fitted.summary())
    new = pd.DataFrame({"gov": [1, 1], "party": [3, 99], "z": 2.0, "x": [1.0, 0.0]})
    pd.testing.assert_frame_equal(again.predict(new), fitted.predict(new))
    assert again.categories == fitted.categories
    with pytest.raises(rmm.DataError, match="this folder exists already"):
        fitted.save(path)
    with pytest.raises(rmm.DataError, match=r"not a folder that `MultinomialFit\.save` wrote"):
        rmm.MultinomialFit.load(tmp_path)
    about = (path / "multinomial.json").read_text()
    (path / "multinomial.json").write_text(about.replace('"centre"', '"left"'))
    with pytest.raises(rmm.DataError, match="do not belong to one fit"):
        rmm.MultinomialFit.load(path)
    for damaged in ("[]", "[" * 100_000, "{", '{"format": 1}'):
        (path / "multinomial.json").write_text(damaged)
        with pytest.raises(rmm.DataError, match="has changed since it was saved"):
            rmm.MultinomialFit.load(path)
    (path / "multinomial.json").write_text(about)
    (path / "table.parquet").write_bytes(b"PAR1")
    with pytest.raises(rmm.DataError, match="damaged or have changed"):
        rmm.MultinomialFit.load(path)
    (path / "table.parquet").unlink()
    with pytest.raises(rmm.DataError, match="damaged or have changed"):
        rmm.MultinomialFit.load(path)


@pytest.mark.thorough
def test_codes_categories_and_truth_values(tmp_path: Path) -> None:
    data = without_members(200)
    place = {"barley": 7, "oat": 3, "rye": 5}
    for crop, expected in (
        (data["crop"].map(place), (3, 5, 7)),
        (data["crop"].map(place).astype(float), (3, 5, 7)),
        (pd.Categorical(data["crop"], ["rye", "oat", "barley"]), ("rye", "oat", "barley")),
        (data["crop"] == "oat", (False, True)),
    ):
        fit = quiet("crop ~ 1 + z", data.assign(crop=crop), chains=1, draws=100)
        assert fit.categories == expected
        assert list(fit.predict().index.unique("category")) == list(expected)
        again = rmm.MultinomialFit.load(fit.save(tmp_path / f"fit_{len(list(tmp_path.iterdir()))}"))
        assert again.categories == expected


@pytest.mark.thorough
def test_missing_values_are_dropped_with_their_groups(table: pd.DataFrame, tmp_path: Path) -> None:
    data = table.copy()
    data.loc[data["gov"] == 5, "choice"] = None
    data.loc[data.index[0], "x"] = np.nan
    with pytest.raises(rmm.DataError, match="`choice` has 3 missing values"):
        rmm.multinomial(FORMULA, data.assign(x=table["x"]), **FAST)
    with pytest.warns(rmm.SpecificationWarning, match="2 of 200 groups dropped"):
        fit = rmm.multinomial(FORMULA, data, missing="drop", **FAST)
    assert len(fit.predict().index.unique("group")) == 198
    assert len(fit.diagnostics()["dropped"]["units"]) == 2
    assert "2 of 200 groups dropped" in fit.report().text
    again = rmm.MultinomialFit.load(fit.save(tmp_path / "fit"))
    pd.testing.assert_frame_equal(again.predict(), fit.predict())


def test_files_and_their_missing_values(tmp_path: Path) -> None:
    """Texts that mean a missing value are those of new files too, after loading."""
    data = without_members(150).astype({"z": object})
    data.loc[3, "z"] = "none"
    data.to_csv(tmp_path / "crops.csv", index=False)
    with pytest.warns(rmm.SpecificationWarning, match="1 of 150 rows dropped"):
        fit = rmm.multinomial(
            "crop ~ 1 + z", tmp_path / "crops.csv", na=["none"], missing="drop", **FAST
        )
    again = rmm.MultinomialFit.load(fit.save(tmp_path / "fit"))
    assert again.model.na == again.model.base.na == ("none",)
    (tmp_path / "new.csv").write_text("z\n1.5\nnone\n")
    with pytest.raises(rmm.DataError, match="`z` has 1 missing value"):
        again.predict(tmp_path / "new.csv")
    pd.testing.assert_frame_equal(again.predict(), fit.predict())


def test_labels_are_only_text(tmp_path: Path) -> None:
    """Quotes, comment signs, colons and backslashes in labels of categories and predictors."""
    names = ['a "b"; c', "x*/ y // #{}'", "1:2", "ü =z\\", " l"]
    rng = np.random.default_rng(1)
    count = 150
    data = pd.DataFrame(
        {
            "y": rng.choice(names, count),
            "z": rng.normal(size=count),
            "s": rng.choice(["p`q\nr", "[t]"], count),
        }
    )
    fit = quiet("y ~ 1 + z + s", data, priors=["b_l2[1:2:z] ~ normal(5, 0.001)"])
    assert fit.categories == (" l", "1:2", 'a "b"; c', "x*/ y // #{}'", "ü =z\\")
    assert fit.summary().loc["b_l2[1:2:z]", "mean"] == pytest.approx(5, abs=0.01)
    assert "b_l2[1:2:s=p'q r]" in fit.summary().index
    again = rmm.MultinomialFit.load(fit.save(tmp_path / "fit"))
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    for engine in ("jags", "stan"):
        model = fit.model
        priors = model.priors.of_choices()
        text = rmm.program(model.choices, "condlogit", engine, data=model.rows(), priors=priors)
        sign = {"jags": "#", "stan": "//"}[engine]
        for line in text.splitlines():
            assert '"b"; c' not in line.split(sign)[0]
    ambiguous = data.assign(y=rng.choice(["0", "1", "1:z"], count), w=data["z"] ** 2)
    ambiguous = ambiguous.rename(columns={"w": "z:w"})
    assert len(quiet("y ~ 1 + z", ambiguous).summary()) == 4
    with pytest.raises(rmm.DataError, match="Two coefficients would have the name `1:z:w`"):
        quiet("y ~ 1 + `z:w` + w", ambiguous.assign(w=1.0 * (data["z"] > 0)))


def test_a_covariate_called_intercept(table: pd.DataFrame) -> None:
    data = table.rename(columns={"x": "Intercept"})
    one = quiet(FORMULA.replace("vars(x)", "vars(Intercept)"), data, chains=1, draws=200)
    two = quiet(FORMULA, table, chains=1, draws=200)
    renamed = {"b_l1[left:Intercept]": "b_l1[left:x]", "b_l1[right:Intercept]": "b_l1[right:x]"}
    pd.testing.assert_frame_equal(one.summary().rename(index=renamed), two.summary())


def test_models_are_compared_by_their_choices(table: pd.DataFrame, fitted: MultinomialFit) -> None:
    other = quiet(FORMULA.replace("+ z", ""), table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.SpecificationWarning)
        found = rmm.compare({"with z": fitted.choices, "without": other.choices})
    assert next(iter(found.index)) == "with z"


def test_warnings_have_the_names_of_the_categories() -> None:
    data = without_members(300)
    with pytest.warns(rmm.SpecificationWarning, match=r"b_l2\[oat:z\]") as found:
        rmm.multinomial(
            "crop ~ 1 + z", data.assign(z=np.where(data["crop"] == "oat", 9.0, 0)), **FAST
        )
    assert not any("slope" in str(one.message) for one in found)
    assert not any("alpha" in str(one.message) for one in found)


def texts(formula: str, data: pd.DataFrame, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        rmm.multinomial(formula, data, **{**FAST, **options})
    return [str(one.message) for one in found]


def test_effects_that_look_like_chance_are_reported(table: pd.DataFrame) -> None:
    """As for binomial outcomes; not if the standard deviations are fixed."""
    data = table.assign(party=np.arange(len(table)))
    assert not any("residual" in text for text in texts(FORMULA, table))
    (found,) = [text for text in texts(FORMULA, data) if "residual" in text]
    assert found.startswith("sigma_l1: these effects act like a residual of the groups")
    assert "With an outcome in categories" in found
    assert not any("residual" in t for t in texts(FORMULA, data, priors=["sigma_l1 <- 0.5"]))
    single = texts(FORMULA, table.drop_duplicates("gov"))
    assert any("Every group (column `gov`) has only one member" in text for text in single)
    assert not any("alternative" in text for text in single)


def test_rare_categories_are_reported(table: pd.DataFrame) -> None:
    data = table.assign(choice=table["choice"].where(table["gov"] > 2, "none"))
    for reference, named in ((None, "'none' has 3"), ("none", "'left' has 3")):
        found = [t for t in texts(FORMULA, data, reference=reference) if "besides the" in t]
        assert found[0].startswith("Only 2 groups have the category 'none' of `choice`")
        assert any(named in text for text in found)
        assert len(found) == (1 if reference is None else 3)
    assert not any("besides the" in text for text in texts(FORMULA, table))


# ---- messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (FORMULA + " + hm(id = z)", r"`hm\(\)` is not available"),
        (FORMULA + " + strata(z)", r"`strata\(\)` cannot be used"),
        (FORMULA + " + offset(z)", r"`offset\(\)` is not available"),
        ("choice ~ 1 + fix(z, 1)", r"`fix\(\)` is not available"),
        (f"{FORMULA} + {MM}", r"Several mm\(\) blocks are not available"),
        (FORMULA.replace("vars(x)", "vars(variance(x))"), r"`variance\(x\)` is not available"),
        (FORMULA.replace("vars(x)", "vars(fix(x, 1))"), r"`fix\(\)` is not available"),
        (FORMULA.replace("TRUE", "re(1 + x)"), r"Random slopes, `re\(\)`, are not available"),
        (FORMULA.replace("RE = TRUE", "RE = TRUE, ar = z"), "Random walks, `ar =`, are not"),
        (FORMULA.replace("RE = TRUE", "RE = TRUE, cov = A"), "A known covariance, `cov =`, is not"),
        (FORMULA.replace("1/n", "exp(b1*center(x))"), r"`center\(\)` is not available with est"),
        (FORMULA.replace("1/n", "1/n^b, c = FALSE"), "an estimated power of the group size"),
        ("log(z) ~ 1", "is not a column of categories"),
        ("cbind(z, x) ~ 1", "is not a column of categories"),
        ("nothing ~ 1 + z", "The table has no column `nothing`"),
        ("choice ~ 1 + choice", "on both sides"),
    ],
)
def test_formulas_that_are_not_available(table: pd.DataFrame, formula: str, message: str) -> None:
    with pytest.raises(rmm.FormulaError, match=message):
        rmm.multinomial(formula, table, **FAST)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda t: "left", "is 'left' in every row"),
        (lambda t: np.where(t.index == 4, "left", "right"), "varies within group"),
        # Between two categories of which none is the reference, too.
        (lambda t: np.where(t["gov"] > 9, "a", np.where(t.index == 4, "b", "c")), "varies within"),
        (lambda t: t["gov"] % 21, "has 21 categories"),
        (lambda t: t["gov"] % 3 + 0.5, "has the value 1.5"),
        (lambda t: pd.Categorical(t["choice"], ["centre", "left", "none", "right"]), "No row has"),
        (lambda t: np.where(t["gov"] > 9, "a]", "b"), "has the category 'a\\]'"),
        (lambda t: np.where(t["gov"] > 9, "a`", "b"), "has the category 'a`'"),
        (lambda t: np.where(t["gov"] > 9, " ", "b"), "has the category ' '"),
        (lambda t: [1 if g > 9 else "a" for g in t["gov"]], "both numbers and text"),
        (lambda t: np.where(t["gov"] > 9, "party", "a"), "name of a column of the formula"),
    ],
)
def test_outcomes_that_cannot_be_used(table: pd.DataFrame, values: Any, message: str) -> None:
    with pytest.raises(rmm.DataError, match=message):
        rmm.multinomial(FORMULA, table.assign(choice=values(table)), **FAST)


def test_arguments_that_cannot_be_used(table: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="'middle' is not a category of the outcome `choice`"):
        rmm.multinomial(FORMULA, table, reference="middle", **FAST)
    with pytest.raises(rmm.PriorError, match=r"'left:x' is not an element of `b_l2`"):
        rmm.multinomial(FORMULA, table, priors=["b_l2[left:x] ~ normal(0, 1)"], **FAST)
    with pytest.raises(rmm.PriorError, match="'sigma_l2' is not a parameter of this model"):
        rmm.multinomial(FORMULA, table, priors=["sigma_l2 ~ exponential(1)"], **FAST)
    with pytest.raises(rmm.PriorError, match="`sigma_l1` must be positive"):
        rmm.multinomial(FORMULA, table, priors=["sigma_l1[left] ~ normal(0, 1)"], **FAST)
    for name in ("inits", "program", "family"):
        with pytest.raises(rmm.BackendError, match=f"`{name}` is not available"):
            rmm.multinomial(FORMULA, table, **{name: {}}, **FAST)
    with pytest.raises(rmm.FormulaError, match="'half' is not a value of `transform`"):
        rmm.multinomial(FORMULA, table, transform="half", **FAST)
    with pytest.raises(rmm.DataError, match="'skip' is not a value of `missing`"):
        rmm.multinomial(FORMULA, table, missing="skip", **FAST)


@pytest.mark.parametrize("name", ["multinomial", "Categorical", "mlogit", "multinomial logit"])
def test_the_family_points_to_the_function(table: pd.DataFrame, name: str) -> None:
    with pytest.raises(rmm.FormulaError, match=r"is fitted by rmm\.multinomial\(formula, data\)"):
        rmm.fit(FORMULA, table, name, **FAST)
    with pytest.raises(rmm.FormulaError, match=r"is fitted by rmm\.multinomial\(formula, data\)"):
        rmm.program(FORMULA, name)


def test_methods_that_need_what_is_not_there(table: pd.DataFrame, fitted: MultinomialFit) -> None:
    with pytest.raises(rmm.BackendError, match="'mean' is not a value of `kind`"):
        fitted.predict(kind="mean")
    rows = table.drop_duplicates("gov")
    fit = quiet("choice ~ 1 + z", rows, chains=1, draws=100)
    with pytest.raises(rmm.BackendError, match="has no member effects"):
        fit.member_effects()
    with pytest.raises(rmm.BackendError, match=r"has no mm\(\)"):
        fit.weights()
    kept = quiet(FORMULA, table, monitor="structural", chains=1, draws=100)
    with pytest.raises(rmm.BackendError, match="`u_l1`"):
        kept.predict()
    with pytest.raises(rmm.BackendError, match="`u_l1`"):
        kept.member_effects()
    with pytest.raises(rmm.DataError, match="The new table has no column `x`"):
        fitted.predict(table.drop(columns="x"))


# ---- engines and calibration -------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.jags
@pytest.mark.stan
@pytest.mark.parametrize("weight", ["1/n", "exp(b1*s)"])
def test_three_engines_agree(weight: str) -> None:
    """All parameters, means and sds, within 4 Monte Carlo errors."""
    data = simulated(120, 15, seed=2)
    data = data.assign(s=np.random.default_rng(1).random(len(data)))
    formula = FORMULA.replace("1/n", weight)
    priors = ["b_l2 ~ normal(0, 1.5)", "b_l1 ~ normal(0, 1)", "sigma_l1 ~ half_normal(1)"]
    tables = [
        quiet(formula, data, priors=priors, backend=engine, **options).summary()
        for engine, options in (
            ("laplace", {"ess": 2000}),
            ("stan", {"draws": 1500}),
            ("jags", {"draws": 6000, "warmup": 2000}),
        )
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        a, b = tables[one], tables[other]
        assert list(a.index) == list(b.index)
        error = np.hypot(a["mcse_mean"], b["mcse_mean"])
        assert ((a["mean"] - b["mean"]).abs() < 4 * error).all()
        assert ((a["sd"] - b["sd"]).abs() < 4 * error).all()


@pytest.mark.calibration
def test_ranks_of_true_values_are_uniform() -> None:
    """300 data sets with values drawn from the priors: ranks in 10 bins, chi-squared, p > .001.

    8 parameters: one fails by chance in 1 of 125 seeds.
    """
    rng = np.random.default_rng(20261201)
    ranks: dict[str, list[float]] = {name: [] for name in TRUTH}
    priors = ["b_l2 ~ normal(0, 0.7)", "b_l1 ~ normal(0, 1)", "sigma_l1 ~ half_normal(1)"]
    for number in range(300):
        truth = {
            name: abs(value) if name.startswith("sigma") else value
            for name, value in ((n, rng.normal(0, 0.7 if "b_l2" in n else 1)) for n in TRUTH)
        }
        data = rmm.simulate(
            "choice ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
            truth,
            membership={"kind": "synthetic", "groups": 100, "members": 20, "size": 2},
            covariates={"x": {"level": "member"}, "z": {"level": "group"}},
            family="multinomial",
            categories=["centre", "left", "right"],
            seed=number,
        ).data
        assert data["choice"].nunique() == 3  # no data set is left out
        fit = quiet(
            "choice ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
            data,
            reference="centre",
            priors=priors,
            seed=number,
        )
        labels, values = fit._elements.labels, fit._elements.values
        for name in TRUTH:
            draws = values[:, :, labels.index(name)].ravel()
            ranks[name].append(float((draws < truth[name]).mean()))
    for name, own in ranks.items():
        count = np.histogram(own, bins=10, range=(0, 1))[0]
        assert stats.chisquare(count).pvalue > 0.001, name
