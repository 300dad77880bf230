"""A method's other engine where its first does not pass the gate: who answered, and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from rmm.errors import StudyError
from rmm.study import Study, load_study
from rmm.study.evaluate.engine_agreement import study_confirmations
from rmm.study.files.parquet import RUN_COLUMNS
from rmm.study.manage.check_models import check_models
from rmm.study.methods.fit_task import fit_task
from rmm.study.run.batch import run_batch
from rmm.study.run.replicate import make_task
from tests import ROOT

LAPLACE = {"chains": 2, "draws": 100, "options": {"ess": 100}}
FAKE = {"chains": 2, "draws": 40, "warmup": 10}
#: No fit of 200 draws passes it; any fit passes the other.
PASSED = {"ess_per_chain": 10}
STRICT, EASY = {"ess_per_chain": 101}, {"ess_per_chain": 0, "rhat": 1000}


def study(folder: Path, *methods: dict[str, Any], name: str = "study") -> Study:
    config = {
        "seed": 31,
        "replications": 3,
        "membership": {"kind": "synthetic", "groups": 40, "members": 15, "size": 3},
        "covariates": {"x": {"level": "member"}},
        "truth": {
            "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
            "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 1, "sigma_l1": 1, "sigma_l2": 1},
        },
        "methods": list(methods),
        "estimands": [{"parameter": "b_l1[x]"}],
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


def method(own_gate: dict[str, Any], /, **fallback: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": "one", "kind": "mm", "backend": "laplace", "sampler": LAPLACE}
    found["gate"] = own_gate
    return {**found, **({"fallback": fallback} if fallback else {})}


def estimates(found: Study, folder: Path, name: str = "one") -> pd.DataFrame:
    path = folder / f"{name}.parquet"
    run_batch(found, found.scenarios[0].id, name, 1, 3, path)
    return pd.read_parquet(path)


def test_the_other_engine_answers_and_the_row_says_so(tmp_path: Path) -> None:
    """Its fits are bit by bit those of a method of its own; nothing is lost."""
    other = {"backend": "fake", "sampler": FAKE, "gate": EASY}
    alone = {"name": "alone", "kind": "mm", **other}
    found = study(tmp_path, method(STRICT, **other), alone)
    rows, own = estimates(found, tmp_path), estimates(found, tmp_path, "alone")
    assert set(rows["backend"]) == {"fake"}
    assert set(rows["status"]) == {"ok"}
    assert rows["message"].str.match(r"laplace: ESS \d+ of the weights, 202 wanted").all()
    same = [c for c in rows if c not in (*RUN_COLUMNS, "method", "method_id", "message")]
    pd.testing.assert_frame_equal(rows[same], own[same])


def test_a_fallback_changes_nothing_where_the_first_engine_passes(tmp_path: Path) -> None:
    other = {"backend": "fake", "sampler": FAKE}
    with_it = estimates(study(tmp_path, method(PASSED, **other)), tmp_path)
    without = estimates(study(tmp_path, method(PASSED), name="plain"), tmp_path)
    assert set(with_it["backend"]) == {"laplace"}
    assert with_it["message"].isna().all()
    same = [c for c in with_it if c not in (*RUN_COLUMNS, "method_id")]
    pd.testing.assert_frame_equal(with_it[same], without[same])
    assert set(with_it["method_id"]) != set(without["method_id"])  # results are not mixed up


def test_where_both_fail_the_first_is_reported_with_both_reasons(tmp_path: Path) -> None:
    found = study(tmp_path, method(STRICT, backend="fake", sampler=FAKE, gate=STRICT))
    outcome = fit_task(make_task(found, found.scenarios[0], found.methods[0], 1))
    assert outcome.status == "not_converged"
    assert outcome.backend == ""
    assert "laplace: ESS" in outcome.message
    assert "; fake: " in outcome.message
    assert len(outcome.estimates) > 0  # of the first engine, as without a fallback


def test_an_engine_that_cannot_start_is_replaced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rmm.study.methods import fit_task as fitting

    def broken(task: Any) -> Any:
        raise RuntimeError("no engine")

    monkeypatch.setitem(fitting.BACKENDS, "laplace", broken)
    found = study(tmp_path, method(STRICT, backend="fake", sampler=FAKE, gate=EASY))
    outcome = fit_task(make_task(found, found.scenarios[0], found.methods[0], 1))
    assert (outcome.status, outcome.backend) == ("ok", "fake")
    assert outcome.message == "laplace: RuntimeError: no engine"


def test_jobs_and_programs_are_those_of_the_slowest_engine(tmp_path: Path) -> None:
    one, two = study(
        tmp_path, method(EASY, backend="stan"), {**method(EASY), "name": "two"}
    ).methods
    assert (one.compiled, one.shares_jobs) == (True, False)
    assert (two.compiled, two.shares_jobs) == (False, True)
    assert [m.backend for m in one.attempts] == ["laplace", "stan"]
    assert one.digest == two.digest  # the chains of the first engine have the same seeds


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ({"backend": "laplace"}, r"fallback\.backend\n.*'laplace' is not another engine"),
        ({"backend": "ols"}, r"fallback\.backend\n.*Allowed: jags, stan"),
        ({"backend": "stan", "sampler": {"pilot": 100}}, r"fallback\.sampler\n.*no pilot fit"),
        ({"backend": "stan", "gate": {"rhat": 0.5}}, r"fallback\.gate\.rhat"),
        ({"sampler": {"chains": 2}}, r"fallback\.backend\n.*`backend` is missing"),
    ],
)
def test_messages(fallback: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        study(tmp_path, method(EASY, **fallback))


def test_settings_of_the_fallback_are_checked_as_those_of_a_method(tmp_path: Path) -> None:
    options = {"backend": "stan", "sampler": {"options": {"adapt_delt": 0.9}}}
    with pytest.raises(StudyError, match=r"methods\[0\]\.fallback\.sampler\.options\.adapt_delt"):
        check_models(study(tmp_path, method({"ess_per_chain": 10}, **options)))
    chain = {"backend": "stan", "sampler": {"chains": 1}}
    with pytest.raises(StudyError, match=r"methods\[0\]\.fallback\.sampler\.chains"):
        check_models(study(tmp_path, method({"ess_per_chain": 10}, **chain)))


def test_regressions_have_no_fallback(tmp_path: Path) -> None:
    ols = {"name": "one", "kind": "aggregation", "backend": "ols", "fallback": {"backend": "stan"}}
    with pytest.raises(StudyError, match="`fallback` cannot be used with backend ols"):
        study(tmp_path, ols)


def test_fits_by_a_fallback_do_not_confirm_the_first_engine(tmp_path: Path) -> None:
    """Of three data sets the fallback has answered one: it is dropped from the comparison."""
    other = {"backend": "fake", "sampler": FAKE, "gate": EASY}
    confirming = {"name": "other", "kind": "mm", **other, "confirms": "one"}
    found = study(tmp_path, method(PASSED, **other), confirming)
    rows = pd.concat([estimates(found, tmp_path, name) for name in ("one", "other")])
    (row,) = study_confirmations(found, rows)
    assert (row["asked"], row["n"]) == (3, 3)
    answered = (rows["method"] == "one") & (rows["replication"] == 2)
    (row,) = study_confirmations(found, rows.assign(backend=rows["backend"].mask(answered, "fake")))
    assert (row["asked"], row["n"]) == (3, 2)


@pytest.mark.thorough
def test_weight_recovery_of_choices_loses_no_more_than_5_per_cent() -> None:
    """The first five data sets of 16 scenarios; of all 1,600 `laplace` fits 1,598 and Stan two."""
    found = load_study(ROOT / "config" / "studies" / "weight_recovery.yaml")
    scenarios = [s for s in found.scenarios if s.factors["family"] == "condlogit"]
    assert len(scenarios) == 16
    tasks = [make_task(found, s, found.method("mmmm"), r) for s in scenarios for r in range(1, 6)]
    lost = [outcome for task in tasks if (outcome := fit_task(task)).status != "ok"]
    assert len(lost) <= 0.05 * len(tasks), [outcome.message for outcome in lost]
