"""The gallery of replications: kept results beside published numbers, and what its page shows."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rmm.datasets.sources import SOURCES
from rmm.study import collect, load_study, plan, run_batch, write_performance
from tests import ROOT
from tests.coalitions import shared_file
from tests.datasets.test_datasets import write

sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "benchmarks")]
import published_fits  # noqa: E402
from site_parts import gallery, gallery_figures  # noqa: E402

PAGE = gallery.PAGE.read_text(encoding="utf-8")
STUDIES = (gallery.SCHOOLS, gallery.COVARIATES)


# -- what the page shows ---------------------------------------------------------------------


def test_the_tables_of_the_page_are_those_of_the_kept_results() -> None:
    assert set(re.findall(r"<!-- table ([a-z-]+) -->", PAGE)) == set(gallery.TABLES)
    assert gallery.with_tables(PAGE) == PAGE, (
        "PYTHONPATH=docs .venv/bin/python -m site_parts.gallery"
    )


def numbers(path: Path) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.\d+", path.read_text(encoding="utf-8"))]


def test_the_figures_of_the_page_are_those_of_the_kept_results(tmp_path: Path) -> None:
    """Coordinates in points; they may differ by rounding."""
    gallery_figures.write(tmp_path)
    for name in gallery_figures.FIGURES:
        assert f"](../figures/{name}.svg)" in PAGE
        kept = numbers(gallery_figures.FOLDER / f"{name}.svg")
        np.testing.assert_allclose(numbers(tmp_path / f"{name}.svg"), kept, atol=0.01)


# -- published numbers -----------------------------------------------------------------------


def test_published_values_are_those_of_the_authors_table() -> None:
    """Every value of the study files, and no value that could be compared is left out."""
    theirs = pd.read_csv(shared_file("reference", "jfs_published.csv"))
    analyses = {"HLM": "first_school", "MMREM": "multiple_membership"}
    columns = {"Mean(Est)": "mean", "SD(EST)": "empirical_se", "Coverage": "coverage"}
    codes = {"fp_int": "b_l2[Intercept]", "fp_x1": "b_l2[x]", "rp_int_v1": "sigma_l2^2"}
    for name, model, school in (
        (gallery.SCHOOLS, "Null", "sigma_l1^2"),
        (gallery.COVARIATES, "L1 & L2", "sigma_l1_1^2"),
    ):
        wanted = {}
        for row in theirs[theirs["Model Specification"] == model].to_dict("records"):
            parameter = {**codes, "rp_int_v2": school}[row["Parameter"]]
            where = (f"{row['ICC']:.2f}".lstrip("0"), row["Percent Mobility"])
            for column, measure in columns.items():
                # Compared with the variance of the schools only there; see the page.
                is_other = parameter == school and measure == "coverage"
                if is_other and (model != "Null" or where[1] > 0):
                    continue
                key = (analyses[row["Estimation Model"]], parameter, measure, *where)
                wanted[key] = row[column]
        study = load_study(ROOT / "config" / "studies" / f"{name}.yaml")
        found = {
            (*(one[key] for key in ("method", "parameter", "measure")), *v["where"].values()): v[
                "value"
            ]
            for one in study.reference
            for v in one["values"]
        }
        assert set(found) == set(wanted)
        for key, value in found.items():
            assert abs(value - wanted[key]) < 5.1e-4, key  # as many digits as are written


def test_numbers_of_other_programs_are_those_of_their_table() -> None:
    theirs = pd.read_csv(shared_file("reference", "bml_posteriors.csv"))
    ours = pd.read_csv(published_fits.PUBLISHED / "coalitions.csv")
    theirs["program"] = theirs["program"].replace(
        {"rjags_direct": "bml", "jags_pooled9chains": "bml"}
    )
    rows = ours.merge(theirs, on=["model", "program", "parameter"], suffixes=("", "_theirs"))
    for column in ("mean", "sd", "mcse"):
        other = f"{column}_theirs"
        same = np.isclose(rows[column], rows[other], rtol=1e-9, equal_nan=True)
        assert set(rows.loc[same, ["model", "parameter"]].itertuples(index=False)) == set(
            ours[["model", "parameter"]].itertuples(index=False)
        )


# -- agreement -------------------------------------------------------------------------------


def test_biases_of_means_agree_with_the_closed_form() -> None:
    """16 comparisons at 3 errors: false alarm 0.042."""
    found = gallery.closed_forms()
    assert len(found) == 16
    assert (found["n_failed"] == 0).all()
    assert found["distance"].abs().max() < 3, found.to_string()


def test_biases_agree_with_the_papers_simulation() -> None:
    """4 comparisons at 3 errors of both sides, 1,000 replications each: false alarm 0.011."""
    found = gallery.printed_cell()
    assert len(found) == 4
    assert found["distance"].abs().max() < 3, found.to_string()


def is_odd(found: pd.DataFrame) -> pd.Series:
    """Intercepts of the null model, whose published means miss the truth; see the page."""
    null = found["scenario"].isin(gallery.measured(gallery.SCHOOLS)["scenario"])
    return null & (found["parameter"] == "b_l2[Intercept]")


def test_schools_agree_with_the_paper() -> None:
    """All values but the intercepts of the null model: 294, of means, sds and coverages.

    If they were independent and normal, one beyond 4 errors would have probability 0.019; coverages
    of 100 replications have longer tails, with which it is below 0.1. The two analyses share their
    data, so that chance differences come in pairs: 2% beyond 3 errors instead of 0.3%.
    """
    found = pd.concat([gallery.schools(name) for name in STUDIES])
    found = found[~is_odd(found)]
    assert len(found) == 294
    assert (found["n_failed"] + found["n_not_converged"] <= 0.01 * found["n"] + 1).all()
    size = found["distance"].abs()
    assert size.max() < 4, found[size > 4].to_string()
    assert (size > 3).mean() < 0.02, found[size > 3].to_string()


def test_the_page_explains_the_rows_that_disagree() -> None:
    found = gallery.disagreements()
    rows = found[["study", "method", "parameter", "measure", "icc", "mobility"]]
    assert set(rows.itertuples(index=False, name=None)) == {
        (gallery.SCHOOLS, "first_school", "sigma_l1^2", "coverage", ".05", 0.0)
    }
    assert "It is the coverage of the school variance" in PAGE


def test_what_ignoring_other_schools_does_comes_back() -> None:
    """The paper's result: residual variance too large, school variance too small where many move.

    All schools: within 3 errors of the truth, 9 comparisons, false alarm 0.024.
    """
    found = gallery.measured(gallery.SCHOOLS)
    bias = found[found["measure"] == "bias"].set_index(["method", "parameter", "mobility"])
    for parameter, sign in (("sigma_l2^2", 1), ("sigma_l1^2", -1)):
        row = bias.loc[("first_school", parameter, 0.5)]
        assert (sign * row["value"] > 2 * row["mcse"]).all(), row
    row = bias.sort_index().loc[("multiple_membership", "sigma_l2^2")]
    assert (row["value"].abs() < 3 * row["mcse"]).all(), row


def test_published_intercepts_miss_the_truth_and_ours_do_not() -> None:
    """Ours: 18 comparisons at 3 errors, false alarm below 0.05."""
    found = gallery.intercepts()
    still = found[found["mobility"] == 0]
    assert (still["theirs"] < -3).all()
    assert found["ours"].abs().max() < 3, found.to_string()
    theirs = pd.read_csv(shared_file("reference", "jfs_published.csv"))
    row = theirs[(theirs["Parameter"] == "fp_int") & (theirs["Estimation Model"] == "MMREM")]
    row = row[(row["Model Specification"] == "Null") & (row["ICC"] == 0.3)].iloc[0]
    assert f"{row['Mean(ESS)']:.0f} on average" in PAGE
    assert f"({row['Mean(SE)']:.3f})".replace("0.", ".") in PAGE
    assert f"({row['SD(EST)']:.3f})".replace("0.", ".") in PAGE


def test_posteriors_agree_with_bml() -> None:
    """17 comparisons at 3 errors of both sides: false alarm 0.045."""
    found = gallery.posteriors()
    assert len(found) == 17
    assert found["distance"].abs().max() < 3, found.to_string()
    sds = found["sd"] / found["published_sd"]
    assert sds.between(0.9, 1.1).all()  # an sd of 4,000 draws is known to 1.1%; bml's to 4%


def test_regressions_of_averages_agree_with_r() -> None:
    """To the digits of R's table; Cox to 5e-4, for ties are treated otherwise there."""
    found = gallery.fits(kind="estimate").set_index("model").drop("workers")
    assert found["published"].notna().all()
    ties = found.index == "AC_agg"
    for ours, theirs in (("mean", "published"), ("sd", "published_sd")):
        off = (found[ours] / found[theirs] - 1).abs().fillna(0)
        assert (off[~ties] < 1e-5).all(), found.assign(off=off)
        assert (off[ties] < 5e-4).all()


