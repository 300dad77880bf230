"""A prior is about the coefficient that `summary()` shows under its name and in its place."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.columns.predictors import encode_predictors
from rmm.design.prepare import Model, prepare
from tests.backends.test_program_jags import MODELS, matrices, with_ministers
from tests.coalitions import made_up_coalitions

MM = "mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"
KIND = "mm(id(pid, gid), vars(kind), fn(w ~ 1/n), RE=TRUE)"
#: Formulas whose columns depend on one another, beside the golden ones.
MORE = {
    "interaction": f"y ~ 1 + z*region + {MM}",
    "interaction alone": f"y ~ 1 + z:region + {MM}",
    "categories": f"y ~ 0 + z + region + half + {KIND}",
    "no intercept, fixed effects": f"y ~ 0 + {KIND} + hm(id=cid, type=FE, showFE=TRUE)",
    "fixed effects by name": f"y ~ 1 + {KIND} + hm(id=cid, name=cname, type=FE, showFE=TRUE)",
    "level 3": f"y ~ 0 + area + q + z + {KIND} + hm(id=cid)",
    "named level 3": f"y ~ 1 + z + {MM} + hm(id=cid, vars=vars(q, area)) + hm(id=dec)",
    "two blocks": "y ~ 0 + mm(id(pid, gid), vars(kind), name=a) + mm(id(pid, gid), vars(x*lead),"
    " fn(w ~ 1/n^exp(-b1*s)), name=b)",
    "unnormalised": "y ~ 1 + mm(id(pid, gid), vars(kind, x), fn(w ~ 1, c=FALSE))",
    "fix": f"y ~ 1 + z + fix(q, 0.3) + {MM} + hm(id=cid, vars=vars(fix(x1, 1)))",
    "features": "y ~ 1 + mm(id(pid, gid), vars(x, variance(x), threshold(s, 0.5), entropy()))",
}
FORMULAS = {name: formula for name, (formula, _) in MODELS.items()} | MORE
FAR = 40.0


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    table = with_ministers(made_up_coalitions(60, 12))
    return table.assign(
        kind=np.array(["left", "mid", "right"])[table["pid"] % 3],
        half=np.where(table["gid"].str[1:].astype(int) % 2 == 0, "even", "odd"),
        area=np.where(table["cid"] < 4, "n", "s"),
        x1=table["cid"] % 3,
    )


def model_of(name: str, table: pd.DataFrame, priors: Any = None) -> Model:
    if "mm(" not in FORMULAS[name]:
        table = table.drop_duplicates("gid")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        formula = FORMULAS[name]
        return prepare(formula, table, priors=priors, cov=matrices(formula))


def shown(model: Model) -> list[str]:
    """Coefficients in the order of `summary()`, which takes them from the coordinates."""
    vectors = [p for p in model.spec.parameters if p.role in ("coefficient", "weight")]
    return [f"{p.name}[{v}]" for p in vectors for v in model.design.coords[p.dims[0]]]


def priors_by_name(model: Model) -> dict[str, str]:
    """The prior of every coefficient, read from where the programs take it."""
    out, spec = {}, model.spec
    for p in spec.sampled:
        if p.role in ("coefficient", "weight"):
            name = "b_l2" if p.name in ("alpha", "beta_l2") else p.name
            labels = model.design.coords[p.dims[0]] if p.dims else ["Intercept"]
            values = zip(labels, model.priors.elements[p.name], strict=True)
            out |= {f"{name}[{label}]": str(prior) for label, prior in values}
    return out


@pytest.mark.parametrize("name", FORMULAS)
def test_a_prior_by_name_or_number_is_that_of_the_row_shown(name: str, table: pd.DataFrame) -> None:
    base = model_of(name, table)
    before, names = priors_by_name(base), shown(base)
    assert names and sorted(before) == sorted(names)
    for row in names:
        vector = row.split("[")[0]
        place = [n for n in names if n.startswith(f"{vector}[")].index(row) + 1
        dotted = vector.replace("_", ".", 1) + f"[{place}]"
        for written in (f"{row} ~ normal({FAR:g}, 0.01)", f"{dotted} ~ dnorm({FAR:g}, 10000)"):
            after = priors_by_name(model_of(name, table, [written]))
            moved = {n for n in names if after[n] == f"normal({FAR:g}, 0.01)"}
            assert moved == {row}, written


@pytest.mark.parametrize("name", FORMULAS)
def test_a_fixed_value_removes_the_row_shown_and_no_other(name: str, table: pd.DataFrame) -> None:
    base = model_of(name, table)
    names, live = (
        shown(base),
        {f"{p.b}[{f.label}]" for p in base.spec.members for f in p.features_in_program},
    )
    for row in names:
        if row in live:  # the program computes it
            with pytest.raises(rmm.PriorError, match="cannot be fixed"):
                model_of(name, table, {row: 1})
            continue
        held = model_of(name, table, {row: 0.5})
        assert sorted(shown(held)) == sorted(n for n in names if n != row), row
        for backend in ("jags", "stan", "laplace"):
            text = rmm.program(
                FORMULAS[name],
                backend=backend,
                data=rows(name, table),
                priors={row: 0.5},
                cov=matrices(FORMULAS[name]),
            )
            assert text


def rows(name: str, table: pd.DataFrame) -> pd.DataFrame:
    return table if "mm(" in FORMULAS[name] else table.drop_duplicates("gid")


@pytest.mark.parametrize("name", [n for n in FORMULAS if n not in ("kinds", "slopes_estimated")])
def test_what_is_held_is_that_column_times_its_value(name: str, table: pd.DataFrame) -> None:
    """The known part of the predictor is the row's own column, as the model as written has it."""
    base = model_of(name, table)
    _, encoded = encode_predictors(base.spec, base.grouped)
    blocks = {"b_l2": encoded.level2.terms}
    blocks |= {n.b: c.terms for n, c in zip(base.spec.nestings, encoded.nestings, strict=True)}
    none = np.zeros(base.design.J) if base.design.offset is None else base.design.offset
    for vector, columns in blocks.items():
        for label, column in zip(columns.labels, columns.values.T, strict=True):
            held = model_of(name, table, {f"{vector}[{label}]": -1.5}).design
            assert held.offset == pytest.approx(none - 1.5 * column)
    for k, (part, block) in enumerate(zip(base.spec.members, encoded.members, strict=True)):
        for label, column in zip(block.terms.labels, block.terms.values.T, strict=True):
            held = model_of(name, table, {f"{part.b}[{label}]": -1.5}).design
            weight, before = base.design.members[k].weight, base.design.members[k].offset
            if weight is None:
                start = 0.0 if before is None else before
                assert held.members[k].offset == pytest.approx(start - 1.5 * column)
            else:
                sums = np.bincount(base.design.members[k].group, weight * column, base.design.J)
                assert held.offset == pytest.approx(none - 1.5 * sums)


