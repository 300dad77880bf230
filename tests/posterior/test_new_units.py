"""Ids that a fit does not know: a misspelt party is not taken for a new one without a word."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.errors import SpecificationWarning
from rmm.posterior.prediction.new_units import _alike

PARTIES = ["SPD", "CDU", "CSU", "Greens", "FDP", "P 7", "P 8"]
FORMULA = (
    "y ~ 1 + mm(id(party, gov), vars(x), fn(w ~ 1/n), RE = TRUE)"
    " + mm(id(minister, gov), fn(w ~ 1/n), RE = re(1 + x)) + hm(id = country)"
)


def coalitions() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    rows = 120
    gov = np.repeat(np.arange(rows // 2), 2)
    party = np.concatenate([rng.choice(PARTIES, 2, replace=False) for _ in range(rows // 2)])
    return pd.DataFrame(
        {
            "gov": gov,
            "party": party,
            "minister": np.arange(rows) % 9 + 1,
            "country": np.array(["Germany", "Austria", "Latvia"])[gov % 3],
            "x": rng.normal(size=rows),
            "y": rng.normal(size=rows // 2)[gov],
        }
    )


@pytest.fixture(scope="module")
def fit() -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            FORMULA, coalitions(), backend="fake", chains=2, draws=20, seed=1, progress=False
        )


def changed(**columns: Any) -> pd.DataFrame:
    new = pd.DataFrame(
        {"gov": [900, 900], "party": ["SPD", "FDP"], "minister": [3, 4], "country": "Latvia"}
    )
    return new.assign(x=0.0, **columns)


def heard(fit: Any, table: pd.DataFrame, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fit.predict(table, **options)
    assert all(issubclass(w.category, SpecificationWarning) for w in found)
    assert all(Path(w.filename) == Path(__file__) for w in found)  # the caller's line
    return [str(w.message) for w in found]


def test_known_ids_are_predicted_without_a_word(fit: rmm.Fit) -> None:
    assert heard(fit, changed()) == []
    assert heard(fit, changed(gov=["a new group"] * 2)) == []


def test_a_misspelt_member_is_named_with_the_one_that_was_meant(fit: rmm.Fit) -> None:
    assert heard(fit, changed(party=["SPDD", "FDP"])) == [
        "The new table has 1 member that was not in the data of the fit (column `party`): 'SPDD' "
        "(similar in the fit: 'SPD'). The effect of this new member is drawn from the distribution "
        "of these effects. If its id is misspelt, correct it in the table. If it is indeed new, "
        "set new=['SPDD'], to avoid this warning."
    ]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"party": ["spd ", "greens"]}, "2 members that were .* (`party`): 'greens' (similar in "
         "the fit: 'Greens'), 'spd ' (similar in the fit: 'SPD'). The effect of each"),
        ({"minister": [77, 4]}, "1 member that was not in the data of the fit (column `minister`): "
         "77. The effect of this"),
        ({"country": "Latva"}, "1 nesting unit that was .* (column `country`): 'Latva' (similar in "
         "the fit: 'Latvia'). The effect of this new nesting unit is drawn"),
    ],
)  # fmt: skip
def test_all_kinds_of_units_are_checked(fit: rmm.Fit, columns: Any, words: str) -> None:
    said = heard(fit, changed(**columns))
    assert len(said) == 1
    for part in words.replace("(`party`)", "(column `party`)").split(" .* "):
        assert part in said[0]


def test_each_block_has_its_own_warning(fit: rmm.Fit) -> None:
    said = heard(fit, changed(party=["X", "FDP"], minister=[3, 70], country="Peru"))
    assert [text.split("(column `")[1].split("`")[0] for text in said] == [
        "party",
        "minister",
        "country",
    ]
    assert all("similar" not in text for text in said)


def test_only_numbers_that_differ_are_no_misspelling(fit: rmm.Fit) -> None:
    assert "similar" not in heard(fit, changed(party=["P 9", "FDP"]))[0]
    assert "similar" not in heard(fit, changed(minister=[33, 4]))[0]


def test_new_ids_that_are_expected_are_not_warned_of(fit: rmm.Fit) -> None:
    table = changed(party=["SPDD", "FDP"], minister=[70, 71], country="Peru")
    assert heard(fit, table, new=True) == []
    assert heard(fit, table, new=["SPDD", 70, 71, "Peru"]) == []
    assert heard(fit, table, new=np.array(["SPDD", "Peru"])) == heard(fit, table, new="SPDD")[:1]
    assert ": 71." in heard(fit, table, new=["SPDD", "Peru", 70])[0]
    assert heard(fit, changed(minister=[70, 3]), new=70) == []
    one, other = (fit.predict(table, new=new) for new in (True, ["SPDD", 70, 71, "Peru"]))
    pd.testing.assert_frame_equal(one, other)


def test_the_argument_does_not_change_predictions(fit: rmm.Fit) -> None:
    table = changed(party=["SPDD", "FDP"])
    with pytest.warns(SpecificationWarning, match="SPDD"):
        plain = fit.predict(table)
    pd.testing.assert_frame_equal(plain, fit.predict(table, new=True))


def test_an_id_of_the_fit_is_not_new(fit: rmm.Fit) -> None:
    with pytest.raises(
        rmm.DataError, match=r"`new` has 'FDP', which was in the data of the fit\. List only ids"
    ):
        fit.predict(changed(party=["SPDD", "FDP"]), new=["SPDD", "FDP"])


def test_an_id_that_is_nowhere_is_not_new(fit: rmm.Fit) -> None:
    table = changed(party=["SPDD", "FDP"])
    with pytest.raises(rmm.DataError, match=r"'SPD_D', which is not in the new table.*'SPDD'\?"):
        fit.predict(table, new=["SPDD", "SPD_D"])
    with pytest.raises(rmm.DataError, match="New ids of the table: none"):
        fit.predict(changed(), new="Peru")


def test_flags_of_numpy_are_flags(fit: rmm.Fit) -> None:
    table = changed(party=["SPDD", "FDP"])
    assert heard(fit, table, new=np.True_) == []
    assert heard(fit, table, new=np.False_) == heard(fit, table, new=False) != []
    assert heard(fit, table, new=np.array("SPDD")) == []


@pytest.mark.parametrize(
    "new", [{"SPDD": 1}, pd.DataFrame({"party": ["SPDD"]}), [["SPDD"]], [("SPDD", 70)], [{"a": 1}]]
)
def test_what_is_neither_a_flag_nor_ids_is_refused(fit: rmm.Fit, new: Any) -> None:
    for effects in ("all", "none"):
        with pytest.raises(rmm.DataError, match="`new` must be True, False, an id, or a list"):
            fit.predict(changed(party=["SPDD", "FDP"]), new=new, effects=effects)


def test_numbers_of_smooth_functions_are_no_ids() -> None:
    table = coalitions()
    table["minister"] += 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curve = rmm.fit(
            "y ~ 1 + s(z, k = 5) + mm(id(minister, gov), RE = TRUE)",
            table.assign(z=np.sin(table["gov"])),
            backend="fake",
            draws=20,
            seed=1,
            progress=False,
        )
    new = changed(minister=[1, 102]).assign(z=0.1)
    assert heard(curve, new, new=[1]) == heard(curve, new, new=1) == []
    assert "1 member that was" in heard(curve, new)[0]


def test_where_effects_do_not_count_ids_do_not(fit: rmm.Fit) -> None:
    table = changed(party=["SPDD", "FDP"])
    assert heard(fit, table, effects="none") == []
    said = heard(fit, table, effects="known")
    assert "The effect of this new member is 0, its expected value." in said[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = rmm.fit(
            "y ~ 1 + mm(id(party, gov), vars(x), fn(w ~ 1/n))",
            coalitions(),
            backend="fake",
            draws=20,
            seed=1,
            progress=False,
        )
    assert heard(plain, table) == []


def test_made_up_members_of_our_own_are_no_surprise(fit: rmm.Fit) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit.conditional_effects("x", points=3, effects="all")


def test_a_fixed_nesting_unit_that_is_misspelt_is_named(fit: rmm.Fit) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fixed = rmm.fit(
            "y ~ 1 + mm(id(party, gov), RE = TRUE) + hm(id = country, type = FE)",
            coalitions(),
            backend="fake",
            draws=20,
            seed=1,
            progress=False,
        )
    with pytest.raises(rmm.DataError, match=r"'Latva' .* Did you mean 'Latvia'\? The nesting"):
        fixed.predict(changed(country="Latva"))


def test_long_lists_are_cut_and_those_that_may_be_misspelt_come_first(fit: rmm.Fit) -> None:
    many = [f"new{chr(97 + i)}{chr(109 - i)}{i}" for i in range(9)]
    table = pd.DataFrame({"gov": range(10), "party": [*many, "Gruens"], "minister": 3})
    (said,) = heard(fit, table.assign(country="Latvia", x=0.0))
    assert "10 members that were" in said
    assert "(column `party`): 'Gruens' (similar in the fit: 'Greens'), 'newam0'" in said
    assert " and 5 more. The effect of each new member is drawn" in said
    assert said.endswith("If they are indeed new, set new=True, to avoid this warning.")


def test_large_tables_are_compared_in_seconds() -> None:
    """100,000 known and 1,000 new ids: only case, blanks and marks count; 10 s of CPU time."""
    known = np.array([f"Person {i} of Somewhere" for i in range(100_000)], dtype=object)
    fresh = [f"stranger {i}" for i in range(999)] + ["PERSON 7 of somewhere"]
    start = time.process_time()
    assert _alike(fresh, known) == {"PERSON 7 of somewhere": ["Person 7 of Somewhere"]}
    assert _alike(["Persom 7 off Nowhere"], known[:10_000]) != {}
    assert time.process_time() - start < 10


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_mixtures_categories_and_causes_ask_the_same() -> None:
    """Each of the classes that predict: pooled fits, averages, unordered categories, causes."""
    rng = np.random.default_rng(2)
    table = coalitions()
    n = table["gov"].nunique()
    table["kind"] = rng.choice(["a", "b", "c"], n)[table["gov"]]
    table["time"], table["cause"] = rng.exponential(size=n)[table["gov"]] + 0.1, table["gov"] % 3
    mm = "mm(id(party, gov), vars(x), fn(w ~ 1/n), RE = TRUE)"
    options = {"backend": "laplace", "chains": 1, "draws": 50, "seed": 1}
    new = changed(party=["SPDD", "FDP"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pair = [rmm.fit(f"y ~ 1 + {mm}", table, **{**options, "seed": k}) for k in (1, 2)]
        pooled, average = rmm.pool(pair), rmm.average({"one": pair[0], "two": pair[1]})
        kinds = rmm.multinomial(f"kind ~ 1 + {mm}", table, **options)
        risks = rmm.competing_risks(f"Surv(time, cause) ~ 1 + {mm}", table, **options)

    def incidence(*new: Any, **named: Any) -> Any:
        return risks.cumulative_incidence(1.0, *new, **named)

    for call in (kinds.predict, incidence, pooled.predict, average.predict):
        with pytest.warns(SpecificationWarning, match=r"'SPDD' \(similar in the fit: 'SPD'\)"):
            call(new)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(new, new=["SPDD"])
