"""Bad input gets a short message of the right class, before any engine starts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import prepare

MM = "mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"


def changed(table: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    """A copy with one cell changed."""
    table = table.copy()
    if not isinstance(value, str):
        table[column] = table[column].astype(float)
    table.loc[row, column] = value
    return table


FORMULAS = {
    "typo": ("y ~ 1 + zz + " + MM, r"zz[\s\S]*\^"),
    "unknown function": ("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ sinn(s)))", r"sinn[\s\S]*\^"),
    "unknown weight column": (
        "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-b1*ss)))",
        r"ss[\s\S]*\^",
    ),
    "open parenthesis": ("y ~ 1 + mm(id(pid, gid), vars(x)", r"\("),
    "closed parenthesis": ("y ~ 1 + z)", r"\)"),
    "no outcome": ("~ 1 + z", "outcome|left"),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula_errors_point_at_the_place(name: str, coalitions: pd.DataFrame) -> None:
    formula, message = FORMULAS[name]
    with pytest.raises(rmm.FormulaError, match=message):
        prepare(formula, coalitions)


def test_weight_variables_constant_within_groups(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b0 + b1*z)), c=TRUE), RE=TRUE)"
    with pytest.raises(rmm.DataError, match="varies within groups"):
        prepare(formula, coalitions)
    prepare(formula.replace("c=TRUE", "c=2"), coalitions)  # constraint 2 identifies it


def test_partly_constant_weight_variables_warn(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*s + b2*z))), RE=TRUE)"
    with pytest.warns(rmm.SpecificationWarning, match="`z` is constant within every group"):
        prepare(formula, coalitions)


def test_outcome_that_varies_within_a_group(coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="outcome `y` varies within group 'g000'"):
        prepare("y ~ 1 + " + MM, changed(coalitions, 0, "y", 99.0))


def test_group_covariate_that_varies_within_a_group(coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="`x` is used outside mm\\(\\), but varies"):
        prepare("y ~ 1 + x + " + MM, coalitions)


@pytest.mark.parametrize("column", ["y", "z", "x", "pid"])
def test_missing_values_are_counted(column: str, coalitions: pd.DataFrame) -> None:
    table = coalitions.copy()
    table[column] = table[column].astype(float)
    table.loc[[4, 9], column] = np.nan
    with pytest.raises(
        rmm.DataError, match=f"`{column}`.* has 2 missing values; the first is in row 5"
    ):
        prepare(f"y ~ 1 + z + {MM}", table)


def test_infinite_values(coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="`x` has 1 infinite value, in row 8"):
        prepare("y ~ 1 + " + MM, changed(coalitions, 7, "x", np.inf))


def test_duplicate_member(coalitions: pd.DataFrame) -> None:
    table = coalitions.copy()
    table.loc[1, "pid"] = table.loc[0, "pid"]
    with pytest.raises(rmm.DataError, match=r"Group 'g000' .* has several rows for member"):
        prepare("y ~ 1 + " + MM, table)


def test_empty_and_single_group(coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="no rows"):
        prepare("y ~ 1 + " + MM, coalitions.iloc[:0])
    with pytest.raises(rmm.DataError, match="only one group"):
        prepare("y ~ 1 + " + MM, coalitions[coalitions.gid == "g000"])


def test_contradicting_group_size(coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="`n` always means the number of members"):
        prepare("y ~ 1 + " + MM, changed(coalitions, 0, "n", 9.0))


def test_swapped_ids_are_found(coalitions: pd.DataFrame) -> None:
    with pytest.warns(rmm.SpecificationWarning, match="constant within `gid`"):
        model = prepare("y ~ 1 + mm(id(gid, pid), vars(x), RE=TRUE)", coalitions)
    right = prepare("y ~ 1 + mm(id(pid, gid), vars(x), RE=TRUE)", coalitions)
    assert model.design.J == right.design.J == 120
    assert np.array_equal(model.design.members[0].member, right.design.members[0].member)


def test_two_group_ids(coalitions: pd.DataFrame) -> None:
    table = coalitions.assign(other=coalitions.gid + "b")
    with pytest.raises(rmm.FormulaError, match="have different group ids"):
        prepare("y ~ 1 + mm(id(pid, gid), RE=TRUE) + mm(id(pid, other), RE=TRUE)", table)


def test_unknown_names(coalitions: pd.DataFrame) -> None:
    with pytest.raises(rmm.BackendError, match=r"'bugs' is not a backend\. Allowed: jags, stan"):
        rmm.fit("y ~ 1 + " + MM, coalitions, backend="bugs")
    with pytest.raises(rmm.FormulaError, match="'poison' is not a family"):
        rmm.fit("y ~ 1 + " + MM, coalitions, family="poison")
    with pytest.raises(rmm.FormulaError, match="'log' is not a value of `transform`"):
        prepare("y ~ 1 + " + MM, coalitions, transform="log")
    with pytest.raises(
        rmm.BackendError,
        match=r"no option `adapt_detla`\. Did you mean `adapt_delta`, an option of stan",
    ):
        rmm.fit("y ~ 1 + " + MM, coalitions, backend="jags", adapt_detla=0.9)
    with pytest.raises(rmm.BackendError, match="`chains` must be a whole number"):
        rmm.fit("y ~ 1 + " + MM, coalitions, chains=0)


def test_files() -> None:
    with pytest.raises(rmm.DataError, match="file does not exist"):
        prepare("y ~ 1 + " + MM, "nowhere.parquet")
    with pytest.raises(rmm.DataError, match="must end in"):
        prepare("y ~ 1 + " + MM, "table.docx")


def test_text_in_place_of_numbers(coalitions: pd.DataFrame) -> None:
    table = coalitions.assign(word="a")
    with pytest.raises(
        rmm.DataError, match=r"`word` contains text, such as 'a'. Convert it to numbers"
    ):
        prepare("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ word))", table)
    with pytest.raises(rmm.DataError, match=r"`word` has only one level: .a."):
        prepare("y ~ 1 + word + " + MM, table)


def test_rows_as_units_without_mm_are_pointed_at(coalitions: pd.DataFrame) -> None:
    with pytest.warns(
        rmm.SpecificationWarning, match="Without mm\\(\\) every row is one observation"
    ):
        prepare("y ~ 1 + z", coalitions)
