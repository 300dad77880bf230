"""Design: levels, contrasts, weights and row order, against sums written by hand."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import Model, prepare
from tests.coalitions import shared_file

MM = "mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"


def labels(model: Model, dim: str) -> list[str]:
    return [str(v) for v in model.design.coords[dim]]


def test_levels_are_found_from_the_data(coalitions: pd.DataFrame) -> None:
    with_re = prepare(f"y ~ 1 + z + q + {MM} + hm(id=cid)", coalitions)
    assert labels(with_re, "covariate_l2") == ["Intercept", "z"]
    assert labels(with_re, "covariate_l3") == ["q"]
    without = prepare(f"y ~ 1 + z + q + {MM}", coalitions)
    assert labels(without, "covariate_l2") == ["Intercept", "z", "q"]


def test_fixed_effects_drop_level_3_predictors_and_first_unit(coalitions: pd.DataFrame) -> None:
    with pytest.warns(rmm.SpecificationWarning, match="`q` is constant within `cid`"):
        model = prepare(f"y ~ 1 + z + q + {MM} + hm(id=cid, name=cname, type=FE)", coalitions)
    assert labels(model, "covariate_l3") == [f"C{i}" for i in range(1, 10)]
    dummies = model.design.nestings[0].X + model.design.nestings[0].center
    country = model.grouped.group_frame["cid"].to_numpy()
    assert dummies == pytest.approx((country[:, None] == np.arange(1, 10)).astype(float))


def test_cross_classification_uses_each_blocks_own_id(coalitions: pd.DataFrame) -> None:
    model = prepare(f"y ~ 1 + {MM} + hm(id=cid) + hm(id=dec)", coalitions)
    first = model.grouped.group_frame
    for nesting, column in zip(model.design.nestings, ("cid", "dec"), strict=True):
        assert np.array_equal(nesting.unit, first[column].to_numpy())
    names = [p.name for p in model.spec.parameters]
    assert {"sigma_l3_1", "sigma_l3_2", "u_l3_1", "u_l3_2"} <= set(names)


def test_categories_interactions_and_functions(coalitions: pd.DataFrame) -> None:
    model = prepare(f"y ~ 1 + z*region + I(z^2) + {MM}", coalitions)
    assert labels(model, "slope_l2") == [
        "z",
        "region=north",
        "region=west",
        "I(z^2)",
        "z:region=north",
        "z:region=west",
    ]
    X = model.design.X_l2 + model.design.center_l2
    groups = model.grouped.group_frame
    north = (groups["region"] == "north").to_numpy(dtype=float)
    assert X[:, 4] == pytest.approx(groups["z"].to_numpy() * north)
    assert X[:, 3] == pytest.approx(groups["z"].to_numpy() ** 2)


def test_without_intercept_the_first_factor_has_all_levels(coalitions: pd.DataFrame) -> None:
    model = prepare(f"y ~ 0 + region + {MM}", coalitions)
    assert labels(model, "covariate_l2") == ["region=east", "region=north", "region=west"]
    assert np.all(model.design.center_l2 == 0)


def test_logical_covariates_are_one_column(coalitions: pd.DataFrame) -> None:
    model = prepare("y ~ 1 + mm(id(pid, gid), vars(lead), RE=TRUE)", coalitions)
    assert labels(model, "covariate_l1") == ["lead"]


def test_known_weights_are_summed_per_group(coalitions: pd.DataFrame) -> None:
    model = prepare("y ~ 1 + mm(id(pid, gid), vars(x, s), fn(w ~ exp(s)), RE=TRUE)", coalitions)
    member = model.design.members[0]
    expected = []
    for _, rows in coalitions.groupby("gid", sort=True):
        w = np.exp(rows["s"].to_numpy())
        expected.append(w / w.sum() @ rows[["x", "s"]].to_numpy())
    assert member.X + member.center == pytest.approx(np.array(expected))


def test_constraint_2_sums_to_the_number_of_groups(coalitions: pd.DataFrame) -> None:
    model = prepare("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ exp(s), c=2))", coalitions)
    weight = model.design.members[0].weight
    s = model.grouped.frame["s"].to_numpy()
    assert weight is not None and weight.sum() == pytest.approx(120)
    assert weight == pytest.approx(120 * np.exp(s) / np.exp(s).sum())


def test_no_constraint_gives_sums(coalitions: pd.DataFrame) -> None:
    model = prepare("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1, c=FALSE))", coalitions)
    member = model.design.members[0]
    sums = coalitions.groupby("gid", sort=True)["x"].sum().to_numpy()
    assert (member.X + member.center)[:, 0] == pytest.approx(sums)


def test_fixed_terms(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + fix(z, 0.5) + mm(id(pid, gid), vars(x, fix(s, 2)), fn(w ~ 1/n))"
    model = prepare(formula, coalitions)
    groups = coalitions.groupby("gid", sort=True)
    expected = 0.5 * groups["z"].first() + 2 * groups["s"].mean()
    assert model.design.offset == pytest.approx(expected.to_numpy())


def test_transform_leaves_binary_columns(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + z + mm(id(pid, gid), vars(x, lead))"
    model = prepare(formula, coalitions, transform="std2")
    z = coalitions.groupby("gid", sort=True)["z"].first().to_numpy()
    X = model.design.X_l2 + model.design.center_l2
    assert X[:, 0] == pytest.approx((z - z.mean()) / (2 * z.std(ddof=1)))
    member = model.design.members[0]
    lead = coalitions.groupby("gid", sort=True)["lead"].mean().to_numpy()
    assert (member.X + member.center)[:, 1] == pytest.approx(lead)


def test_row_order_does_not_matter(coalitions: pd.DataFrame) -> None:
    formula = f"y ~ 1 + z*region + {MM.replace('1/n', '1/n^exp(-(b1*s))')} + hm(id=cid)"
    one = prepare(formula, coalitions).design
    other = prepare(formula, coalitions.sample(frac=1, random_state=5)).design
    for a, b in zip(_arrays(one), _arrays(other), strict=True):
        assert np.array_equal(a, b)


def _arrays(design: object) -> list[np.ndarray]:
    out = []
    for value in vars(design).values():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fi":
            out.append(value)
        elif isinstance(value, tuple):
            out += [a for item in value for a in _arrays(item)]
        elif isinstance(value, dict):
            out += [v for v in value.values() if v.dtype.kind in "fi"]
    return out[:-1] if hasattr(design, "rows") else out  # `rows` is the user's order itself


def test_text_ids_and_names_within_names(coalitions: pd.DataFrame) -> None:
    table = coalitions.rename(columns={"s": "seat", "x": "seat.sq"}).assign(
        pid=lambda t: "p" + t.pid.astype(str)
    )
    model = prepare(
        "y ~ 1 + mm(id(pid, gid), vars(seat), fn(w ~ 1/n^exp(-(b1*seat + b2*seat.sq))), RE=TRUE)",
        table,
    )
    assert set(model.design.members[0].inputs) == {"x_seat", "x_seat_sq"}
    assert model.design.members[0].n_members == 30


def test_published_simulated_weights() -> None:
    table = pd.read_parquet(shared_file("data", "coalgov_rmm.parquet"))
    formula = (
        "sim.y ~ 1 + mm(id(pid, gid), mmc(fdep), "
        "mmw(w ~ 1/offset(n)^exp(-(pseatrel + hetero + pmpower)), constraint=2))"
    )
    priors = ["b.w[1] <- 1", "b.w[2] <- 1", "b.w[3] <- 1"]
    model = prepare(formula, table, priors=priors)
    weight = model.design.members[0].weight
    assert weight is not None
    expected = table["sim.w"].to_numpy()[model.design.rows]
    assert np.max(np.abs(weight - expected)) < 1e-12


# ---- offsets -----------------------------------------------------------------------------------


def test_offset_is_added_to_the_linear_predictor_of_its_group(coalitions: pd.DataFrame) -> None:
    """offset(log(e)) + fix(z, 2) in shuffled rows: log(e) + 2 z of each group, both languages."""
    table = coalitions.assign(e=coalitions["gid"].map(lambda g: 1.5 + int(g[1:]) % 7))
    shuffled = table.sample(frac=1, random_state=3)
    formula = "y ~ 1 + fix(z, 2) + offset(log(e)) + mm(id(pid, gid), RE=TRUE)"
    first = table.groupby("gid").first()
    expected = (np.log(first["e"]) + 2 * first["z"]).to_numpy()
    for backend, name in (("jags", "offset_l2"), ("stan", "offset_l2")):
        data = rmm.program_data(formula, shuffled, backend=backend)
        assert data[name] == pytest.approx(expected), backend
        text = rmm.program(formula, backend=backend, data=shuffled, integrate=False)
        code = [line for line in text.splitlines() if not line.strip().startswith(("#", "//"))]
        assert sum(bool(re.search(rf"[+=] {name}\b", line)) for line in code) == 1, backend
    plain = rmm.program_data("y ~ 1 + mm(id(pid, gid), RE=TRUE)", table)
    moved = rmm.program_data(formula, table)
    # The default prior of the intercept knows that the offset takes a part of the outcome's mean.
    change = plain["prior_alpha_location"] - moved["prior_alpha_location"]
    assert change == pytest.approx(expected.mean())


@pytest.mark.jags
def test_a_model_with_an_offset_is_the_model_of_the_rest(coalitions: pd.DataFrame) -> None:
    """Flat priors: least squares of y - offset, within 4 MCSE (false alarms below 0.02%)."""
    groups = coalitions.drop_duplicates("gid")
    groups = groups.assign(o=5 * groups["q"])
    fit = rmm.fit(
        "y ~ 1 + z + offset(o)", groups, priors="rmm", seed=1, progress=False, backend="jags"
    )
    X = np.column_stack([np.ones(len(groups)), groups["z"]])
    exact = np.linalg.lstsq(X, groups["y"] - groups["o"], rcond=None)[0]
    found = fit.summary().loc[["b_l2[Intercept]", "b_l2[z]"]]
    assert (abs(found["mean"] - exact) < 4 * found["mcse_mean"]).all(), (found, exact)
