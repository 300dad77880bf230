"""The design recipe: labels of all coefficients, from the columns that a fit uses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.columns.encode import Columns
from rmm.design.columns.predictors import (
    coefficient_labels,
    encode_predictors,
    labels_without_table,
    take_out_held,
)
from rmm.design.prepare import prepare

FORMULA = (
    "y ~ 0 + z + region + mm(id(pid, gid), vars(x, variance(x), kind), fn(w ~ 1/n), RE=re(1 + x))"
    " + hm(id=cid, name=cname, type=FE) + hm(id=dec)"
)


@pytest.fixture(scope="module")
def table(coalitions: pd.DataFrame) -> pd.DataFrame:
    return coalitions.assign(kind=np.array(["l", "r"])[coalitions["pid"] % 2])


def test_labels_of_every_vector(table: pd.DataFrame) -> None:
    recipe = prepare(FORMULA, table).recipe
    assert recipe.labels == {
        "b_l2": ("z", "region=east", "region=north", "region=west"),
        "b_l3_1": tuple(f"C{k}" for k in range(1, 10)),  # region stands in for the intercept
        "b_l3_2": (),
        "b_l1": ("x", "kind=r", "variance(x)"),
        "b_w": (),
        "b_f": (),
        "sigma_slope_l1": ("x",),
    }


def test_the_recipe_is_that_of_the_model_as_written(table: pd.DataFrame) -> None:
    """Held coefficients keep their place in it, and change no other column."""
    free = prepare(FORMULA, table)
    held = prepare(FORMULA, table, priors={"b_l2[region=north]": 1, "b_l1[x]": 2, "b_l3_1[C3]": 0})
    assert held.recipe.labels == free.recipe.labels
    assert list(held.design.coords["covariate_l2"]) == ["z", "region=east", "region=west"]
    kept = [0, 1, 3]
    assert held.design.X_l2 == pytest.approx(free.design.X_l2[:, kept])
    left = held.design.members[0].X
    assert left == pytest.approx(free.design.members[0].X[:, 1:])


def test_coordinates_are_the_recipes_labels(table: pd.DataFrame) -> None:
    model = prepare(FORMULA, table)
    for parameter in model.spec.parameters:
        if parameter.name in model.recipe.labels:
            coords = model.design.coords[parameter.dims[0]]
            assert tuple(coords) == model.recipe.labels[parameter.name]


def test_every_term_is_one_column_without_a_table(table: pd.DataFrame) -> None:
    spec = prepare(FORMULA, table).spec
    labels = labels_without_table(spec)
    assert labels["b_l2"] == ("z", "region")
    assert labels["b_l1"] == ("x", "kind", "variance(x)")


def test_what_is_encoded_is_what_the_recipe_names(table: pd.DataFrame) -> None:
    model = prepare(FORMULA, table)
    _, encoded = encode_predictors(model.spec, model.grouped)
    assert coefficient_labels(model.spec, encoded) == model.recipe.labels
    sums = encoded.level2.terms.values[:, 1:].sum(axis=1)
    assert sums == pytest.approx(np.ones(model.design.J))


def test_two_coefficients_of_one_name_are_refused(table: pd.DataFrame) -> None:
    twice = table.assign(**{"region=north": table["z"] ** 2})
    with pytest.raises(rmm.DataError, match=r"Two predictors have the name `region=north`"):
        prepare("y ~ 1 + region + `region=north` + mm(id(pid, gid), RE=TRUE)", twice)


def test_held_columns_become_a_known_sum() -> None:
    columns = Columns(("a", "b", "c"), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    left = take_out_held(columns, (("c", 2.0), ("a", -1.0)))
    assert left.labels == ("b",) and left.known == pytest.approx([5.0, 8.0])
    again = take_out_held(left, (("b", 10.0),))
    assert again.values.shape == (2, 0) and again.known == pytest.approx([25.0, 58.0])
    assert take_out_held(columns, ()) is columns