@pytest.mark.parametrize(("value", "error"), [("published", "published_sd"), ("mean", "sd")])
def test_what_averaging_parties_does(value: str, error: str) -> None:
    """What the page says of finance, in R's numbers and in ours."""
    found = gallery.fits()
    found = found[found["parameter"].str.endswith("finance]")].set_index("model")
    b, sd = found[value], found[error]
    assert 0 < b["AG_agg"] / b["G1"] < 0.5
    assert 1.45 < b["AB_agg"] / b["B1"] < 1.6
    for averages, members in (("AG_agg_cid", "G1"), ("AB_agg_cid", "B1")):
        assert abs(b[averages] - b[members]) < sd[averages] < sd[members]
    assert b["AB_agg_cid"] - 1.96 * sd["AB_agg_cid"] > 0 > b["B1"] - 1.96 * sd["B1"]


def test_office_workers_agree_with_lme4() -> None:
    """REML to its printed digits; the posterior mean by a tenth of its standard deviation."""
    reml = gallery.fits("workers", "estimate")
    step = 10.0 ** -np.array([4, 5, 4, 4, 4, 4])
    assert len(reml) == 6
    assert (np.abs(reml["mean"] - reml["published"]) < 0.51 * step).all(), reml
    posterior = gallery.fits("workers", "posterior").dropna(subset="published")
    assert len(posterior) == 6
    assert ((posterior["mean"] - posterior["published"]) / posterior["sd"]).abs().max() < 0.1


