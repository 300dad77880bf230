"""Methods that confirm others: differences on the same data sets, their errors, their table."""

from __future__ import annotations

import csv
from pathlib import Path

import invented
import numpy as np
import pandas as pd
import pytest
import yaml

from rmm.study.confirming import COLUMNS, confirmations
from rmm.study.report import write_report

PAIR = [("fast", "slow")]


def rows(method: str, means: list[float], sd: float, **more: object) -> pd.DataFrame:
    """Fits of replications 1, 2, ... of one scenario."""
    mean = np.array(means)
    table = pd.DataFrame({"scenario": "s1", "method": method, "parameter": "b_l1[x]",
                          "replication": np.arange(1, len(means) + 1), "mean": mean, "sd": sd,
                          "lower": mean - 2 * sd, "upper": mean + 2 * sd, "status": "ok",
                          "p_value": np.nan})  # fmt: skip
    return table.assign(**more)


def test_differences_are_those_of_pairs() -> None:
    fast = rows("fast", [0.0, 1.0, 3.0, 9.0], 1.1)
    slow = rows("slow", [0.2, 1.0, 2.0], 1.0)
    found = confirmations(pd.concat([fast, slow]), PAIR, {"b_l1[x]": 0.0})
    assert list(found.columns) == COLUMNS
    (row,) = found.to_dict("records")
    assert row["n"] == 3
    shifts = np.array([-0.2, 0.0, 1.0])
    assert row["shift"] == pytest.approx(shifts.mean())
    assert row["shift_mcse"] == pytest.approx(shifts.std(ddof=1) / 3**0.5)
    assert (row["sd_ratio"], row["sd_ratio_mcse"]) == pytest.approx((1.1, 0.0))
    # 3 - 2.2 excludes 0; 2 - 2 does not.
    assert (row["rejection"], row["confirming_rejection"]) == pytest.approx((1 / 3, 0))
    assert (row["rejection_shift"], row["rejection_shift_mcse"]) == pytest.approx((1 / 3, 1 / 3))


def test_p_values_decide_where_there_are_any() -> None:
    fast = rows("fast", [9.0, 9.0], 1.0, p_value=[0.2, 0.01])
    slow = rows("slow", [0.0, 0.0], 1.0, p_value=[0.04, 0.06])
    (row,) = confirmations(pd.concat([fast, slow]), PAIR, {"b_l1[x]": 0.0}).to_dict("records")
    assert (row["rejection"], row["confirming_rejection"], row["rejection_shift"]) == (0.5, 0.5, 0)


def test_only_fits_that_both_can_use_count() -> None:
    fast = rows("fast", [0.0, 5.0, 0.0], 1.0, status=["ok", "not_converged", "ok"])
    slow = rows("slow", [0.0, 0.0, 7.0], 1.0, status=["ok", "ok", "failed"])
    table = pd.concat([fast, slow])
    (row,) = confirmations(table, PAIR, {"b_l1[x]": 0.0}, ["b_l1[x]"]).to_dict("records")
    assert (row["n"], row["shift"]) == (1, 0)
    assert np.isnan([row["shift_mcse"], row["rejection"], row["rejection_shift"]]).all()
    assert confirmations(table, [("fast", "other")], {"b_l1[x]": 0.0}).empty


def test_the_report_has_a_table_of_confirmations(tmp_path: Path) -> None:
    folder = invented.write_study(tmp_path / "made", {"overlap": [0.0, 1.0]}, ["fast", "slow"])
    write_report(folder)
    made = folder / "report" / "tables" / "confirmation.csv"
    assert not made.exists()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["methods"][1]["confirms"] = "fast"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    page = write_report(folder).read_text()
    assert "Confirmed by another engine" in page
    assert "standard errors from no difference" in page
    with made.open() as file:
        table = list(csv.DictReader(file))
    assert [row["overlap"] for row in table] == ["0.0", "1.0"]
    assert all(30 < int(row["n"]) < 40 for row in table)
