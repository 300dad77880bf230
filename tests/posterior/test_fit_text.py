"""What a fit prints: digits that say something whatever the unit, columns that hold something."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rmm.posterior.reporting.fit_text import formatted

TABLE = pd.DataFrame(
    {
        "mean": [1.23456, 6.841e-7, 3.2e7, 0.0],
        "sd": [0.5, 9.449e-7, 4.56e6, 0.0],
        "rhat": np.nan,
        "ess_bulk": [812.3, 607.136, 401.0, np.nan],
        "contraction": [0.9876, 0.696, 0.5, np.nan],
    },
    index=["b_l1[x]", "b_w[b1]", "b_l2[gdp]", "b_l2[z]"],
)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("b_l1[x]", ["1.235", "0.500", "812.300", "0.988"]),
        ("b_w[b1]", ["6.84e-07", "9.45e-07", "607.136", "0.696"]),
        ("b_l2[gdp]", ["3.2e+07", "4.56e+06", "401.000", "0.500"]),
        ("b_l2[z]", ["0.000", "0.000", "", ""]),
    ],
)
def test_digits_follow_the_sd_of_the_row(row: str, expected: list[str]) -> None:
    assert formatted(TABLE).loc[row].tolist() == expected


def test_columns_without_values_are_left_out() -> None:
    assert list(formatted(TABLE)) == ["mean", "sd", "ess_bulk", "contraction"]
