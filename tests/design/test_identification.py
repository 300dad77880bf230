"""Models that would run and mean something else are refused, or said."""

from __future__ import annotations

import decimal
import warnings

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.backends.initial_values import initial_values
from rmm.design.identifiability import always_together
from rmm.design.prepare import Model, prepare

MM = " + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"


def labels(model: Model, dim: str) -> list[str]:
    return [str(v) for v in model.design.coords[dim]]


@pytest.mark.parametrize("terms", ["z + region", "region + z"])
def test_without_intercept_no_level_vanishes(terms: str, coalitions: pd.DataFrame) -> None:
    model = prepare(f"y ~ 0 + {terms}{MM}", coalitions)
    assert {"region=east", "region=north", "region=west", "z"} == set(labels(model, "covariate_l2"))


def test_without_intercept_fixed_effects_have_every_unit(coalitions: pd.DataFrame) -> None:
    model = prepare("y ~ 0 + hm(id=cid, type=FE)" + MM, coalitions)
    assert len(labels(model, "covariate_l3")) == 10


def test_unnormalised_weights_keep_every_category(coalitions: pd.DataFrame) -> None:
    party = coalitions.assign(kind=np.where(coalitions.pid % 2 == 0, "left", "right"))
    formula = "y ~ 1 + mm(id(pid, gid), vars(kind), fn(w ~ 1, c={}))"
    assert labels(prepare(formula.format("TRUE"), party), "covariate_l1") == ["kind=right"]
    assert len(labels(prepare(formula.format("FALSE"), party), "covariate_l1")) == 2


COLLINEAR = {
    "constant": ("y ~ 1 + c", "`c` is the same in every group"),
    "multiple": ("y ~ 1 + z + z2", "`z2` is a linear combination of `z`"),
    "twice": ("y ~ 1 + z + mm(id(pid, gid), vars(z), fn(w ~ 1/n))", r"`b_l1\[z\]` is a linear"),
    "both blocks": ("y ~ 1 + q + hm(id=cid, vars=vars(q))", r"`b_l3\[q\]` is a linear"),
    "nested dummies": ("y ~ 1 + hm(id=cid, type=FE) + hm(id=half, type=FE)", "linear combination"),
}


@pytest.mark.parametrize("name", COLLINEAR)
def test_collinear_predictors(name: str, coalitions: pd.DataFrame) -> None:
    formula, message = COLLINEAR[name]
    table = coalitions.assign(c=0.1, z2=2 * coalitions.z, half=coalitions.cid // 5)
    with pytest.raises(rmm.DataError, match=message):
        prepare(formula + ("" if "mm(" in formula else MM), table)


def test_same_unit_twice(coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.FormulaError, match="same unit, `cid`"):
        prepare("y ~ 1 + hm(id=cid) + hm(id=cid, type=FE)" + MM, coalitions)


def test_the_outcome_explains_nothing(coalitions: pd.DataFrame) -> None:
    for formula in ("y ~ 1 + y" + MM, "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ exp(b1*y)))"):
        with pytest.raises(rmm.FormulaError, match="both sides"):
            prepare(formula, coalitions)


def test_numbers_of_priors_count_the_model_as_written(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + q + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b0+b1*s+b2*x))), RE=TRUE)"
    priors = ["b.w[1] <- 0", "b.w[2] ~ dnorm(0, 100)", "b.l2[2] <- 1"]
    model = prepare(formula + " + hm(id=cid)", coalitions, priors=priors)
    assert labels(model, "coefficient_w") == ["b1", "b2"]
    assert str(model.priors.elements["b_w"][0]) == "normal(0, 0.1)"
    assert labels(model, "covariate_l2") == ["Intercept"]  # b_l2[2] was z; q is level 3
    assert labels(model, "covariate_l3") == ["q"]
    z = model.grouped.group_frame["z"].to_numpy()
    assert model.design.offset == pytest.approx(z)


@pytest.mark.parametrize("target", ["b_w", "b_l2[q]", "b_l1[2]"])
def test_fixed_values_of_nothing(target: str, coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.PriorError, match=r"no parameter|no element|has no"):
        prepare("y ~ 1" + MM, coalitions, priors={target: 1})


