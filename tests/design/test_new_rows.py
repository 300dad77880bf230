"""New rows become arrays as the fit's did: over all golden formulas, families and transforms.

A fit's own rows given as new ones have the fit's arrays; new groups have those of a table in which
they were fitted, where that decides the same; and nothing that a fit decided is decided again by
the new rows: each group's arrays and predictions are the same alone and among others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.backends.base import Run
from rmm.design.design import Design
from rmm.design.members.memberships import Membership
from rmm.design.prepare import Model, prepare
from rmm.design.subset_groups import some_groups
from rmm.posterior.prediction.new_groups import NewGroups, lay_out
from rmm.posterior.prediction.predict import predict
from tests.backends.test_program_jags import MODELS as JAGS_MODELS
from tests.backends.test_program_jags import with_ministers
from tests.backends.test_program_stan import MODELS as STAN_MODELS
from tests.coalitions import made_up_coalitions
from tests.design.test_kinds import FORMULA as KINDS
from tests.design.test_kinds import cabinets
from tests.design.test_recipe import FORMULA as READABLE_UNITS
from tests.family_cases import MIXED
from tests.formula.test_bases import fields
from tests.posterior.test_predict import FORMULA as EVERY_TERM
from tests.posterior.test_predict import LOGISTIC

Array = np.ndarray[Any, Any]
EXACT = {"rtol": 1e-12, "atol": 1e-12}
EFFECTS = "mm(id(pid, gid), RE=TRUE)"
OWN = {
    "categories": f"y ~ 1 + z*region + factor(dec) + poly(g, 3) + {EFFECTS}",
    "curves": "y ~ 1 + ns(g, 3)*region + poly(o, 2, raw = TRUE)"
    " + mm(id(pid, gid), vars(ns(s, 3) + poly(x, 2)), fn(w ~ 1/n), RE=re(1 + ns(s, 3)))"
    " + hm(id=cid, vars=vars(ns(q, 2)))",
    "given levels": f'y ~ 1 + C(region, base="west") + fix(side, 0.3) + {EFFECTS}',
    "absent combinations": f"y ~ 1 + region:rev + z + {EFFECTS}",
    "cannot include an intercept": "y ~ 0 + mm(id(pid, gid), vars(kind), fn(w ~ 1/n), RE=TRUE)",
    "constants of the table": "y ~ 1 + center(z) + scale(q) + mm(id(pid, gid), vars("
    "center(x, within=kind) + center(s, within=group)), fn(w ~ exp(b1*center(s))), RE=TRUE)",
    "prescribed weights": "y ~ 1 + mm(id(pid, gid), vars(x + kind), fn(w ~ q1, c=2), RE=TRUE)"
    " + hm(id=cid, type=FE, name=cname)",
    "slopes": "y ~ 1 + mm(id(pid, gid), vars(kind*x + fix(role, 0.3)), fn(w ~ exp(s), c=2),"
    " RE=re(1 + kind)) + hm(id=dec, name=dname)",
    "dates": "y ~ 1 + mm(id(pid, gid), vars(x), RE=TRUE, ar=day)",
    "kinds": "y ~ 1 + mm(id(pid, gid), vars(kind), fn(w ~ q1, c=2), RE=TRUE, name=a)"
    " + mm(id(mid, gid), vars(kind + softmax(q1, 2)), fn(w ~ q1, c=2), name=b)",
    "readable units": READABLE_UNITS,
}


@dataclass(frozen=True)
class Case:
    """A model to be fitted, and how."""

    formula: str
    family: str = "gaussian"
    transform: str | None = None
    priors: Any = "weakly_informative"
    table: str = "governments"


def cases() -> Iterator[tuple[str, Case]]:
    for name, (formula, priors) in {**JAGS_MODELS, **STAN_MODELS}.items():
        yield f"golden {name}", Case(formula, priors=priors)
    for weights, constraint, dec in (
        ("1/n", "TRUE", "FE"),
        ("q1", "2", "RE"),
        ("exp(x)", "FALSE", "FE"),
        (LOGISTIC, "TRUE", "RE"),
        (LOGISTIC, "2", "FE"),
        (LOGISTIC, "FALSE", "RE"),
    ):
        formula = EVERY_TERM.format(w=weights, c=constraint, dec=dec)
        yield f"{weights}, c={constraint}, {dec}", Case(formula, transform="std")
    for name, formula in OWN.items():
        yield name, Case(formula)
        yield f"{name}, std2", Case(formula, transform="std2")
    held = {"b_l2[region=north]": 1, "b_l1[x]": 2, "b_l3_1[C3]": 0}
    yield "held coefficients", Case(READABLE_UNITS, priors=held)
    free = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ exp(b1*s), c=2), RE=TRUE)"
    yield "held weights", Case(free, priors={"b_w[b1]": 0.7, "b_l2[Intercept]": 1.0})
    yield "binomial", Case(f"won ~ {MIXED}", "binomial")
    yield "trials", Case(f"cbind(won, lost) ~ {MIXED}", "binomial")
    yield "weibull", Case(f"Surv(t, won) ~ {MIXED}", "weibull")
    yield "cox", Case(f"Surv(t, won) ~ {MIXED}", "cox")
    yield "condlogit", Case(f"formed ~ {MIXED} + strata(crisis)", "condlogit")
    yield "missing members", Case(KINDS, table="cabinets")
    yield "fields", Case("y ~ soil*crop + poly(rain, 2) + factor(year)", table="fields")


CASES = dict(cases())
WALKS = tuple(name for name, case in CASES.items() if "ar=" in case.formula)


def governments() -> pd.DataFrame:
    table = with_ministers(made_up_coalitions(groups=60, members=15))
    year, pid = table["year"], table["pid"]
    won = (table["y"] > 1).astype(int)
    return table.assign(
        kind=np.array(["l", "r", "m"])[pid % 3],
        role=np.array(["u", "v"])[pid % 2],
        side=np.where(year % 2, "odd", "even"),
        rev=table["dec"].map(lambda d: "ab"[d % 2]).where(table["region"] != "west", "a"),
        dname="D" + table["dec"].astype(str),
        o=np.sin(year),
        f=np.cos(year),
        g=np.sin(3 * year),
        t=np.exp(table["y"]),
        won=won,
        lost=7 - won,
        crisis=year // 4,
        formed=(year % 4 == 1).astype(int),
        day=pd.Timestamp("2000-01-01") + pd.to_timedelta(year, unit="D"),
    )


TABLES = {"governments": governments, "cabinets": cabinets, "fields": fields}


@pytest.fixture(scope="module")
def fitted() -> dict[str, tuple[Model, pd.DataFrame]]:
    """Models that were prepared already, with their tables."""
    return {}


def model_of(name: str, fitted: dict[str, tuple[Model, pd.DataFrame]]) -> tuple[Model, Any]:
    if name not in fitted:
        case = CASES[name]
        table = TABLES[case.table]()
        if "mm(" not in case.formula and case.table == "governments":
            table = table.drop_duplicates("gid").reset_index(drop=True)
        fitted[name] = quiet(case, table), table
    return fitted[name]


def quiet(case: Case, table: pd.DataFrame) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(
            case.formula,
            table,
            case.family,
            priors=case.priors,
            transform=case.transform,
            cov=matrices(case.formula),
        )


def matrices(formula: str) -> dict[str, pd.DataFrame]:
    """Of the formula's names: correlations of 0.3 between all members, new ones too."""
    members = [*range(30), *range(1000, 1030)]
    one = pd.DataFrame(0.3 + 0.7 * np.eye(len(members)), index=members, columns=members)
    return {name: one for name in "AB" if f"cov={name}" in formula}