def fit(name: str, table: pd.DataFrame, priors: Any = None) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            FORMULAS[name],
            table,
            backend="laplace",
            priors=priors,
            seed=1,
            chains=2,
            draws=100,
            progress=False,
        ).summary()


@pytest.mark.parametrize("name", ["no intercept, fixed effects", "level 3", "interaction"])
def test_a_numbered_prior_moves_the_row_of_the_fit(name: str, table: pd.DataFrame) -> None:
    names = [n for n in fit(name, table).index if n.startswith("b_")]
    for vector in dict.fromkeys(n.split("[")[0] for n in names):
        own = [n for n in names if n.startswith(f"{vector}[")]
        place = len(own)
        written = f"{vector.replace('_', '.')}[{place}] ~ dnorm({FAR:g}, 10000)"
        means = fit(name, table, [written])["mean"]
        assert [n for n in names if abs(means[n] - FAR) < 0.5] == [own[-1]]


def test_a_held_coefficient_gives_the_posterior_of_a_narrow_prior(table: pd.DataFrame) -> None:
    narrow = fit("categories", table, {"b_l2[region=north]": "normal(2, 0.0001)"})
    held = fit("categories", table, {"b_l2[region=north]": 2})
    assert "b_l2[region=north]" not in held.index
    left = held.index
    margin = 0.35 * narrow.loc[left, "sd"]  # 200 draws each: 3.5 standard errors of a difference
    assert (abs(held["mean"] - narrow.loc[left, "mean"]) < margin).all()


def test_a_held_intercept_leaves_the_other_rows_as_they_were(table: pd.DataFrame) -> None:
    base, held = fit("interaction", table), fit("interaction", table, {"b_l2[Intercept]": 1})
    assert list(held.index) == [n for n in base.index if n != "b_l2[Intercept]"]


def test_predictions_count_what_is_held(table: pd.DataFrame) -> None:
    formula = "y ~ 1 + region + mm(id(pid, gid), vars(kind), fn(w ~ 1/n)) + hm(id=cid, type=FE)"
    priors = {"b_l2[region=north]": 3, "b_l1[kind=mid]": -2, "b_l3[4]": 1, "b_l2[Intercept]": 0.5}
    fit = rmm.fit(formula, table, backend="laplace", priors=priors, seed=1, progress=False)
    again = fit.predict(table.drop(columns="y"), kind="linear")
    own = fit.predict(kind="linear")
    assert again["mean"].to_numpy() == pytest.approx(own["mean"].to_numpy(), abs=1e-9)