def test_numbers_are_numbers_whatever_their_type(coalitions: pd.DataFrame) -> None:
    expected = prepare("y ~ 1 + z" + MM, coalitions).design.X_l2
    for convert in (lambda v: v, decimal.Decimal):
        table = coalitions.assign(z=pd.Series([convert(v) for v in coalitions.z], dtype=object))
        assert prepare("y ~ 1 + z" + MM, table).design.X_l2 == pytest.approx(expected)
    with pytest.raises(rmm.DataError, match="numbers written as text"):
        prepare("y ~ 1 + z" + MM, coalitions.assign(z=coalitions.z.astype(str)))
    with pytest.raises(rmm.DataError, match=r"`z` contains dates .*2000-01-01"):
        prepare("y ~ 1 + z" + MM, coalitions.assign(z=pd.Timestamp("2000-01-01")))
    mixed = coalitions.assign(pid=[str(p) if p % 2 else p for p in coalitions.pid])
    with pytest.raises(rmm.DataError, match="contains ids of types int and str"):
        prepare("y ~ 1 + z" + MM, mixed)


def test_names_that_would_meet_in_a_program(coalitions: pd.DataFrame) -> None:
    weight = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*{}+b2*x))), RE=TRUE)"
    table = coalitions.rename(columns={"s": "intercept"})
    for backend in ("jags", "stan"):
        text = rmm.program(weight.format("intercept"), backend=backend, data=table)
        assert "x_intercept" in text
    squares = coalitions.s**2
    both = coalitions.assign(
        **{"weight": coalitions.s, "x_weight": squares, "a.b": coalitions.s, "a_b": squares}
    )
    data = rmm.program_data(weight.format("weight+b3*x_weight+b4*a.b+b5*a_b"), both)
    order = both.sort_values(["gid", "pid"])
    names = {"x_weight": "weight", "x_x_weight": "x_weight", "x_a_b": "a.b", "x_a_b_2": "a_b"}
    for name, column in names.items():
        assert data[name] == pytest.approx(order[column].to_numpy()), name


def test_negative_known_weights(coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="`s` is negative in"):
        prepare("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ s))", coalitions)
    prepare("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ s, c=FALSE))", coalitions)


def test_weights_that_are_0_at_the_start(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ b1*s, c=FALSE), RE=TRUE)"
    with pytest.warns(rmm.SpecificationWarning, match="by one number"):
        model = prepare(formula, coalitions)
    assert model.priors.elements["sigma_l1"][0].values[0] < 20


def test_idle_weight_coefficients_are_told(coalitions: pd.DataFrame) -> None:
    with pytest.warns(rmm.SpecificationWarning, match=r"No weight depends on b_w\[b0\]"):
        prepare("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ exp(b0 + b1*s)), RE=TRUE)", coalitions)
    with pytest.warns(rmm.SpecificationWarning, match="weights therefore change nothing"):
        prepare("y ~ 1 + mm(id(pid, gid), vars(z), fn(w ~ exp(b1*s)))", coalitions)


@pytest.mark.parametrize("function", ["exp(b0 + b1*s)", "b1*s", "b1/n", "b0*exp(b1*s)"])
@pytest.mark.parametrize("effects", ["b_l1", "b_l1 and sigma_l1"])
def test_a_free_factor_of_weights_is_told(
    function: str, effects: str, coalitions: pd.DataFrame
) -> None:
    random = str("sigma" in effects).upper()
    formula = f"y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ {function}, c=FALSE), RE={random})"
    with pytest.warns(rmm.SpecificationWarning, match=rf"product of this number and {effects}\."):
        prepare(formula, coalitions)