def later(table: pd.DataFrame, model: Model) -> pd.DataFrame:
    """Some groups again, as groups that come after those of the fit, in another order."""
    if "gid" not in table:
        return table.iloc[::-7]
    some = table[table["gid"].isin(pd.unique(table["gid"])[::5])]
    some = some.assign(gid="x" + some["gid"])
    if "year" in some:
        some = some.assign(year=some["year"] + 500, day=some["day"] + pd.Timedelta(days=500))
    if model.spec.family.needs_strata:
        some = table.assign(gid="x" + table["gid"])[table["crisis"].isin([2, 5])]
    return some.sample(frac=1, random_state=4)


def with_new_units(table: pd.DataFrame, model: Model) -> pd.DataFrame:
    """Every third row has a new member, every other nesting unit with random effects is new."""
    out = table.copy()
    for part in model.spec.members:
        column = part.block.member
        every_third = (np.arange(len(out)) % 3 == 0) & out[column].notna().to_numpy()
        if pd.api.types.is_numeric_dtype(out[column]):
            out.loc[every_third, column] = out.loc[every_third, column] + 1000
        else:
            out.loc[every_third, column] = "new" + out.loc[every_third, column].astype(str)
    for nest in model.spec.nestings:
        if nest.random:
            column = nest.block.unit
            out[column] = out[column].where(out[column] % 2 == 0, out[column] + 100)
    return out