def test_a_transformed_predictor_is_held_on_its_new_scale(table: pd.DataFrame) -> None:
    """As `summary()` shows it: the coefficient is per standard deviation after transform."""
    model = prepare(f"y ~ 1 + z + {MM}", table, priors={"b_l2[z]": 2}, transform="std")
    z = model.grouped.group_frame["z"].to_numpy()
    assert model.design.offset == pytest.approx(2 * (z - z.mean()) / z.std(ddof=1))


def test_numbers_that_are_names_too(table: pd.DataFrame) -> None:
    """Dots are R's notation, which counts; with an underscore a number is a name if it is one."""
    formula = f"y ~ 1 + {MM} + hm(id=cid, type=FE)"  # b_l3[1] ... b_l3[9]: names are places
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(formula, table, priors=["b.l3[2] ~ dnorm(0, 1)", "b_l3[3] ~ normal(0, 1)"])
        shifted = table.assign(cid=table["cid"] + 1)  # b_l3[2] ... b_l3[10]: they are not
        assert narrow_at(prepare(formula, shifted, priors={"b_l3[2]": "normal(0, 0.125)"})) == [0]
    with pytest.warns(
        rmm.SpecificationWarning, match=r"prior of b_l3\[3\], which is number 2 of `b_l3`"
    ):
        model = prepare(formula, shifted, priors={"b.l3[2]": "normal(0, 0.125)"})
    assert narrow_at(model) == [1]


def narrow_at(model: Model) -> list[int]:
    """Places of b_l3 with the prior of the test above."""
    return [i for i, p in enumerate(model.priors.elements["b_l3"]) if str(p) == "normal(0, 0.125)"]


def test_the_last_statement_about_a_coefficient_wins(table: pd.DataFrame) -> None:
    formula = f"y ~ 1 + z + {MM}"
    last = prepare(formula, table, priors=["b_l2[z] <- 1", "b_l2[z] ~ normal(0, 0.25)"])
    assert str(last.priors.elements["beta_l2"][0]) == "normal(0, 0.25)"
    held = prepare(formula, table, priors=["b_l2[z] ~ normal(0, 0.25)", "b_l2[2] <- 1"])
    assert not held.spec.terms and held.spec.held == (("z", 1.0),)
    rest = prepare(formula, table, priors=["b_l2[z] <- 1", "b_l2 ~ normal(0, 0.25)"])
    assert str(rest.priors.elements["alpha"][0]) == "normal(0, 0.25)" and not rest.spec.terms


def test_all_coefficients_of_a_kind_are_held(table: pd.DataFrame) -> None:
    model = prepare(f"y ~ 1 + z + region + {KIND}", table, priors=["b_l2 <- 0", "b.l1 <- 1"])
    assert shown(model) == []


WRONG = {
    "b_l3[XX]": r"`b_l3` has no element `XX`. Its elements are: b_l3\[C1\], b_l3\[C2\]",
    "b_l1[kind]": r"no element `kind`. Its elements are: b_l1\[kind=mid\], b_l1\[kind=right\]\.$",
    "b_l1[3]": "has no element `3`",
    "b_l1[0]": "has no element `0`",
    "sigma_l1[1]": "`sigma_l1` is a single number without elements",
}


@pytest.mark.parametrize("target", WRONG)
def test_what_matches_nothing_is_refused_in_the_names_of_summary(
    target: str, table: pd.DataFrame
) -> None:
    with pytest.raises(rmm.PriorError, match=WRONG[target]):
        prepare(FORMULAS["fixed effects by name"], table, priors={target: "half_normal(1)"})


def test_without_data_the_message_says_why_a_category_is_unknown() -> None:
    with pytest.raises(rmm.PriorError, match="Give `data` if the prior names a category"):
        rmm.program(f"y ~ 1 + {KIND}", priors={"b_l1[kind=left]": "normal(0, 1)"})


def test_categories_of_any_text_can_be_named(table: pd.DataFrame) -> None:
    names = np.array(["plain", " b ", "a]b ~ c", "two\nlines", "x = [1]"])
    odd = table.assign(odd=names[table["gid"].str[1:].astype(int) % len(names)])
    base = prepare(f"y ~ 1 + odd + {MM}", odd)
    rows = [n for n in shown(base) if n.startswith("b_l2[odd=")]
    assert len(rows) == len(names) - 1
    for row in rows:
        model = prepare(f"y ~ 1 + odd + {MM}", odd, priors={row: f"normal({FAR:g}, 0.01)"})
        after = priors_by_name(model)
        assert [n for n in after if after[n] == f"normal({FAR:g}, 0.01)"] == [row]
