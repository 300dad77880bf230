"""`poly(x, 2, raw = TRUE)` and `ns(x, 4)`: R's numbers and names, and splines by another route."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import CubicSpline

import rmm
from rmm.design.columns.encode import encode
from rmm.design.prepare import prepare
from rmm.formula.column_bases import NaturalSpline, Powers
from rmm.formula.parse_formula import parse_formula
from rmm.tables.table import Table

DOSES = np.array([1.0, 2, 4, 7, 11, 16])


def test_splines_are_those_of_r() -> None:
    """R 4.2.2: x <- c(1, 2, 4, 7, 11, 16); b <- ns(x, 3); print(b, digits = 10), then
    predict(b, c(-1, 5, 20)); ns(x, knots = c(3, 9)); ns(x, 1)."""
    basis = NaturalSpline(3).settled("ns(x, 3)", DOSES)
    assert basis.knots == pytest.approx((3.333333333, 8.333333333))
    expected = [
        [0.00000000000, 0.0000000000, 0.0000000000],
        [-0.08547332747, 0.2370232745, -0.1476538431],
        [-0.10433951731, 0.5497936009, -0.3422642909],
        [0.27637921233, 0.5127053787, -0.2811101093],
        [0.45850219873, 0.3450111321, 0.1106743122],
        [-0.15349490692, 0.4070951879, 0.7463997190],
    ]
    np.testing.assert_allclose(basis.columns("", DOSES), expected, atol=1e-10)
    beyond = [
        [0.183906299771, -0.4877514907, 0.3038451909],
        [-0.006780104084, 0.5866804411, -0.3618780085],
        [-0.779416930102, 0.5019318581, 1.2774850720],
    ]
    found = basis.columns("", np.array([-1.0, 5, 20]))
    np.testing.assert_allclose(found, beyond, atol=1e-10)
    basis = NaturalSpline(knots=(3.0, 9.0)).settled("", DOSES)
    given = [[-0.07612147424, 0.2293946883, -0.1491065474]]
    np.testing.assert_allclose(basis.columns("", DOSES[1:2]), given, atol=1e-10)
    line = NaturalSpline(1).columns("", DOSES)[:, 0]
    r = [0.0, 0.05345224838, 0.16035674515, 0.32071349029, 0.53452248382, 0.80178372574]
    np.testing.assert_allclose(line, r, atol=1e-10)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="there is no Rscript")
@pytest.mark.parametrize("df", [2, 5, 9])
def test_splines_and_powers_of_r_itself(df: int) -> None:
    rng = np.random.default_rng(df)
    x = np.round(rng.lognormal(3, 1, 60), 3)
    new = np.array([-50.0, 0.1, *x[:3], 2000.0])
    script = (
        f"x <- c({', '.join(map(str, x))}); new <- c({', '.join(map(str, new))}); "
        f"library(splines); b <- ns(x, {df}); out <- predict(b, new); "
        f"d <- data.frame(x = x); m <- model.matrix(~ ns(x, {df}) + poly(x, 2, raw = TRUE), d); "
        "cat('[[', paste(format(c(out), digits = 15), collapse = ','), '], [\"', "
        "paste(colnames(m), collapse = '\",\"'), '\"]]', sep = '')"
    )
    run = subprocess.run(
        [str(shutil.which("Rscript")), "-e", script], capture_output=True, text=True, check=True
    )
    numbers, names = json.loads(run.stdout)
    ours = NaturalSpline(df).settled("", x).columns("", new)
    np.testing.assert_allclose(ours, np.reshape(numbers, (df, -1)).T, rtol=1e-9, atol=1e-9)
    terms = parse_formula(f"y ~ ns(x, {df}) + poly(x, 2, raw = TRUE)").terms
    coding, columns = encode(terms, Table(pd.DataFrame({"x": x})))
    assert list(coding.labels) == names[1:]
    np.testing.assert_allclose(columns.values[:, -2:], np.column_stack([x, x**2]))


@pytest.mark.parametrize(("shift", "unit"), [(0, 1), (1e6, 1e-3), (0, 1e150), (0, 1e-150)])
def test_every_column_is_a_natural_spline(shift: float, unit: float) -> None:
    """It is determined by its values at the knots: SciPy's interpolation, in any unit."""
    rng = np.random.default_rng(4)
    x = rng.gamma(2, 3, 150)
    spline = NaturalSpline(6).settled("ns", x * unit + shift)
    assert spline.knots is not None and spline.ends is not None
    places = (np.array([spline.ends[0], *spline.knots, spline.ends[1]]) - shift) / unit
    at_knots = spline.columns("", places * unit + shift)
    other = CubicSpline(places, at_knots, bc_type="natural")
    ours = spline.columns("", x * unit + shift)
    np.testing.assert_allclose(ours, other(x), atol=1e-6)
    assert np.linalg.matrix_rank(np.column_stack([np.ones(len(x)), ours])) == 7
    beyond = np.array([places[0] - 4, places[-1] + 9])
    line = at_knots[[0, -1]] + other(places[[0, -1]], 1) * np.array([[-4.0], [9.0]])
    np.testing.assert_allclose(spline.columns("", beyond * unit + shift), line, atol=1e-5)