def invented_draws(model: Model) -> Run:
    rng, draws = np.random.default_rng(9), {}
    for parameter in model.spec.parameters:
        shape = (2, 7, *(len(model.design.coords[d]) for d in parameter.dims))
        values = 0.3 * rng.normal(size=shape)
        if parameter.support == "probability":
            values = 0.5 + 0.4 * np.tanh(values)
        draws[parameter.name] = np.abs(values) + 0.1 if parameter.support == "positive" else values
    return Run(draws, {}, 0.0, {})


# ---- the fit's own rows, given as new ones ---------------------------------------------------


@pytest.mark.parametrize("name", [n for n in CASES if n not in WALKS])
def test_the_fits_rows_as_new_ones_have_its_arrays(name: str, fitted: Any) -> None:
    model, table = model_of(name, fitted)
    new = lay_out(model, table.sample(frac=1, random_state=1) if model.spec.members else table)
    assert not sum(map(len, (*new.new_members, *new.new_units)))
    check_same_arrays(model.design, new.layout.design, model)


def check_same_arrays(fit: Design, new: Design, model: Model) -> None:
    """Arrays of the same groups; what is centred in a fit is not in new rows."""
    assert new.J == fit.J
    if not model.spec.members:  # rows, which are sorted by the outcome too where it is there
        place = np.argsort(new.coords["group"])[np.argsort(np.argsort(fit.coords["group"]))]
        rows = replace(model.grouped, start=np.arange(new.J + 1))
        new = some_groups(new, rows, place, model.spec)
    close(new.X_l2, fit.X_l2 + fit.center_l2)
    close(0.0 if new.offset is None else new.offset, 0.0 if fit.offset is None else fit.offset)
    for a, b in zip(fit.nestings, new.nestings, strict=True):
        assert list(a.unit) == list(b.unit) and a.n_units == b.n_units
        close(b.X, a.X + a.center)
        close(b.scale, a.scale)
    for part, a, b in zip(model.spec.members, fit.members, new.members, strict=True):
        check_same_memberships(a, b)
        for one, other in zip(a.features, b.features, strict=True):
            assert one.slope == other.slope and one.prior == other.prior, part.b
            close(other.x, one.x)
            close(other.reference, one.reference)
    for name, labels in fit.coords.items():
        assert list(new.coords[name]) == list(labels), name


def check_same_memberships(a: Membership, b: Membership) -> None:
    for name in ("member", "group", "start"):
        assert list(getattr(a, name)) == list(getattr(b, name)), name
    close(b.X, a.X + a.center)
    close(b.n, a.n * a.typical_size)
    for name in ("weight", "offset"):
        assert (getattr(a, name) is None) == (getattr(b, name) is None), name
        if getattr(a, name) is not None:
            close(getattr(b, name), getattr(a, name))
    if a.slopes is not None:
        assert b.slopes is not None
        close(b.slopes.values, a.slopes.values)
    assert set(a.inputs) == set(b.inputs)
    for name, values in a.inputs.items():
        close(b.inputs[name], values)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, **EXACT)


@pytest.mark.parametrize("name", [n for n in CASES if n not in WALKS])
def test_predictions_for_the_fits_rows_are_those_of_the_fit(name: str, fitted: Any) -> None:
    model, table = model_of(name, fitted)
    run = invented_draws(model)
    for kind in ("linear", "mean"):
        try:
            labels, expected = predict(model, run, None, kind, "all", 1)
        except rmm.RmmError as error:  # a mean that the family does not have
            with pytest.raises(type(error), match=str(error)[:20]):
                predict(model, run, table, kind, "all", 1)
            continue
        found, values = predict(model, run, table, kind, "all", 1)
        assert list(found) == list(labels)
        close(values, expected)


