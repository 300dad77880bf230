"""Bayesian methods of studies: given weights, variances, log likelihoods, choice of a model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import rmm
from rmm.design.prepare import prepare
from rmm.errors import StudyError
from rmm.study import Study, collect, load_study, plan, replay, run_batch, write_performance
from rmm.study.evaluate.criteria.calibration import chi_square_p
from rmm.study.methods import bayesian
from rmm.study.methods.bayesian import engine_data
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.ranks import rank
from rmm.study.methods.task import parsed
from rmm.study.methods.true_log_likelihood import LOG_LIKELIHOOD, true_log_likelihood
from rmm.study.run.replicate import make_task

Array = np.ndarray[Any, Any]
MM = "mm(id(member, group), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*power))), c = {c}), RE = TRUE)"
FAMILIES: dict[str, dict[str, Any]] = {
    "gaussian": {"formula": "y ~ 1 + z + {mm}", "parameters": {"sigma_l2": 1}},
    "binomial": {"formula": "cbind(won, lost) ~ 1 + z + {mm}", "trials": 4, "parameters": {}},
    "weibull": {
        "formula": "Surv(t, e) ~ 1 + z + {mm}",
        "censoring": {"share": 0.3},
        "parameters": {"shape": 1.5},
    },
    "cox": {"formula": "Surv(t, e) ~ z + {mm}", "censoring": {"time": 2}, "parameters": {}},
    "condlogit": {"formula": "y ~ z + {mm} + strata(nesting)", "parameters": {}},
}
SAMPLER = {"chains": 2, "warmup": 200, "draws": 200}
LOOSE = {"rhat": 2, "ess_per_chain": 1}


def study(
    folder: Path,
    methods: list[dict[str, Any]],
    family: str = "gaussian",
    edit: Any = None,
    c: str = "TRUE",
) -> Study:
    truth = copy.deepcopy(FAMILIES[family])
    truth["formula"] = truth["formula"].format(mm=MM.format(c=c))
    shared = {"b_l2[z]": 0.5, "b_l1[x]": 0.6, "b_w[b1]": 1, "sigma_l1": 0.7}
    if "1 + z" in truth["formula"]:
        shared = {"b_l2[Intercept]": 0.3, **shared}
    truth["parameters"] = {**shared, **truth["parameters"]}
    config: dict[str, Any] = {
        "seed": 3,
        "replications": 3,
        "membership": {
            "kind": "synthetic",
            "groups": 40,
            "members": 20,
            "units": 10,
            "within": False,
            "size": 3,
        },
        "covariates": {
            "x": {"level": "member"},
            "z": {"level": "group"},
            "power": {"level": "membership", "distribution": "uniform", "mean": 2, "sd": 0.8},
        },
        "truth": {"family": family, **truth},
        "methods": methods,
    }
    for method in config["methods"]:
        if method["kind"] in ("mm", "mmmm", "choice"):
            method |= {"sampler": SAMPLER, "gate": LOOSE, **method}
    if edit is not None:
        edit(config)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


def kept(found: Study, method: str, replication: int = 1) -> Any:
    """The outcome of one fit, with the fit."""
    _, outcome = replay(found, found.scenarios[0].id, replication, method)
    assert outcome.status != "failed", outcome.message
    return outcome


# -- formulas of the kinds, weights ----------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_makes_a_program_of_every_family(family: str, tmp_path: Path) -> None:
    """From the truth's formula, with the data that the method gets, in both languages."""
    weights = "w ~ power, c = 2"
    methods = [
        {"name": "agg", "kind": "aggregation", "backend": "jags"},
        {"name": "dis", "kind": "disaggregation", "backend": "jags"},
        {"name": "mm", "kind": "mm"},
        {"name": "given", "kind": "mm", "weights": weights},
        {"name": "mmmm", "kind": "mmmm"},
        {"name": "other", "kind": "mmmm", "weights": "w ~ 1/n^exp(-(b1*x)), c = FALSE"},
    ]
    if family == "condlogit":
        del methods[1]  # refused: see test_likelihoods.py
    found = study(tmp_path, methods, family, c="2")
    for method in found.methods:
        task = make_task(found, found.scenarios[0], method, 1)
        for backend in ("jags", "stan"):
            data = engine_data(method, task.drawn, parsed(task.formula))
            text = rmm.program(task.formula, family, backend, data=data)
            assert ("b_w" in text) == (method.kind.name == "mmmm"), (method.name, backend)
            assert ("sigma_l1" in text) == (method.kind.layout == "members"), (method.name, backend)
    blocks = {m.name: parsed(m.formula(found.scenarios[0].recipe)).members for m in found.methods}
    constraints = {n: b[0].weight.constraint for n, b in blocks.items() if b}
    assert constraints == {"mm": "group", "given": "total", "mmmm": "total", "other": "none"}