# -- again -----------------------------------------------------------------------------------


@pytest.mark.thorough
def test_some_fits_of_published_data_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two posteriors, 4 errors of the difference on 15 means: false alarm 0.001."""
    for name, file in (("coalgov", "coalgov_bml"), ("wage1", "wage1_wide")):
        table, source = pd.read_parquet(shared_file("data", f"{file}.parquet")), SOURCES[name]
        frame = table.astype(dict.fromkeys(table.select_dtypes("int64").columns, float))
        write(tmp_path / "datasets" / source.file, **{source.frame: frame})
    monkeypatch.setenv("RMM_CACHE", str(tmp_path))
    monkeypatch.setattr(published_fits, "SEED", 2)
    kept = gallery.fits(kind="posterior").set_index(["model", "parameter"])
    model = published_fits.COALITIONS["B1"]
    formula = f"{model.outcome} ~ 1 + majority{model.terms}"
    coalitions = published_fits.coalitions()
    workers = (published_fits.WORKERS, published_fits.jobs(), "gaussian", published_fits.MLWIN)
    for name, task in (("B1", (formula, coalitions, model.family, ["rmm"])), ("workers", workers)):
        found = published_fits.posterior(*task)
        before = kept.loc[name]
        assert set(found.index) == set(before.index)
        z = (found["mean"] - before["mean"]) / np.hypot(found["mcse"], before["mcse"])
        assert z.abs().max() < 4, z


@pytest.mark.thorough
@pytest.mark.parametrize("name", [*STUDIES, gallery.CROON])
def test_some_replications_again(name: str, tmp_path: Path) -> None:
    """The first 20 replications of one scenario, whose fits are among the kept ones.

    20 of n equal draws differ from the mean of n by sd * sqrt(1/20 - 1/n); 4.5 of these for 14
    means of variances, which are skewed: false alarm below 0.01.
    """
    study = load_study(ROOT / "config" / "studies" / f"{name}.yaml")
    scenario = study.scenarios[1]
    few = replace(study, scenarios=(replace(scenario, replications=20),))
    paths = []
    for job in plan(few):
        paths.append(tmp_path / job.path)
        run_batch(few, job.scenario, job.method, job.first, job.last, paths[-1])
    collect(few, paths, tmp_path / "estimates.parquet")
    again = write_performance(few, tmp_path / "estimates.parquet", tmp_path / "measures.parquet")
    keys = ["scenario", "method", "parameter", "measure"]
    both = again[again["policy"] == "per_method"].merge(gallery.measured(name), on=keys)
    both = both[both["measure"] == "bias"]
    assert len(both) >= 4
    sd = both["mcse_y"] * np.sqrt(both["n_y"])
    z = (both["value_x"] - both["value_y"]) / (sd * np.sqrt(1 / 20 - 1 / both["n_y"]))
    assert z.abs().max() < 4.5, both.assign(z=z).to_string()