# ---- new groups -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_new_groups_have_the_arrays_of_a_table_that_holds_them(name: str, fitted: Any) -> None:
    """Weights, covariates and walks of new groups, as in a fit of both tables without constants.

    What a fit takes from all rows (centres, scales, totals, levels) is compared by predictions.
    """
    case = CASES[name]
    if any(word in case.formula for word in (*SCALED, "ns(", "c=2", "threshold(")):
        pytest.skip("its columns depend on all rows of a fit")
    if case.transform is not None or case.table != "governments":
        pytest.skip("its columns depend on all rows of a fit")
    model, table = model_of(name, fitted)
    if not model.spec.members or model.spec.family.needs_strata:
        pytest.skip("rows have no order of their own, or a group alone is no choice")
    rows = with_new_units(later(table, model), model)
    new = lay_out(model, rows)
    both = quiet(case, pd.concat([table, rows], ignore_index=True))
    count = model.design.J
    close(new.layout.design.X_l2, (both.design.X_l2 + both.design.center_l2)[count:])
    for a, b in zip(new.layout.design.nestings, both.design.nestings, strict=True):
        close(a.X, (b.X + b.center)[count:])
    blocks = zip(
        new.layout.grouped.members,
        both.grouped.members,
        new.layout.design.members,
        both.design.members,
        strict=True,
    )
    for units, all_units, a, b in blocks:
        first = b.start[count]
        assert list(units.labels[a.member]) == list(all_units.labels[b.member[first:]])
        if a.weight is not None and b.weight is not None:
            close(a.weight, b.weight[first:])
        whole = b.X + b.center
        close(a.X, whole[count:] if b.weight is not None else whole[first:])
        if a.walk is not None and b.walk is not None:
            check_same_walk(new, model, units.labels[a.member], a, b, first)


SCALED = ("poly(", "center(", "scale(")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, case in CASES.items()
        if case.transform is not None or any(word in case.formula for word in SCALED)
        if "ns(" not in case.formula
    ],
)
def test_new_groups_have_the_constants_of_the_fit(name: str, fitted: Any) -> None:
    """Centres, scales and polynomials: in a fit of both tables they are others.

    Splines of other knots are no combinations of ours: tests/posterior/test_curve_effects.py.

    Columns of that fit are linear combinations of a constant and the columns of ours. The
    combinations that give ours in the groups of the fit must give them in new groups too.
    """
    case = CASES[name]
    model, table = model_of(name, fitted)
    rows = with_new_units(later(table, model), model).reset_index(drop=True)
    new, fit, count = lay_out(model, rows).layout.design, model.design, model.design.J
    both = quiet(case, pd.concat([table, rows], ignore_index=True)).design
    orders = [np.arange(design.J) for design in (new, fit, both)]
    if not model.spec.members:  # rows, which are sorted by the outcome where it is there
        orders = [np.argsort(design.coords["group"].astype(int)) for design in (new, fit, both)]
    first, second, third = orders
    check_same_combinations(
        new.X_l2[first], (fit.X_l2 + fit.center_l2)[second], both.X_l2[third], count
    )
    for a, b, c in zip(new.nestings, fit.nestings, both.nestings, strict=True):
        check_same_combinations(a.X, b.X + b.center, c.X, count)
    blocks = zip(model.spec.members, new.members, fit.members, both.members, strict=True)
    for part, ours, own, joint in blocks:
        if part.weight.constraint == "group" and "within" not in case.formula:
            known = count if own.weight is not None else int(joint.start[count])
            check_same_combinations(ours.X, own.X + own.center, joint.X, known)


def check_same_combinations(new: Array, fit: Array, both: Array, count: int) -> None:
    every = np.column_stack([np.ones(len(both)), both])
    combinations = np.linalg.lstsq(every[:count], fit, rcond=None)[0]
    np.testing.assert_allclose(every[:count] @ combinations, fit, atol=1e-9)
    np.testing.assert_allclose(every[count:] @ combinations, new, atol=1e-9)