def test_given_weights_with_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"methods\[0\]\.weights .*\n.* 1 parameter: b1"):
        study(tmp_path, [{"name": "a", "kind": "mm", "weights": "w ~ 1/n^exp(-(b1*x))"}])
    with pytest.raises(
        StudyError, match=r"methods\[0\]\.weights .*\n.*these weights have no parameter"
    ):
        study(tmp_path, [{"name": "a", "kind": "mmmm", "weights": "w ~ power"}])
    with pytest.raises(
        StudyError, match=r"strength.*not a covariate of this study\. Allowed: x, z, power"
    ):
        study(tmp_path, [{"name": "a", "kind": "mm", "weights": "w ~ strength"}])


ENGINES = [
    pytest.param("jags", marks=pytest.mark.jags),
    pytest.param("stan", marks=[pytest.mark.stan, pytest.mark.slow]),
]


@pytest.mark.parametrize("backend", ENGINES)
def test_given_weights_are_those_of_the_fit(backend: str, tmp_path: Path) -> None:
    """Under each constraint; a misspecified mmmm has its own weight function's coefficient."""
    methods: list[dict[str, Any]] = [
        {"name": f"c{i}", "kind": "mm", "weights": f"w ~ power, c = {c}"}
        for i, c in enumerate(("TRUE", "2", "FALSE"))
    ]
    methods.append({"name": "est", "kind": "mmmm", "weights": "w ~ 1/n^exp(-(b2*x))"})
    found = study(tmp_path, [{**m, "backend": backend} for m in methods])
    data = make_task(found, found.scenarios[0], found.methods[0], 1).drawn.frame()
    power, group = data["power"], data["group"]
    expected = {
        "c0": power / power.groupby(group).transform("sum"),
        "c1": power * group.nunique() / power.sum(),
        "c2": power,
    }
    for name, weights in expected.items():
        fit = kept(found, name).fit
        np.testing.assert_allclose(fit.weights()["mean"], weights, rtol=1e-9)
    names = [e["parameter"] for e in kept(found, "est").estimates]
    assert "b_w[b2]" in names
    assert "b_w[b1]" not in names


# -- variances -------------------------------------------------------------------------------


def with_variances(config: dict[str, Any]) -> None:
    names = ("sigma_l1^2", "sigma_l2^2", "sigma_l1")
    config["estimands"] = [{"parameter": n} for n in names]


def test_estimates_have_the_contraction_of_their_prior(tmp_path: Path) -> None:
    """As the fit's summary; a square of a parameter and least squares have none."""

    def squared(config: dict[str, Any]) -> None:
        config["estimands"] = [{"parameter": "sigma_l1"}, {"parameter": "sigma_l1^2"}]

    methods = [
        {"name": "mm", "kind": "mm", "backend": "laplace"},
        {"name": "ols", "kind": "aggregation"},
    ]
    found = study(tmp_path, methods, edit=squared)
    outcome = kept(found, "mm")
    rows = {e["parameter"]: e["contraction"] for e in outcome.estimates}
    assert np.isnan(rows.pop("sigma_l1^2"))
    assert rows == outcome.fit.summary()["contraction"].to_dict()
    assert all(0 < value < 1 for value in rows.values())
    assert {e.get("contraction") for e in kept(found, "ols").estimates} == {None}


@pytest.mark.jags
def test_variances_are_squares_of_draws(tmp_path: Path) -> None:

    def tested(config: dict[str, Any]) -> None:
        with_variances(config)
        config["estimands"][0]["null"] = 0.5

    found = study(tmp_path, [{"name": "mm", "kind": "mm"}], edit=tested)
    outcome = kept(found, "mm")
    rows = {e["parameter"]: e for e in outcome.estimates}
    draws = outcome.fit.draws["posterior"]["sigma_l1"].to_numpy().ravel() ** 2
    row = rows["sigma_l1^2"]
    assert row["mean"] == pytest.approx(draws.mean(), rel=1e-12)
    assert row["sd"] == pytest.approx(draws.std(ddof=1), rel=1e-12)
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
    assert row["p_value"] == pytest.approx(2 * min(np.mean(draws > 0.5), np.mean(draws < 0.5)))
    assert row["ess_bulk"] == pytest.approx(rows["sigma_l1"]["ess_bulk"])  # ranks are the same
    assert found.truth_of(found.scenarios[0])["sigma_l1^2"] == pytest.approx(0.49)
    plain = study(tmp_path / "plain", [{"name": "mm", "kind": "mm"}])
    assert plain.method("mm").id == found.method("mm").id
    assert [e for e in kept(plain, "mm").estimates if "^2" in e["parameter"]] == []


