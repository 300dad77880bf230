"""Truths drawn from priors, and what judges say: calibration, recovery, parity."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from rmm.cli import main
from rmm.errors import StudyError
from rmm.families import Parameter
from rmm.formula.prior_syntax import PRIOR_FAMILIES
from rmm.simulation import RecipeError, simulate
from rmm.simulation.schema import schema
from rmm.simulation.truth_priors import SAMPLERS, draw_values, read_truth_prior
from rmm.study import Study, collect, load_study, plan, run_batch
from rmm.study.evaluate.criteria import calibration, parity
from rmm.study.evaluate.criteria.judge import CRITERIA, judge
from rmm.study.evaluate.score import score
from rmm.study.files.parquet import (
    ESTIMATES,
    FAILED,
    LATER,
    NOT_CONVERGED,
    OK,
    estimates_table,
    read_estimates,
    write_parquet,
)
from rmm.study.methods.ranks import KEPT, rank
from rmm.study.run.replicate import draw_replication, make_task

CONFIG: dict[str, Any] = {
    "seed": 5,
    "replications": 3,
    "batch": 2,
    "membership": {"kind": "synthetic", "groups": 40, "members": 15, "size": 3},
    "covariates": {"x": {"level": "member"}, "power": {"level": "membership"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n^exp(-b1*power)), RE = TRUE)",
        "parameters": {
            "b_l2[Intercept]": {"prior": "normal(0, 1)"},
            "b_l1[x]": {"prior": "student_t(5, 1, 0.5)"},
            "b_w[b1]": {"prior": "uniform(-1, 1)"},
            "sigma_l1": {"prior": "half_normal(1)"},
            "sigma_l2": {"prior": "gamma(10, 10)"},
        },
    },
    "methods": [
        {
            "name": "jags",
            "kind": "mmmm",
            "backend": "jags",
            "priors": "truth",
            "sampler": {"chains": 2, "warmup": 200, "draws": 200},
        },
        {"name": "stan", "kind": "mmmm", "backend": "stan", "priors": "truth"},
    ],
    "criteria": {"recovery": {}, "calibration": {}, "parity": {}},
}


def load(folder: Path, edit: Any = None) -> Study:
    config = copy.deepcopy(CONFIG)
    if edit is not None:
        edit(config)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


# -- truths drawn from priors ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("normal(1, 2)", stats.norm(1, 2)),
        ("student_t(5, 1, 2)", stats.t(5, 1, 2)),
        ("half_normal(2)", stats.halfnorm(0, 2)),
        ("half_t(4, 2)", stats.foldnorm(0)),
        ("half_cauchy(2)", stats.halfcauchy(0, 2)),
        ("exponential(2)", stats.expon(0, 0.5)),
        ("gamma(3, 2)", stats.gamma(3, scale=0.5)),
        ("uniform(-1, 3)", stats.uniform(-1, 4)),
    ],
)
def test_truths_have_the_distribution_of_their_prior(text: str, distribution: Any) -> None:
    """Kolmogorov-Smirnov at fixed seed; a right sampler fails at 8 seeds of 10,000."""
    prior = read_truth_prior("b", {"prior": text}, Parameter("b", (), "real", "coefficient"))
    rng = np.random.default_rng(8)
    values = np.array([draw_values({"b": prior}, rng)["b"] for _ in range(2000)])
    if text.startswith("half_t"):
        values, distribution = np.sign(rng.uniform(-1, 1, 2000)) * values / 2, stats.t(4)
    assert stats.kstest(values, distribution.cdf).pvalue > 1e-4


def test_every_prior_that_is_a_distribution_can_be_drawn_from() -> None:
    assert set(PRIOR_FAMILIES) - set(SAMPLERS) == {"fixed", "precision_gamma"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prior": "normal(0, 1)"}, r"sigma_l1\.prior: 'normal\(0, 1\)' can give negative values"),
        ({"prior": "uniform(-1, 1)"}, r"can give negative values"),
        ({"prior": "fixed"}, r"sigma_l1\.prior: The prior `sigma_l1 ~ fixed` cannot be read"),
        ({"prior": "gamma(1)"}, r"takes 2 numbers"),
        (
            {"prior": "gamma(1, 1)", "value": 1},
            r"sigma_l1\.value: 'value' is not a key of this kind",
        ),
    ],
)
def test_a_wrong_prior_of_a_truth_is_a_message(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_truth_prior("sigma_l1", given, Parameter("sigma_l1", (), "positive", "sd"))


def test_simulate_draws_the_truth() -> None:
    recipe = {k: CONFIG[k] for k in ("membership", "covariates")}
    truth = CONFIG["truth"]
    one, same, other = (
        simulate(truth["formula"], truth["parameters"], **recipe, seed=seed).truth
        for seed in (1, 1, 2)
    )
    assert one == same != other
    assert set(one) == set(truth["parameters"])


def test_each_replication_has_its_own_truth(tmp_path: Path) -> None:
    study = load(tmp_path)
    (scenario,) = study.scenarios
    first, again, second = (draw_replication(5, scenario, r).truth.parameters for r in (1, 1, 2))
    assert first == again
    assert all(first[name] != second[name] for name in study.truth_of(scenario, first))
    assert study.truth_of(scenario) == {}


def test_a_fixed_truth_uses_no_random_numbers(tmp_path: Path) -> None:
    """So that data of studies that draw no truth stay what they were."""

    def fixed(config: dict[str, Any]) -> None:
        config["truth"]["parameters"] = dict.fromkeys(config["truth"]["parameters"], 1)
        for method in config["methods"]:
            del method["priors"]

    truth = load(tmp_path, fixed).scenarios[0].recipe.truth
    rng = np.random.default_rng(1)
    assert truth.drawn(rng) is truth
    assert rng.random() == np.random.default_rng(1).random()


def test_priors_of_the_fit_are_those_drawn_from(tmp_path: Path) -> None:
    study = load(tmp_path)
    task = make_task(study, study.scenarios[0], study.methods[0], 1)
    assert study.methods[0].priors(task.drawn.truth) == {
        "b_l2[Intercept]": "normal(0.0, 1.0)",
        "b_l1[x]": "student_t(5.0, 1.0, 0.5)",
        "b_w[b1]": "uniform(-1.0, 1.0)",
        "sigma_l1": "half_normal(1.0)",
        "sigma_l2": "gamma(10.0, 10.0)",
    }


def test_priors_of_the_truth_need_a_truth_with_priors(tmp_path: Path) -> None:
    def fixed(config: dict[str, Any]) -> None:
        config["truth"]["parameters"]["b_l1[x]"] = 1

    def other(config: dict[str, Any]) -> None:
        config["methods"][1] |= {"kind": "mm"}

    with pytest.raises(StudyError, match=r"methods\[0\]\.priors.*\n.*fixed value: b_l1\[x\]\."):
        load(tmp_path, fixed)
    with pytest.raises(
        StudyError, match=r"methods\[1\]\.priors.*\n.*only one of the two: b_w\[b1\]"
    ):
        load(tmp_path, other)


@pytest.mark.jags
def test_a_drawn_truth_is_ranked(tmp_path: Path) -> None:
    def only_jags(config: dict[str, Any]) -> None:
        del config["methods"][1]

    study = load(tmp_path, only_jags)
    for name in ("a", "b"):
        for job in plan(study):
            run_batch(
                study, job.scenario, job.method, job.first, job.last, tmp_path / name / job.path
            )
        collect(
            study, [tmp_path / name / j.path for j in plan(study)], tmp_path / f"{name}.parquet"
        )
    one, two = (read_estimates(tmp_path / f"{n}.parquet")[0].to_pandas() for n in ("a", "b"))
    assert one["rank"].tolist() == two["rank"].tolist()
    assert one["rank"].between(0, KEPT).all()
    assert one["truth"].nunique() == len(one) == 15
    assert (one["mcse"] < one["sd"]).all()
    bias = score(study, one).query("measure == 'bias' and policy == 'per_method'")
    # Scored against the truth of each row, not one of the study's.
    expected = one[one["status"] == OK].eval("mean - truth").groupby(one["parameter"]).mean()
    found = bias.dropna(subset="value").set_index("parameter")["value"]
    pd.testing.assert_series_equal(found.sort_index(), expected, check_names=False)


def test_estimates_of_earlier_versions_are_read(tmp_path: Path) -> None:
    row = {
        "scenario": "s1",
        "replication": 1,
        "method": "m",
        "backend": "jags",
        "parameter": "b",
        "status": OK,
        "mean": 0.5,
    }
    table = estimates_table([row], {"seed": "1"})
    write_parquet(table.drop_columns(list(LATER)), tmp_path / "old.parquet")
    read, metadata = read_estimates(tmp_path / "old.parquet")
    assert read.schema.names == ESTIMATES.names
    assert read.to_pylist() == table.to_pylist()
    assert metadata == {"seed": "1"}
    write_parquet(table.drop_columns(["sd"]), tmp_path / "other.parquet")
    with pytest.raises(
        StudyError, match=r"written by another version of rmm\. These columns differ: sd"
    ):
        read_estimates(tmp_path / "other.parquet")


# -- calibration -----------------------------------------------------------------------------


def test_uniform_ranks_pass_as_often_as_stated() -> None:
    """Both p values of uniform ranks are below 0.05 in about 5% of the sets."""
    rng = np.random.default_rng(5)
    null = calibration.ecdf_null(200)
    sets = rng.integers(0, KEPT + 1, size=(400, 200))
    chi = np.mean([calibration.chi_square_p(ranks) < 0.05 for ranks in sets])
    ecdf = np.mean([calibration.ecdf_p(ranks, null) < 0.05 for ranks in sets])
    assert 0.02 < chi < 0.09
    assert 0.02 < ecdf < 0.09


@pytest.mark.parametrize("shape", ["shifted", "narrow", "wide"])
def test_ranks_of_a_wrong_posterior_fail(shape: str) -> None:
    rng = np.random.default_rng(6)
    truth = rng.standard_normal(200)
    shift, scale = {"shifted": (0.5, 1), "narrow": (0, 0.6), "wide": (0, 1.8)}[shape]
    draws = shift + scale * rng.standard_normal((200, KEPT))
    ranks = (draws < truth[:, None]).sum(axis=1)
    assert calibration.ecdf_p(ranks) < 1e-3


# -- judges, on estimates made up from known posteriors --------------------------------------


def made_up(study: Study, sets: int = 300, **wrong: float) -> pd.DataFrame:
    """Estimates of conjugate normal fits: truth N(0, 1), one observation of variance 1.

    `wrong` shifts or stretches the posterior of method stan: ``shift``, ``stretch``.
    """
    rng = np.random.default_rng(9)
    rows = []
    for replication in range(1, sets + 1):
        for parameter in study.scenarios[0].recipe.truth.names:
            truth = rng.standard_normal()
            mean, sd = (truth + rng.standard_normal()) / 2, 0.5**0.5
            for method in ("jags", "stan"):
                off = wrong if method == "stan" else {}
                m, s = mean + off.get("shift", 0), sd * off.get("stretch", 1)
                draws = m + s * rng.standard_normal(1000)
                rows.append(
                    {
                        "scenario": study.scenarios[0].id,
                        "replication": replication,
                        "method": method,
                        "backend": method,
                        "parameter": parameter,
                        "truth": truth,
                        "mean": draws.mean(),
                        "sd": draws.std(),
                        "lower": m - 1.96 * s,
                        "upper": m + 1.96 * s,
                        "null": 0.0,
                        "mcse": s / 1000**0.5,
                        "ess_bulk": 1000.0,
                        "seconds": 1.0,
                        "rank": rank(draws, truth),
                        "status": OK,
                    }
                )
    return pd.DataFrame(rows)


def verdicts(study: Study, estimates: pd.DataFrame) -> dict[str, Any]:
    return {k: CRITERIA[k](study, estimates, v) for k, v in study.criteria.items()}


def test_right_posteriors_pass(tmp_path: Path) -> None:
    """The seed is fixed. Expected false alarms: 0.3 of 20 comparisons, 1%, 0.1 of 1,500."""
    study = load(tmp_path)
    found = verdicts(study, made_up(study))
    assert {k: v.passed for k, v in found.items()} == dict.fromkeys(CRITERIA, True), found
    assert len(found["recovery"].table) == len(found["calibration"].table) == 10
    assert len(found["parity"].table) == 1500


@pytest.mark.parametrize(
    ("wrong", "fails"),
    [
        ({"shift": 0.3}, {"recovery", "calibration", "parity"}),
        ({"stretch": 0.7}, {"recovery", "calibration", "parity"}),
        ({"stretch": 1.4}, {"recovery", "calibration", "parity"}),
    ],
)
def test_wrong_posteriors_fail(wrong: dict[str, float], fails: set[str], tmp_path: Path) -> None:
    study = load(tmp_path)
    found = verdicts(study, made_up(study, **wrong))
    assert {name for name, verdict in found.items() if not verdict.passed} == fails
    table = found["calibration"].table
    assert table[table["method"] == "jags"]["passed"].all()
    assert "FAILS" in found["calibration"].text()


def test_unconverged_fits_are_counted_and_failed_ones_told(tmp_path: Path) -> None:
    study = load(tmp_path)
    estimates = made_up(study)
    estimates.loc[estimates["replication"] <= 30, "status"] = NOT_CONVERGED
    found = verdicts(study, estimates)
    assert found["calibration"].passed
    assert (found["recovery"].table["n"] == 300).all()
    said = found["recovery"].text()
    assert "jags: of 300 fits, 30 did not converge (they are counted too) and 0 failed." in said
    assert not found["parity"].passed
    estimates.loc[estimates["replication"] > 290, ["status", "rank", "mean"]] = [FAILED, None, None]
    found = verdicts(study, estimates)
    assert not any(verdict.passed for verdict in found.values())
    assert "Fits without draws to rank: 20." in found["calibration"].text()


def test_recovery_of_some_methods(tmp_path: Path) -> None:
    def only_jags(config: dict[str, Any]) -> None:
        config["criteria"]["recovery"]["methods"] = ["jags"]

    def unknown(config: dict[str, Any]) -> None:
        config["criteria"]["recovery"]["methods"] = ["bugs"]

    study = load(tmp_path, only_jags)
    table = verdicts(study, made_up(study, shift=0.3))["recovery"].table
    assert set(table["method"]) == {"jags"}
    with pytest.raises(StudyError, match=r"criteria\.recovery\.methods\[0\](.|\n)*jags, stan"):
        load(tmp_path, unknown)


def test_few_data_sets_are_no_evidence(tmp_path: Path) -> None:
    study = load(tmp_path)
    found = verdicts(study, made_up(study, sets=20))
    assert not found["calibration"].passed
    assert "At least 40 data sets are wanted" in found["calibration"].text()


def test_pairs_differ_in_the_engine_alone(tmp_path: Path) -> None:
    def more(config: dict[str, Any]) -> None:
        config["methods"] += [
            {"name": "vague", "kind": "mmmm", "backend": "stan"},
            {"name": "agg", "kind": "aggregation"},
            {"name": "mean", "kind": "mm", "backend": "stan", "sampler": {"chains": 2}},
            {"name": "mean_jags", "kind": "mm", "backend": "jags", "gate": {"rhat": 1.1}},
        ]

    found = [(a.name, b.name) for a, b in parity.pairs(load(tmp_path, more))]
    assert found == [("jags", "stan"), ("mean", "mean_jags")]


def test_judging_needs_criteria_and_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = load(tmp_path)
    with pytest.raises(
        StudyError, match=r"estimates\.parquet does not exist\. Run the study first"
    ):
        judge(study, tmp_path)
    with pytest.raises(StudyError, match=r"recovery, calibration, parity\. Needed: speed"):
        judge(study, tmp_path, "speed")
    folder = tmp_path / "results" / "study"
    rows = made_up(study).to_dict("records")
    write_parquet(estimates_table(rows, {}), folder / "estimates.parquet")
    arguments = ["study", "judge", str(study.file), "--results", str(tmp_path / "results")]
    assert main([*arguments, "--out", str(tmp_path / "verdict.txt")]) == 0
    said = capsys.readouterr().out
    assert said == (tmp_path / "verdict.txt").read_text()
    assert "study: calibration passed" in said
    bad = made_up(study, shift=0.3).to_dict("records")
    write_parquet(estimates_table(bad, {}), folder / "estimates.parquet")
    assert main([*arguments, "--criterion", "recovery"]) == 1


def test_criteria_of_the_schema_have_judges() -> None:
    assert set(schema()["properties"]["criteria"]["properties"]) == set(CRITERIA)