def check_same_walk(
    new: NewGroups, model: Model, labels: Array, a: Membership, b: Membership, first: int
) -> None:
    """New effects are numbered after those of the fit, whatever the codes of members."""
    assert a.walk is not None and b.walk is not None
    assert list(a.walk.order) == list(b.walk.order[first:])
    assert list(a.walk.effect) == list(b.walk.effect[first:])
    assert list(a.walk.previous) == list(b.walk.previous[first:])


@pytest.mark.parametrize("name", CASES)
def test_a_group_alone_is_as_among_others(name: str, fitted: Any) -> None:
    """Constants are those of the fit: no other new row changes what a group's row means."""
    model, table = model_of(name, fitted)
    if model.spec.family.needs_strata or "gid" not in table:
        pytest.skip("groups of a stratum, or rows, are predicted together")
    run, new = invented_draws(model), with_new_units(later(table, model), model)
    if "ar=" in model.formula:  # a member's steps in earlier new groups count
        new = later(table, model).drop_duplicates("pid")
    for effects in ("all", "known", "none"):
        labels, expected = predict(model, run, new, "linear", effects, 3)
        assert np.isfinite(expected).all()
        for place in (0, len(labels) - 1):
            alone = new[new["gid"] == labels[place]] if model.spec.members else new.iloc[[place]]
            _, values = predict(model, run, alone, "linear", effects, 3)
            close(values[:, 0], expected[:, place])


def test_random_walks_go_on_over_new_groups(fitted: Any) -> None:
    """Without new steps a known member keeps its last effect; a new one starts at 0."""
    model, table = model_of("dates", fitted)
    run, new = invented_draws(model), with_new_units(later(table, model), model)
    draws, b = run.draws["u_l1"].reshape(14, -1), run.draws["b_l1"].reshape(14, -1)
    last = table.sort_values(["day", "pid"]).groupby("pid")["gid"].last()
    members = model.grouped.members[0]
    row = {
        (members.labels[c], model.grouped.groups.labels[g]): k
        for k, (c, g) in enumerate(zip(members.code, members.group, strict=True))
    }
    labels, values = predict(model, run, new, "linear", "known", 3)
    for place, label in enumerate(labels):
        rows = new[new["gid"] == label]
        known = [row[p, last[p]] for p in rows["pid"] if p in last.index]
        effects = draws[:, known].sum(axis=1) + b[:, 0] * rows["x"].sum()
        intercept = run.draws["b_l2"].reshape(14, -1)[:, 0]
        close(values[:, place], intercept + effects / len(rows))


def test_a_walk_cannot_go_back(fitted: Any) -> None:
    model, table = model_of("dates", fitted)
    some, last = (table[table["gid"] == g].assign(gid="x") for g in ("g030", "g059"))
    with pytest.raises(
        rmm.DataError,
        match=r"New group 'x' is at the time of group 'g059' .*Both groups have member",
    ):
        lay_out(model, last)
    with pytest.raises(
        rmm.DataError, match=r"New group 'x' is before group 'g0\d\d' .*Both groups have member"
    ):
        lay_out(model, some)


def test_the_order_of_new_categories_does_not_matter(fitted: Any) -> None:
    model, table = model_of("categories", fitted)
    new, run = later(table, model), invented_draws(model)
    expected = predict(model, run, new, "linear", "all", 3)[1]
    for order in (["west", "north", "east"], ["east", "other", "west", "north"]):
        as_categories = new.assign(region=new["region"].astype(pd.CategoricalDtype(order)))
        close(predict(model, run, as_categories, "linear", "all", 3)[1], expected)


def test_levels_that_the_fit_did_not_have(fitted: Any) -> None:
    model, table = model_of("absent combinations", fitted)
    with pytest.raises(rmm.DataError, match=r"`rev` is 'c' in row 1 of the new table"):
        lay_out(model, table.assign(rev="c"))
    with pytest.raises(rmm.DataError, match=r"has region=west:rev=b. No row of the fit has"):
        lay_out(model, table.assign(rev="b", region="west"))