@pytest.mark.jags
def test_variances_asked_for_later_are_no_hole(tmp_path: Path) -> None:
    """Fits compute a variance where it is an estimand: earlier files have none."""
    before = study(tmp_path, [{"name": "mm", "kind": "mm"}])
    job = plan(before)[0]
    run_batch(before, job.scenario, job.method, 1, 3, tmp_path / "out" / job.path)
    after = study(tmp_path, [{"name": "mm", "kind": "mm"}], edit=with_variances)
    with pytest.raises(StudyError, match=r"has no sigma_l1\^2, sigma_l2\^2: .*\n.*to fit again"):
        plan(after, tmp_path / "out")
    run_batch(after, job.scenario, job.method, 1, 3, tmp_path / "out" / job.path)
    assert len(plan(after, tmp_path / "out")) == 1
    assert len(plan(before, tmp_path / "out")) == 1  # one estimand less is no other fit
    paths = [tmp_path / "out" / job.path]
    collect(after, paths, tmp_path / "estimates.parquet")
    frame = write_performance(after, tmp_path / "estimates.parquet", tmp_path / "p.parquet")
    bias = frame.query("measure == 'bias' and parameter == 'sigma_l1^2'")["value"]
    assert bias.notna().all()


def test_only_standard_deviations_are_squared(tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["estimands"] = [{"parameter": "b_l1[x]^2"}]

    with pytest.raises(StudyError, match=r"estimands\[0\]\.parameter\n.*\[x\]\^2' is not a param"):
        study(tmp_path, [{"name": "mm", "kind": "mm"}], edit=edit)


# -- log likelihood --------------------------------------------------------------------------

PRIORS = {
    "b_l2[Intercept]": "normal(0, 1)",
    "b_l2[z]": "normal(0, 1)",
    "b_l1[x]": "normal(0, 1)",
    "b_w[b1]": "normal(0, 1)",
    "sigma_l1": "half_normal(1)",
    "sigma_l2": "gamma(10, 10)",
    "shape": "gamma(10, 5)",
}


def from_priors(config: dict[str, Any]) -> None:
    known = config["truth"]["parameters"]
    config["truth"]["parameters"] = {n: {"prior": PRIORS[n]} for n in known}


CALIBRATED = {"name": "one", "kind": "mmmm", "priors": "truth", "log_likelihood": True}


@pytest.mark.parametrize("family", ["gaussian", "binomial", "weibull", "condlogit"])
def test_true_log_likelihood_is_that_of_the_family(family: str, tmp_path: Path) -> None:
    """SciPy's densities at the simulator's predictor, against the likelihood of fits there."""
    found = study(tmp_path, [dict(CALIBRATED)], family, from_priors)
    drawn = make_task(found, found.scenarios[0], found.methods[0], 1).drawn
    model = prepare(drawn.truth.formula.text, drawn.frame(), family)
    labels = pd.Series(drawn.eta, index=drawn.memberships.group_labels.astype(str))
    eta = labels[model.grouped.groups.labels.astype(str)].to_numpy()[None, :]
    values = {
        p.name: np.array([drawn.truth.parameters[p.name]]) for p in model.spec.family.parameters
    }
    theirs = model.spec.family.log_likelihood(eta, values, model.design.outcome)
    assert true_log_likelihood(drawn) == pytest.approx(float(theirs.sum()), rel=1e-10)


def test_the_true_predictor_is_kept(tmp_path: Path) -> None:
    """Without noise the outcome is the predictor, effects and all."""

    def exact(config: dict[str, Any]) -> None:
        config["truth"]["parameters"]["sigma_l2"] = 1e-9

    found = study(tmp_path, [{"name": "mm", "kind": "mm"}], edit=exact)
    drawn = make_task(found, found.scenarios[0], found.methods[0], 1).drawn
    np.testing.assert_allclose(drawn.eta, drawn.outcome, atol=1e-7)


@pytest.mark.jags
def test_the_log_likelihood_is_ranked(tmp_path: Path) -> None:
    found = study(tmp_path, [dict(CALIBRATED)], edit=from_priors)
    outcome = kept(found, "one")
    row = {e["parameter"]: e for e in outcome.estimates}[LOG_LIKELIHOOD]
    draws = outcome.fit.log_likelihood().sum("group").to_numpy().ravel()
    truth = true_log_likelihood(make_task(found, found.scenarios[0], found.methods[0], 1).drawn)
    assert row["truth"] == truth
    assert row["rank"] == rank(draws, truth)
    assert row["mean"] == pytest.approx(draws.mean())
    job = plan(found)[0]
    run_batch(found, job.scenario, job.method, 1, 1, tmp_path / "one.parquet")
    stored = pd.read_parquet(tmp_path / "one.parquet").set_index("parameter").loc[LOG_LIKELIHOOD]
    assert (stored["truth"], stored["rank"]) == (truth, row["rank"])


def test_without_it_nothing_changes(tmp_path: Path) -> None:
    said = {**CALIBRATED, "log_likelihood": False}
    plain = {k: v for k, v in CALIBRATED.items() if k != "log_likelihood"}
    ids = [study(tmp_path, [dict(m)], edit=from_priors).methods[0] for m in (said, plain)]
    assert ids[0].digest == ids[1].digest
    assert ids[0].digest != study(tmp_path, [dict(CALIBRATED)], edit=from_priors).methods[0].digest


@pytest.mark.parametrize(
    ("family", "method", "said"),
    [
        ("cox", {}, r"log_likelihood .*\n.*family cox.*baseline"),
        (
            "gaussian",
            {"priors": "weakly_informative"},
            r"log_likelihood\n(.*\n)*.*Set `priors: truth`",
        ),
        ("gaussian", {"kind": "aggregation"}, r"log_likelihood\n.*kind aggregation\.\n.*mm, mmmm"),
    ],
)
def test_where_the_log_likelihood_has_no_rank(
    family: str, method: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=said):
        study(tmp_path, [{**CALIBRATED, **method}], family, from_priors)


@pytest.mark.calibration
@pytest.mark.jags
@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_ranks_of_the_log_likelihood_are_uniform(family: str, tmp_path: Path) -> None:
    """120 data sets; calibrated engines fail with a chance of 0.001 each."""

    def many(config: dict[str, Any]) -> None:
        from_priors(config)
        config["replications"] = 120
        config["methods"][0]["sampler"] = {"chains": 2, "warmup": 500, "draws": 500, "thin": 4}

    found = study(tmp_path, [dict(CALIBRATED)], family, many)
    ranks = []
    for r in range(1, 121):
        outcome = fit_task(make_task(found, found.scenarios[0], found.methods[0], r))
        ranks += [e["rank"] for e in outcome.estimates if e["parameter"] == LOG_LIKELIHOOD]
    assert len(ranks) == 120
    assert chi_square_p(np.array(ranks)) > 0.001, np.bincount(np.array(ranks) // 10)


# -- choice ----------------------------------------------------------------------------------

CANDIDATES = {
    "mean": "w ~ 1/n",
    "given": "w ~ power",
    "estimated": "w ~ 1/(1 + (n-1)*exp(-(b1*power)))",
}


def choosing(**method: Any) -> dict[str, Any]:
    return {"name": "loo", "kind": "choice", "candidates": dict(CANDIDATES), **method}


@pytest.mark.jags
def test_the_largest_elpd_is_chosen(tmp_path: Path) -> None:
    found = study(tmp_path, [choosing()])
    outcome = kept(found, "loo")
    rows = {e["parameter"]: e for e in outcome.estimates}
    assert list(rows) == [f"choice[{n}]" for n in CANDIDATES] + [f"elpd[{n}]" for n in CANDIDATES]
    order = rmm.compare(outcome.fit)
    chosen = [n for n in CANDIDATES if rows[f"choice[{n}]"]["mean"] == 1]
    assert chosen == [order.index[0]]
    assert sum(rows[f"choice[{n}]"]["mean"] for n in CANDIDATES) == 1
    for name, fit in outcome.fit.items():
        score = fit.loo()
        assert rows[f"elpd[{name}]"]["mean"] == pytest.approx(float(score.elpd))
        assert rows[f"elpd[{name}]"]["sd"] == pytest.approx(float(score.se))
    formulas = {name: fit.model.formula for name, fit in outcome.fit.items()}
    assert len(set(formulas.values())) == 3
    outcomes = [fit.model.design.outcome["y"].tobytes() for fit in outcome.fit.values()]
    assert len(set(outcomes)) == 1  # the same data


@pytest.mark.jags
def test_selection_is_scored(tmp_path: Path) -> None:
    """From batches to performance, beside a method that has other parameters."""
    found = study(tmp_path, [choosing(), {"name": "agg", "kind": "aggregation"}])
    assert {"choice[mean]", "b_l1[x]"} <= {e.parameter for e in found.estimands}
    paths = []
    for job in plan(found):
        paths.append(tmp_path / job.path)
        run_batch(found, job.scenario, job.method, job.first, job.last, paths[-1])
    collect(found, paths, tmp_path / "estimates.parquet")
    estimates = pd.read_parquet(tmp_path / "estimates.parquet")
    frame = write_performance(found, tmp_path / "estimates.parquet", tmp_path / "p.parquet")
    share = frame.query("measure == 'selection' and policy == 'per_method'").set_index("parameter")
    assert set(share.index) == {f"choice[{n}]" for n in CANDIDATES}
    assert share["value"].sum() == pytest.approx(1)
    for name in CANDIDATES:
        rows = estimates[estimates["parameter"] == f"choice[{name}]"]
        p = rows["mean"].mean()
        assert share.loc[f"choice[{name}]", "value"] == pytest.approx(p)
        error = np.sqrt(p * (1 - p) / 3) if 0 < p < 1 else np.nan
        assert share.loc[f"choice[{name}]", "mcse"] == pytest.approx(error, nan_ok=True)
        assert rows["truth"].isna().all()
    assert set(share["method"]) == {"loo"}


@pytest.mark.jags
def test_one_bad_candidate_spoils_a_choice(tmp_path: Path, monkeypatch: Any) -> None:
    strict = {"gate": {"rhat": 2, "ess_per_chain": 9999}}
    outcome = kept(study(tmp_path, [choosing(**strict)]), "loo")
    assert outcome.status == "not_converged"
    assert outcome.message.startswith("candidate mean: ESS")
    assert len(outcome.estimates) == 6
    original = bayesian.lay_out

    def sometimes(plan: Any, *args: Any, **keywords: Any) -> Any:
        if "w ~ power" in plan.formula.text:
            raise ValueError("no luck")
        return original(plan, *args, **keywords)

    monkeypatch.setattr(bayesian, "lay_out", sometimes)
    found = study(tmp_path, [choosing(), {"name": "agg", "kind": "aggregation"}])
    failed = fit_task(make_task(found, found.scenarios[0], found.method("loo"), 1))
    assert failed.status == "failed"
    assert "candidate given: no luck" in failed.message
    other = fit_task(make_task(found, found.scenarios[0], found.method("agg"), 1))
    assert other.status == "ok"  # one method's failure leaves the others


def test_a_candidate_can_be_a_formula(tmp_path: Path) -> None:
    whole = "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
    found = study(tmp_path, [choosing(candidates={"null": whole, "mean": "1/n"})])
    formulas = found.methods[0].candidates(found.scenarios[0].recipe)
    assert formulas["null"] == whole
    assert formulas["mean"].startswith("y ~ 1 + z + mm(id(member, group)")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"candidates": {"a": "w ~ 1/n"}}, r"candidates\n(.*\n)*.*at least 2 keys"),
        (
            {"candidates": {"a": "w ~ 1/n", "b": "w ~ strength"}},
            r"methods\[0\]\.candidates\.b .*\n.*'strength' is not a covariate",
        ),
        ({"candidates": {"a": "w ~ 1/n", "b": "w ~ ((x"}}, r"methods\[0\]\.candidates\.b "),
        ({"kind": "mm"}, r"candidates\n.*in a method of kind mm\.\n.*have `candidates`: choice"),
        ({"weights": "w ~ 1/n"}, r"weights\n.*in a method of kind choice"),
        ({"backend": "ols"}, r"'ols' is not a backend of .* choice"),
    ],
)
def test_letters_of_choices(method: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        study(tmp_path, [choosing(**method)])


def test_estimands_of_a_choice_need_one(tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["estimands"] = [{"parameter": "choice[mean]"}, {"parameter": "elpd[given]"}]

    assert len(study(tmp_path, [choosing()], edit=edit).estimands) == 2
    with pytest.raises(StudyError, match=r"estimands\[0\]\.parameter\n.*'choice\[mean\]'"):
        study(tmp_path, [{"name": "mm", "kind": "mm"}], edit=edit)