@pytest.mark.parametrize(
    "block",
    [
        "vars(x), fn(w ~ exp(b1*s), c=FALSE), RE=TRUE",
        "vars(x), fn(w ~ 1/n^b1, c=FALSE), RE=TRUE",
        "vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b0 + b1*s))), c=FALSE), RE=TRUE",
        "vars(x), fn(w ~ 1 + b1*s, c=FALSE)",
        "vars(x), fn(w ~ b1*s + 1/n, c=2), RE=TRUE",
        "vars(fix(x, 1)), fn(w ~ b1*s, c=FALSE)",
    ],
)
def test_weights_whose_size_is_known(block: str, coalitions: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(f"y ~ 1 + mm(id(pid, gid), {block})", coalitions)


def test_groups_of_one_may_be_swapped_ids() -> None:
    table = pd.DataFrame({"m": range(30), "g": np.arange(30) // 3, "x": np.arange(30) % 7})
    table["y"] = np.sin(table["g"])
    with pytest.warns(rmm.SpecificationWarning, match=r"write id\(m, g\)"):
        prepare("y ~ 1 + mm(id(g, m), vars(x), RE=TRUE)", table)


@pytest.mark.parametrize(
    "inits", [3, {"sigma_l1": "a"}, {"sigma_l1": -1}, {"b_l1": [np.nan]}, {"b_l1": [1, 2]}]
)
def test_initial_values_are_checked(inits: object, coalitions: pd.DataFrame) -> None:
    model = prepare("y ~ 1" + MM, coalitions)
    with pytest.raises(rmm.BackendError, match="`inits`"):
        initial_values(model, 2, 1, inits)


def test_members_that_are_always_together() -> None:
    member, group = np.array([0, 1, 2, 0, 1, 3, 4]), np.array([0, 0, 0, 1, 1, 1, 2])
    assert always_together(member, group) == [[0, 1]]


def test_first_and_last_are_by_id(coalitions: pd.DataFrame) -> None:
    with pytest.warns(rmm.SpecificationWarning, match="the member with the lowest id"):
        prepare("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ x == first(x), c=FALSE))", coalitions)


# ---- units of predictors -------------------------------------------------------------------------


def regression(**columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    x, v = rng.normal(size=(2, 80))
    return pd.DataFrame({"y": x + rng.normal(size=80), "x": x, "v": v}).assign(**columns)


@pytest.mark.parametrize("shift", [0.0, 2000.0, -1e9, 1e12])
def test_predictors_far_from_zero_are_not_constant(shift: float) -> None:
    table = regression()
    moved = table.assign(x=table["x"] + shift, v=table["v"] + shift)
    design = prepare("y ~ x + v", moved).design
    assert design.X_l2 == pytest.approx(
        prepare("y ~ x + v", table).design.X_l2, abs=1e-15 * abs(shift) + 1e-12
    )
    for name, column in (("v", 2 * moved["x"] + 1), ("x", 0 * table["x"] + shift + 0.1)):
        with pytest.raises(rmm.DataError, match=r"linear combination of `x`|same in every group"):
            prepare("y ~ x + v", moved.assign(**{name: column}))


def test_rounding_alone_is_a_constant() -> None:
    noise = np.where(np.arange(80) % 2, 0.1 + 0.2, 0.3)
    with pytest.raises(rmm.DataError, match="`x` is the same in every group"):
        prepare("y ~ x", regression(x=noise))


def test_values_whose_squares_are_not_finite() -> None:
    table = regression()
    for factor, message in ((1e300, r"too large.*Divide"), (1e-300, r"too small.*Multiply")):
        for name in ("x", "y"):
            with pytest.raises(
                rmm.DataError, match=rf"values of `{name}` are {message} `{name}` by a c"
            ):
                prepare("y ~ x", table.assign(**{name: table[name] * factor}))
    assert prepare("y ~ x", table.assign(x=table["x"] * 1e100)).design.scale_l2[0] > 1e99


def test_far_predictors_within_strata() -> None:
    rng = np.random.default_rng(2)
    table = pd.DataFrame(
        {"s": np.repeat(range(30), 3), "x": rng.normal(size=90) + 1e12, "y": np.tile([1, 0, 0], 30)}
    )
    assert prepare("y ~ x + strata(s)", table, "condlogit").design.X_l2.shape == (90, 1)
    with pytest.raises(rmm.DataError, match="`v` is a linear combination of `x`"):
        prepare("y ~ x + v + strata(s)", table.assign(v=3 * table["x"]), "condlogit")


@pytest.mark.parametrize("weight", ["1/n", "seats"])
def test_a_covariate_that_its_weights_cancel_is_refused(
    weight: str, coalitions: pd.DataFrame
) -> None:
    """What is left is rounding, whose coefficient would have its prior."""
    share = 1 / coalitions.groupby("gid")["gid"].transform("size")
    if weight == "seats":
        rng = np.random.default_rng(5)
        coalitions = coalitions.assign(seats=rng.integers(1, 60, len(coalitions)))
        share = coalitions["seats"] / coalitions.groupby("gid")["seats"].transform("sum")
    year = 1950 + 20 * coalitions["x"]
    mean = (year * share).groupby(coalitions["gid"]).transform("sum")
    formula = f"y ~ 1 + mm(id(pid, gid), vars(x, since), fn(w ~ {weight}), RE=TRUE)"
    message = f"sum of the predictor `since` is 0 in every group, with the weights `{weight}`"
    with pytest.raises(rmm.DataError, match=message):
        prepare(formula, coalitions.assign(since=year - mean))
    prepare(formula, coalitions.assign(since=year - mean * (1 + 1e-7)))


def test_centring_within_groups_needs_weights_that_differ(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(center(x, within=group)), fn(w ~ {}))"
    with pytest.raises(
        rmm.DataError, match=r"sum of the predictor `center\(x, within = group\)` is 0"
    ):
        prepare(formula.format("1/n"), coalitions)
    prepare(formula.format("exp(b1*s)"), coalitions)


def test_a_predictor_of_two_blocks_is_named_by_its_coefficients(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), RE=TRUE) + mm(id(twin, gid), vars(x))"
    message = r"`b_l1_2\[x\]` is a linear combination of `b_l1_1\[x\]`"
    with pytest.raises(rmm.DataError, match=message):
        prepare(formula, coalitions.assign(twin=coalitions["pid"]))


@pytest.mark.parametrize(
    ("block", "rows"),
    [
        ("fn(w ~ offset(n)*s)", None),
        ("fn(w ~ b1*s)", None),
        ("fn(w ~ 1/n^b, c=FALSE)", "one each"),
    ],
)
def test_one_warning_for_a_coefficient_that_cancels(
    block: str, rows: str | None, coalitions: pd.DataFrame
) -> None:
    data = coalitions.drop(columns="n")
    data = data.drop_duplicates("gid") if rows else data
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare(f"y ~ 1 + mm(id(pid, gid), vars(x), {block}, RE=TRUE)", data)
    found = [str(w.message) for w in caught if "b_w[" in str(w.message)]
    assert [text[:24] for text in found] == ["No weight depends on b_w"]


def test_a_function_of_the_size_alone_has_no_variable(coalitions: pd.DataFrame) -> None:
    message = "`1/n\\^b` has no variable of the members. Under constraint 1"
    with pytest.raises(rmm.DataError, match=message):
        prepare("y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n^b), RE=TRUE)", coalitions)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ("exp(b1*s + b2*s3)", ["b1", "b2"]),
        ("1/(1 + (n-1)*exp(-(b0 + b1*s + b2*s3)))", ["b0", "b1", "b2"]),
        ("exp(b1*s + b2*s)", ["b1", "b2"]),
        ("exp(b1*s)*exp(b2*x)*exp(b3*center(s))", ["b1", "b3"]),
        ("1/(1 + (n-1)*exp(-(b1*b2*s)))", ["b1", "b2"]),
        ("b0 + b1*exp(s/max(s))", ["b0", "b1"]),
    ],
)
def test_coefficients_that_move_weights_together_are_named(
    function: str, names: list[str], coalitions: pd.DataFrame
) -> None:
    data = coalitions.assign(s3=3 - 2 * coalitions["s"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare(f"y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ {function}), RE=TRUE)", data)
    found = [str(w.message) for w in caught]
    assert len(found) == 1
    assert found[0].startswith(" and ".join(f"b_w[{name}]" for name in names) + " change")


@pytest.mark.parametrize(
    "function",
    [
        "exp(b1*s + b2*s2)",
        "1/(1 + (n-1)*exp(-(b0 + b1*s)))",
        "1/n^exp(-(b0 + b1*s + b2*x))",
        "exp(b1*s + b2*lead)",
        "exp(b1*s + b2*(s == max(s)))",
    ],
)
def test_coefficients_of_variables_that_are_nearly_the_same_have_no_warning(
    function: str, coalitions: pd.DataFrame
) -> None:
    rng = np.random.default_rng(1)
    data = coalitions.assign(s2=coalitions["s"] + 1e-4 * rng.normal(size=len(coalitions)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(f"y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ {function}), RE=TRUE)", data)