def test_names_do_not_depend_on_how_arguments_are_written() -> None:
    x = pd.DataFrame({"x": DOSES})
    for text, label in {
        "ns(x, df=2)": "ns(x, 2)",
        "ns(x,  2)": "ns(x, 2)",
        "ns(x, knots = c( 2,9.0))": "ns(x, knots = c(2, 9))",
        "ns(x, knots = 3)": "ns(x, knots = 3)",
        "poly(x, degree = 2, raw=TRUE)": "poly(x, 2, raw = TRUE)",
        "poly(x, 2, raw = FALSE)": "poly(x, 2)",
        "ns(log(x), 2)": "ns(log(x), 2)",
    }.items():
        coding, _ = encode(parse_formula(f"y ~ {text}").terms, Table(x))
        assert coding.labels[:2] == (f"{label}1", f"{label}2")


def test_messages_about_values() -> None:
    table = pd.DataFrame({"y": np.arange(12.0), "x": [0.0] * 9 + [1, 2, 3]})
    with pytest.raises(rmm.DataError, match=r"`ns\(x, 4\)` needs more than 4 different values"):
        prepare("y ~ ns(x, 4)", table)
    with pytest.raises(
        rmm.DataError, match=r"The knots of `ns\(x, 3\)` are 0, 0, and.*from 0 to 3"
    ):
        prepare("y ~ ns(x, 3)", table)
    with pytest.raises(rmm.DataError, match=r"knots = 3\)` are 3, and .* Correct them"):
        prepare("y ~ ns(x, knots = 3)", table)
    with pytest.raises(rmm.DataError, match=r"raw = TRUE\)` needs more than 4 different values"):
        prepare("y ~ poly(x, 4, raw = TRUE)", table)
    with pytest.raises(rmm.DataError, match=r"powers of values as large as 3e\+200 cannot be"):
        prepare("y ~ poly(x, 2, raw = TRUE)", table.assign(x=table["x"] * 1e200))
    assert Powers(3).columns("", np.array([2.0])).tolist() == [[2, 4, 8]]


def test_knots_are_quantiles_of_units() -> None:
    """Of groups outside mm(), of memberships inside, of nesting units in hm()."""
    rng = np.random.default_rng(2)
    rows = pd.DataFrame({"group": np.repeat(np.arange(40), rng.integers(1, 6, 40))})
    rows["member"] = np.arange(len(rows)) % 25
    rows["unit"] = rows["group"] % 9
    for name, units in (("z", "group"), ("q", "unit"), ("y", "group")):
        rows[name] = rng.normal(size=40)[rows[units]]
    rows["x"] = rng.normal(size=len(rows))
    model = prepare(
        "y ~ 1 + ns(z, 3) + mm(id(member, group), vars(ns(x, 2)), RE = TRUE)"
        " + hm(id = unit, vars = vars(ns(q, 2)))",
        rows,
    )
    knots = [
        term.atoms[0].basis.knots
        for terms in (
            model.spec.written,
            model.spec.members[0].block.terms,
            model.spec.nestings[0].terms,
        )
        for term in terms
    ]
    once = rows.drop_duplicates("group")["z"], rows["x"], rows.drop_duplicates("unit")["q"]
    assert knots[0] == pytest.approx(tuple(once[0].quantile([1 / 3, 2 / 3])))
    assert knots[1] == pytest.approx((once[1].median(),))
    assert knots[2] == pytest.approx((once[2].median(),))
