"""Two methods on the same data sets: counts against plain loops, labels, errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rmm.cli import main
from rmm.errors import StudyError
from rmm.study import joint_outcomes, performance
from rmm.study.estimate_tables.score_table import read_table_of
from rmm.study.estimate_tables.table_options import split_arguments
from rmm.study.measures.joint_outcomes import OUTCOMES, mcnemar_p
from rmm.study.report.data.table_results import table_results
from rmm.study.report.tables.joint_outcome_table import joint_outcome_table

COLUMNS = {"by": "n", "method": "m", "replication": "i", "estimate": "b", "se": "se"}


def table(sets: int = 60) -> pd.DataFrame:
    """Two scenarios, three methods; b fails in data set 4 of the first scenario."""
    rng = np.random.default_rng(5)
    rows = [
        (n, m, i, noise + rng.normal(0, 0.9), 0.8 + 0.1 * k)
        for n in (10, 20)
        for i, noise in enumerate(rng.normal(0, 1.2, sets))
        for k, m in enumerate("abc")
    ]
    found = pd.DataFrame(rows, columns=["n", "m", "i", "b", "se"])
    found.loc[(found["n"] == 10) & (found["m"] == "b") & (found["i"] == 4), "b"] = np.nan
    return found


def by_hand(frame: pd.DataFrame, n: int, first: str, second: str) -> list[int]:
    """Both, only first, only second, neither cover 0, by a loop."""
    counts = [0, 0, 0, 0]
    for _, part in frame[frame["n"] == n].groupby("i"):
        rows = part.set_index("m")
        covers = []
        for name in (first, second):
            b, se = rows.loc[name, "b"], rows.loc[name, "se"]
            covers.append(None if np.isnan(b) else abs(b) <= stats.norm.ppf(0.975) * se)
        if None not in covers:
            counts[(not covers[0]) * 2 + (not covers[1])] += 1
    return counts


def test_counts_are_those_of_a_loop() -> None:
    frame = table()
    found = joint_outcomes(frame, "a", "b", truth=0, measures=["coverage"], **COLUMNS)
    for n, used in ((10, 59), (20, 60)):
        part = found[found["factor.n"] == n]
        assert part["outcome"].tolist() == list(OUTCOMES)
        counts = by_hand(frame, n, "a", "b")
        assert part["count"].tolist() == counts
        assert min(counts) > 0  # else nothing is seen
        assert part["n"].unique().tolist() == [used]
        assert part["n_dropped"].unique().tolist() == [60 - used]
        shares = np.array(counts) / used
        np.testing.assert_allclose(part["share"], shares)
        np.testing.assert_allclose(part["mcse"], np.sqrt(shares * (1 - shares) / used))
        p = stats.binomtest(counts[1], counts[1] + counts[2]).pvalue
        np.testing.assert_allclose(part["p_value"], p)


def test_rejection_agrees_with_the_rates_of_performance() -> None:
    """Both + only one is the rejection rate on the data sets of the pair."""
    frame = table().query("n == 20")
    found = joint_outcomes(frame, "a", "c", measures=["rejection"], truth=0, **COLUMNS)
    share = found.set_index("outcome")["share"]
    scores = performance(frame, truth=0, measures=["rejection"], **COLUMNS)
    rate = scores[scores["policy"] == "per_method"].set_index("method")["value"]
    assert share["both"] + share["only_first"] == pytest.approx(rate["a"])
    assert share["both"] + share["only_second"] == pytest.approx(rate["c"])


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_exchanging_methods_and_shuffling_rows_change_nothing(random: object) -> None:
    frame = table(12)
    order = list(range(len(frame)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one = joint_outcomes(frame, "a", "b", truth=0, **COLUMNS)
    other = joint_outcomes(frame.iloc[order], "b", "a", truth=0, **COLUMNS)
    names = {"only_first": "only_second", "only_second": "only_first"}
    other["outcome"] = other["outcome"].replace(names)
    keys = ["factor.n", "measure", "outcome"]
    values = ["count", "share", "p_value"]
    left, right = (t.set_index(keys)[values].sort_index() for t in (one, other))
    pd.testing.assert_frame_equal(left, right)


def test_the_test_holds_its_level() -> None:
    """Equal rates by design: the exact test rejects at most 5% of 400 pairs of methods.

    With at most 5% each, more than 32 rejections have probability .005 by the binomial
    distribution; the exact test is conservative, so the chance of a false alarm is below that.
    """
    rng = np.random.default_rng(9)
    discordant = rng.binomial(200, 0.1, size=400)
    p = [mcnemar_p(int(k), int(m - k)) for m in discordant for k in [rng.binomial(m, 0.5)]]
    assert sum(value < 0.05 for value in p) <= 32
    assert mcnemar_p(15, 2) == pytest.approx(stats.binomtest(2, 17).pvalue)
    assert np.isnan(mcnemar_p(0, 0))


def test_labels_are_the_users() -> None:
    """Numbers stay numbers; several columns make a method."""
    frame = table(10).assign(kind=1)
    found = joint_outcomes(
        frame, ("a", 1), ("c", 1), truth=0, **COLUMNS | {"method": ["m", "kind"], "by": "n"}
    )
    assert set(found["second"]) == {"c, 1"}
    assert found.columns[0] == "factor.n"
    assert found["factor.n"].unique().tolist() == [10, 20]


@pytest.mark.parametrize(
    ("first", "second", "changes", "message"),
    [
        ("a", "z", {}, r"'z' is not a method.*a, b, c"),
        ("a", "a", {}, r"The two methods are the same: a"),
        ("a", "b", {"replication": None}, r"has no replications.*Name their column"),
        ("a", "b", {"measures": ["bias"]}, r"'bias' is not a measure with an outcome.*coverage"),
        ("a", "b", {"baseline": "a"}, r"'baseline' is not an argument"),
    ],
)
def test_errors_name_what_is_wrong(
    first: str, second: str, changes: dict[str, object], message: str
) -> None:
    frame = table(5)
    if changes.get("replication", "i") is None:
        frame = frame.drop(columns="i").query("m != 'c'").drop_duplicates(["n", "m"])
    with pytest.raises(StudyError, match=f"(?s){message}"):
        joint_outcomes(frame, first, second, **COLUMNS | {"truth": 0} | changes)


def test_command_prints_and_writes(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    table().to_csv(tmp_path / "t.csv", index=False)
    options = ["--by", "n", "--method", "m", "--replication", "i", "--estimate", "b"]
    options += ["--se", "se", "--truth", "0", "--joint", "a", "b", "--out", str(tmp_path / "j.csv")]
    assert main(["study", "score", str(tmp_path / "t.csv"), *options]) == 0
    printed = capsys.readouterr().out
    assert "only a" in printed and "only b" in printed and "n = 10" in printed
    kept = pd.read_csv(tmp_path / "j.csv")
    assert kept["count"].sum() == 2 * (59 + 60)


def test_report_has_a_table_of_each_method_and_the_baseline() -> None:
    columns, options = split_arguments({**COLUMNS, "truth": 0})
    read = read_table_of(table(), columns, options)
    made = joint_outcome_table(table_results(read, options, "t"))
    assert [t.name for t in made] == ["b_joint"]
    wanted = joint_outcomes(table(), "a", "b", truth=0, **COLUMNS)
    first = [cell.value for cell in made[0].rows[0]]
    assert first[:3] == [10, "b", "Coverage, α = 0.05"]
    assert first[3:11:2] == wanted["share"].head(4).tolist()
