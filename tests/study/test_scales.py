"""Whose coefficients can be compared: the scale of each kind of method, and `rescale`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from rmm.errors import StudyError
from rmm.study import Study, collect, load_study, plan, run_batch, write_performance
from rmm.study.design.scale_notes import other_scales, scale_notes
from rmm.study.measures.measures import ON_COMMON_SCALE, ON_TRUE_SCALE
from rmm.study.methods.fit_task import fit_task
from rmm.study.run.replicate import make_task

MEMBERS = "mm(id(member, group), vars(x), fn({}), RE = TRUE)"


def study(
    folder: Path, *methods: dict[str, Any], weights: str = "w ~ 1/n", **membership: Any
) -> Study:
    config = {
        "seed": 77,
        "replications": 60,
        "membership": {"kind": "synthetic", "groups": 300, "members": 400, "size": 3, **membership},
        "covariates": {"x": {"level": "membership"}, "power": {"level": "membership"}},
        "truth": {
            "formula": f"y ~ 1 + {MEMBERS.format(weights)}",
            "parameters": {
                "b_l2[Intercept]": 0,
                "b_l1[x]": 1,
                **({"b_w[b1]": 0.5} if "b1" in weights else {}),
                "sigma_l1": 0.5,
                "sigma_l2": 1,
            },
        },
        "methods": [{"name": f"m{k}", **m} for k, m in enumerate(methods)],
        "estimands": [{"parameter": "b_l1[x]"}],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


DISAGGREGATION = {"kind": "disaggregation", "backend": "ols"}
RESCALED = {**DISAGGREGATION, "rescale": "members"}


def scored(found: Study, folder: Path) -> pd.DataFrame:
    paths = []
    for job in plan(found):
        paths.append(folder / job.path)
        run_batch(found, job.scenario, job.method, job.first, job.last, paths[-1])
    collect(found, paths, folder / "estimates.parquet")
    frame = write_performance(found, folder / "estimates.parquet", folder / "performance.parquet")
    return frame[frame["policy"] == "per_method"]


def value(frame: pd.DataFrame, method: str, measure: str) -> tuple[float, float]:
    (row,) = frame[(frame["method"] == method) & (frame["measure"] == measure)].itertuples()
    return float(row.value), float(row.mcse)


def test_disaggregation_estimates_b_over_n_and_rescaled_b(tmp_path: Path) -> None:
    """Groups of three, b = 1: 1/3 per member; times 3 it is b, and its errors are three times."""
    sums = {"kind": "aggregation", "backend": "ols", "summary": "sum"}
    means = {"kind": "aggregation", "backend": "ols"}
    found = study(tmp_path, means, DISAGGREGATION, RESCALED, sums, {**sums, "rescale": "members"})
    frame = scored(found, tmp_path)
    for method, wanted in {"m0": 1, "m1": 1 / 3, "m2": 1, "m3": 1 / 3, "m4": 1}.items():
        mean, mcse = value(frame, method, "mean")
        assert abs(mean - wanted) < 3 * mcse, method
    for plain, rescaled in (("m1", "m2"), ("m3", "m4")):
        assert value(frame, rescaled, "mean")[0] == pytest.approx(
            3 * value(frame, plain, "mean")[0]
        )
        same = [value(frame, m, "rejection")[0] for m in (plain, rescaled)]
        assert same[0] == same[1]
        here = set(frame.loc[frame["method"] == plain, "measure"])
        assert not here & ON_TRUE_SCALE
        assert {"mean", "rejection", "relative_error_se", "type_s", "be_coverage"} <= here
        assert set(frame.loc[frame["method"] == rescaled, "measure"]) >= ON_TRUE_SCALE
    bias, mcse = value(frame, "m2", "bias")
    assert abs(bias) < 3 * mcse
    # Compared with means (m0): widths on another scale are not; rescaled ones are.
    for measure in ON_COMMON_SCALE:
        assert np.isnan(value(frame, "m1", measure)[0])
        assert np.isfinite(value(frame, "m2", measure)[0])


def test_methods_on_the_same_other_scale_are_compared(tmp_path: Path) -> None:
    """Both are per member: standard errors of two kinds, the same estimates."""
    clustered = {**DISAGGREGATION, "errors": "cluster", "cluster": ["group"]}
    frame = scored(study(tmp_path, DISAGGREGATION, clustered), tmp_path)
    assert value(frame, "m1", "relative_precision")[0] == pytest.approx(0, abs=1e-9)
    assert np.isfinite(value(frame, "m1", "difference_width")[0])
    assert "difference_bias" not in set(frame["measure"])


def test_the_factor_is_the_mean_number_of_members(tmp_path: Path) -> None:
    """Groups of unequal size: M / G of the data set; other coefficients stay."""
    size = {"distribution": "uniform", "low": 1, "high": 6}
    found = study(tmp_path, DISAGGREGATION, RESCALED, size=size)
    tasks = [make_task(found, found.scenarios[0], m, 1) for m in found.methods]
    rows = [{r["parameter"]: r for r in fit_task(t).estimates} for t in tasks]
    sizes = tasks[0].drawn.frame().groupby("group").size()
    plain, rescaled = (r["b_l1[x]"] for r in rows)
    for name in ("mean", "median", "sd", "lower", "upper", "lower90", "upper99"):
        assert rescaled[name] == pytest.approx(plain[name] * sizes.mean())
    assert rescaled["p_value"] == pytest.approx(plain["p_value"])
    assert rows[0]["b_l2[Intercept]"] == rows[1]["b_l2[Intercept]"]


def test_the_null_value_is_on_the_scale_of_the_truth(tmp_path: Path) -> None:
    """b = 1 is tested: rescaled it is the test of b / 3 = 1/3 per member."""
    study(tmp_path, RESCALED)
    config = yaml.safe_load((tmp_path / "study.yaml").read_text())
    config["estimands"][0]["null"] = 1
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    found = load_study(tmp_path / "study.yaml")
    task = make_task(found, found.scenarios[0], found.methods[0], 1)
    (row,) = (r for r in fit_task(task).estimates if r["parameter"] == "b_l1[x]")
    assert row["null"] == pytest.approx(1)
    from scipy import stats

    t = (row["mean"] - 1) / row["sd"]
    assert row["p_value"] == pytest.approx(2 * stats.t.sf(abs(t), row["df"]), rel=1e-6)


SUM, MEAN, SHARE = "w ~ 1, c = FALSE", "w ~ 1/n", "w ~ power^2, c = FALSE"
ESTIMATED = "w ~ 1/(1 + (n-1)*exp(-(b1*power)))"
MM = {"kind": "mm", "backend": "reml"}


@pytest.mark.parametrize(
    ("truth", "method", "scale"),
    [
        (MEAN, {**MM, "weights": "w ~ power^2"}, ""),  # all members of a group, however weighted
        (MEAN, {**MM, "weights": SUM}, "one member"),
        (SUM, DISAGGREGATION, ""),
        (SUM, RESCALED, "mean of the members"),
        (SUM, {**MM, "weights": SUM}, ""),
        (SUM, {"kind": "aggregation", "backend": "ols"}, "mean of the members"),
        (SHARE, {**MM, "weights": SHARE}, ""),
        (SHARE, DISAGGREGATION, "one member"),
        (MEAN, {**MM, "weights": SHARE}, "weights power^2, c = FALSE"),
        (MEAN, {"kind": "aggregation", "backend": "ols", "summary": "max"}, "the largest member"),
        (MEAN, {"kind": "adjusted_means"}, ""),
        (ESTIMATED, {"kind": "mmmm", "backend": "laplace"}, ""),
        (ESTIMATED, MM, ""),
    ],
)
def test_scales_of_kinds_and_weights(
    truth: str, method: dict[str, Any], scale: str, tmp_path: Path
) -> None:
    found = study(tmp_path, method, weights=truth)
    assert other_scales(found).get((found.scenarios[0].id, "m0", "b_l1[x]"), "") == scale
    assert len(scale_notes(found)) == bool(scale)


def test_coefficients_of_other_weight_functions_are_not_compared(tmp_path: Path) -> None:
    other = {"kind": "mmmm", "backend": "laplace", "weights": "w ~ exp(b1*power)"}
    found = study(tmp_path, other, {"kind": "mmmm", "backend": "laplace"}, MM, weights=ESTIMATED)
    config = yaml.safe_load((tmp_path / "study.yaml").read_text())
    config["estimands"] = [{"parameter": "b_w[b1]"}, {"parameter": "b_l1[x]"}]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    found = load_study(tmp_path / "study.yaml")
    (key,) = other_scales(found)
    assert key[1:] == ("m0", "b_w[b1]")
    (note,) = scale_notes(found)
    assert "Method m0: the scale of b_w[b1] is not that of the truth, but weights exp(b1*po" in note


def test_notes_say_what_to_do(tmp_path: Path) -> None:
    (note,) = scale_notes(study(tmp_path, DISAGGREGATION))
    assert "the scale of b_l1[x] is not that of the truth, but one member. So bias" in note
    assert "`rescale: members` multiplies estimates by the mean number of members" in note


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"kind": "aggregation", "backend": "ols", "rescale": "members"}, "Use `summary: sum`"),
        ({**MM, "rescale": "members"}, r"Kinds that can have `rescale`: aggregation, disagg"),
        ({**DISAGGREGATION, "rescale": "size"}, "Allowed: members"),
    ],
)
def test_messages(method: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        study(tmp_path, method)


def test_every_measure_of_a_scale_exists() -> None:
    from rmm.study.measures.measures import MEASURES

    assert set(MEASURES) >= ON_TRUE_SCALE | ON_COMMON_SCALE
    assert not ON_TRUE_SCALE & ON_COMMON_SCALE
    # A ratio, a sign or a test of 0 has no scale; every other measure of estimates is listed.
    free = {"mean", "median", "relative_error_se", "be_coverage", "rejection", "type_s",
            "selection", "size_adjusted_power", "difference_rejection", "contraction",
            "ess_per_second", "convergence", "seconds"}  # fmt: skip
    assert set(itertools.chain(free, ON_TRUE_SCALE, ON_COMMON_SCALE)) == set(MEASURES)
