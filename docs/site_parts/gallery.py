"""Tables of `docs/studies/gallery.md`, from kept results.

    PYTHONPATH=docs .venv/bin/python -m site_parts.gallery     (writes tables and figures)

Differences are in Monte Carlo errors of both sides. Papers whose simulations have no printed error
are taken to have `REPLICATIONS`; published coverages of Johnson, Feng and Stapleton are multiples
of .001, which fits. Closed forms and regressions have no Monte Carlo error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from site_parts.tables import table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "studies" / "gallery.md"
KEPT = ROOT / "results" / "reference"
FITS = ROOT / "benchmarks" / "results" / "published_fits.csv"
REPLICATIONS = 1000

CROON, SCHOOLS = "croon_van_veldhoven", "first_membership_only"
COVARIATES = "first_membership_only_covariates"
#: Per cent biases that Croon & van Veldhoven (2007) print of their simulation of one cell.
PRINTED_CELL = {"error_sd": 3, "members": 10, "correlation": 0.3}
PRINTED = {
    ("aggregation", "b_l2[z]"): 15.3,
    ("aggregation", "b_l1[x]"): -50.4,
    ("adjusted", "b_l2[z]"): -1.3,
    ("adjusted", "b_l1[x]"): 5.0,
}
PARAMETERS = {
    "b_l2[Intercept]": "intercept",
    "b_l2[x]": "student covariate",
    "sigma_l2^2": "residual variance",
    "sigma_l1^2": "school variance",
    "sigma_l1_1^2": "school variance",
}
METHODS = {"first_school": "first school only", "multiple_membership": "all schools"}


def measured(name: str) -> pd.DataFrame:
    """Kept measures of a study, with the factors of their scenarios."""
    found = pd.read_parquet(KEPT / name / "performance.parquet")
    found = found[found["policy"] == "per_method"]
    return found.merge(pd.read_parquet(KEPT / name / "scenarios.parquet"), on="scenario")


def closed_forms() -> pd.DataFrame:
    """Biases by the closed form of Croon & van Veldhoven, in per cent, beside simulated ones."""
    found = measured(CROON)
    found = found[(found["method"] == "aggregation") & (found["measure"] == "relative_bias")]
    found[["value", "mcse", "reference"]] *= 100
    return found.assign(distance=(found["value"] - found["reference"]) / found["mcse"])


def printed_cell() -> pd.DataFrame:
    """The four biases that the paper prints of a simulation, in per cent."""
    found = measured(CROON)
    cell = (found[list(PRINTED_CELL)] == pd.Series(PRINTED_CELL)).all(axis=1)
    found = found[cell & (found["measure"] == "relative_bias")].copy()
    found[["value", "mcse"]] *= 100
    found["reference"] = [
        PRINTED[key] for key in zip(found["method"], found["parameter"], strict=True)
    ]
    return _distances(found)


def schools(name: str) -> pd.DataFrame:
    """All published values of Johnson, Feng & Stapleton's null model, or with covariates."""
    found = measured(name)
    return _distances(found[found["reference"].notna()])


def _distances(found: pd.DataFrame) -> pd.DataFrame:
    """Differences in errors of both sides; a coverage has the error of the published one."""
    both = found["mcse"] * np.sqrt(1 + found["n"] / REPLICATIONS)
    p = found["reference"]
    binomial = np.sqrt((p * (1 - p)).clip(lower=0) * (1 / found["n"] + 1 / REPLICATIONS))
    both = both.where(found["measure"] != "coverage", binomial)
    return found.assign(distance=(found["value"] - found["reference"]) / both)


def intercepts() -> pd.DataFrame:
    """Mean intercepts of the null model, theirs and ours, in errors of their own from the truth."""
    keys = ["scenario", "method", "icc", "mobility"]
    found = measured(SCHOOLS)
    found = found[found["parameter"] == "b_l2[Intercept]"].set_index(keys)
    means, biases, sds = (found[found["measure"] == m] for m in ("mean", "bias", "empirical_se"))
    error = sds["reference"] / np.sqrt(REPLICATIONS)
    truth = means["value"] - biases["value"]
    table = means[["value", "mcse", "reference"]].assign(
        truth=truth,
        reference_mcse=error,
        theirs=(means["reference"] - truth) / error,
        ours=biases["value"] / means["mcse"],
    )
    return table.reset_index()


def fits(model: str = "", kind: str = "") -> pd.DataFrame:
    """Fits of published data; differences in Monte Carlo errors, else in standard errors."""
    found = pd.read_csv(FITS)
    found = found[found["model"].str.startswith(model) & found["kind"].str.startswith(kind)]
    difference = found["mean"] - found["published"]
    both = np.hypot(found["mcse"], found["published_mcse"])
    return found.assign(
        distance=difference / both, in_sds=difference / found["published_sd"].fillna(found["sd"])
    )


def posteriors() -> pd.DataFrame:
    """Posteriors of the coalitions beside those of bml."""
    found = fits(kind="posterior")
    return found[found["distance"].notna()]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _with_error(value: float, error: float, digits: int) -> str:
    return f"{_number(value, digits)} ({_number(error, digits)})"


def _distance(value: float) -> str:
    return "" if np.isnan(value) else f"{value:+.1f}".replace("-", "−")


def _digits(value: float) -> int:
    return 2 if value > 9 else 3


def summary() -> str:
    """How many differences are how large, by entry."""
    entries = {
        "Croon & van Veldhoven, closed form": closed_forms(),
        "Croon & van Veldhoven, their simulation": printed_cell(),
        "Johnson, Feng & Stapleton, null model": schools(SCHOOLS),
        "Johnson, Feng & Stapleton, covariates": schools(COVARIATES),
        "coalitions, posteriors of bml": posteriors(),
    }
    rows = []
    for name, found in entries.items():
        size = found["distance"].abs()
        counts = found.filter(["n", "n_failed", "n_not_converged"]).sum(axis=1)
        repeated = f"{counts.max():,.0f}" if "n" in found else ""
        beyond = (str(int((size > k).sum())) for k in (2, 3))
        rows.append([name, repeated, str(len(size)), *beyond, f"{size.max():.1f}"])
    head = ["entry", "our replications", "numbers", "beyond 2", "beyond 3", "largest"]
    return table(head, rows)


def closed_form_table() -> str:
    """Both coefficients of every cell."""
    found = closed_forms().set_index(["correlation", "error_sd", "members", "parameter"])
    rows = []
    for key in sorted(found.index.droplevel("parameter").unique()):
        cells = [f"{key[0]:g}", f"{key[1] ** 2:g}", f"{key[2]:g}"]
        for parameter in ("b_l2[z]", "b_l1[x]"):
            row = found.loc[(*key, parameter)]
            cells += [_number(row["reference"], 2), _with_error(row["value"], row["mcse"], 2)]
            cells.append(_distance(row["distance"]))
        rows.append(cells)
    head = ["corr(Z, ξ)", "Var(ν)", "n"]
    return table(
        [*head, "Z: published", "ours", "difference", "X: published", "ours", "difference"], rows
    )


def printed_table() -> str:
    """The cell that the paper simulated."""
    names = {"aggregation": "means of members", "adjusted": "adjusted means"}
    rows = [
        [
            names[row.method],
            {"b_l2[z]": "Z", "b_l1[x]": "X"}[row.parameter],
            _number(row.reference, 1),
            _with_error(row.value, row.mcse, 2),
            _distance(row.distance),
        ]
        for row in printed_cell().itertuples()
    ]
    return table(["regression on", "coefficient", "published", "ours", "difference"], rows)


def schools_table(name: str, parameter: str, measure: str) -> str:
    """Published and simulated values of one measure of one parameter."""
    found = schools(name)
    found = found[(found["parameter"] == parameter) & (found["measure"] == measure)]
    keys = ["icc", "mobility"]
    rows = []
    for key, cells in found.groupby(keys, sort=True):
        digits = _digits(cells["value"].max())
        row = [str(key[0]), f"{key[1]:.0%}"]
        for method in METHODS:
            one = cells[cells["method"] == method].iloc[0]
            row += [
                _number(one["reference"], digits),
                _with_error(one["value"], one["mcse"], digits),
            ]
            row.append(_distance(one["distance"]))
        rows.append(row)
    head = ["ICC", "movers"]
    for label in METHODS.values():
        head += [f"{label}: published", "ours", "difference"]
    return table(head, rows)


MEASURES = {"mean": "mean estimate", "empirical_se": "sd of estimates", "coverage": "coverage"}


def all_schools_tables(name: str) -> str:
    """Every table of a study, each below its title."""
    found = schools(name)
    parts = []
    for parameter, label in PARAMETERS.items():
        for measure, title in MEASURES.items():
            if ((found["parameter"] == parameter) & (found["measure"] == measure)).any():
                parts.append(f"*{label.capitalize()}: {title}*")
                parts.append(schools_table(name, parameter, measure))
    return "\n\n".join(parts)


def disagreements() -> pd.DataFrame:
    """Values of Johnson, Feng & Stapleton beyond 3 Monte Carlo errors."""
    found = pd.concat([schools(name).assign(study=name) for name in (SCHOOLS, COVARIATES)])
    return found[found["distance"].abs() > 3]


def disagreements_table() -> str:
    """Rows of both models that disagree."""
    rows = [
        [
            "null" if row.study == SCHOOLS else "covariates",
            METHODS[row.method],
            PARAMETERS[row.parameter],
            MEASURES[row.measure],
            row.icc,
            f"{row.mobility:.0%}",
            _number(row.reference, 3),
            _with_error(row.value, row.mcse, 3),
            _distance(row.distance),
        ]
        for row in disagreements().itertuples()
    ]
    head = ["model", "analysis", "parameter", "measure", "ICC", "movers"]
    return table([*head, "published", "ours", "difference"], rows)


def intercepts_table() -> str:
    """Intercepts of the multiple-membership model, from the truth."""
    found = intercepts()
    found = found[found["method"] == "multiple_membership"].sort_values(["icc", "mobility"])
    rows = [
        [
            row.icc,
            f"{row.mobility:.0%}",
            _number(row.truth, 3),
            _with_error(row.reference, row.reference_mcse, 4),
            _distance(row.theirs),
            _with_error(row.value, row.mcse, 4),
            _distance(row.ours),
        ]
        for row in found.itertuples()
    ]
    head = ["ICC", "movers", "truth", "published", "from the truth", "ours", "from the truth"]
    return table(head, rows)


MODELS = {
    "G1": "log duration, parties",
    "B1": "early end (logit), parties",
    "W1": "duration (Weibull), parties",
    "AG_agg": "log duration, averages",
    "AG_agg_cid": "log duration, averages, countries",
    "AB_agg": "early end, averages",
    "AB_agg_cid": "early end, averages, countries",
    "AW_agg": "duration (Weibull), averages",
    "AC_agg": "duration (Cox), averages",
}


def posteriors_table() -> str:
    """Posterior means and standard deviations beside those of bml."""
    rows = [
        [
            MODELS[row.model],
            f"`{row.parameter}`",
            f"{_with_error(row.published, row.published_mcse, 4)}, sd {row.published_sd:.3f}",
            f"{_with_error(row.mean, row.mcse, 4)}, sd {row.sd:.3f}",
            _distance(row.distance),
        ]
        for row in posteriors().itertuples()
    ]
    return table(["model", "parameter", "bml", "ours", "difference"], rows)


def shares_table() -> str:
    """Shares of the variance of log duration."""
    found = fits("G1").set_index("parameter")
    rows = []
    for part, label in (
        ("members", "parties"),
        ("nesting units", "countries"),
        ("residual", "governments"),
    ):
        at_means, whole = found.loc[f"share of {part} at the means"], found.loc[f"share of {part}"]
        rows.append(
            [
                label,
                _number(at_means["published"], 3),
                _number(at_means["mean"], 3),
                f"{_with_error(whole['mean'], whole['mcse'], 3)}, sd {whole['sd']:.3f}",
            ]
        )
    return table(
        ["share of", "bml, at its means", "ours, at our means", "ours, posterior mean"], rows
    )


def averages_table() -> str:
    """Finance and majority when parties are averaged, and with parties as members."""
    found = fits()
    found = found[found["parameter"].str.contains("finance|majority") & found["model"].isin(MODELS)]
    rows = []
    for row in found.itertuples():
        exact = row.kind == "estimate"
        ours = f"{_number(row.mean, 4)} ({row.sd:.4f})"
        shown = f"{_number(row.in_sds, 3)}" if exact else f"{_number(row.in_sds, 2)}"
        rows.append(
            [
                MODELS[row.model],
                f"`{row.parameter}`",
                row.program,
                f"{_number(row.published, 4)} ({row.published_sd:.4f})",
                ours,
                shown.replace("−0.000", "0.000"),
            ]
        )
    head = ["model", "coefficient", "program", "its estimate (error)", "ours (error)"]
    return table([*head, "difference in its errors"], rows)


def workers_table() -> str:
    """REML and posterior of the office workers."""
    found = fits("workers").set_index(["kind", "parameter"])
    rows = []
    for parameter in found.loc["estimate"].index:
        exact, whole = found.loc[("estimate", parameter)], found.loc[("posterior", parameter)]
        error = "" if np.isnan(exact["published_sd"]) else f" ({exact['published_sd']:g})"
        own = "" if np.isnan(exact["sd"]) else f" ({exact['sd']:.5f})"
        rows.append(
            [
                f"`{parameter}`",
                f"{_number(exact['published'], 5)}{error}",
                f"{_number(exact['mean'], 5)}{own}",
                f"{_number(whole['mean'], 5)} ({whole['sd']:.5f})",
                f"{_number(whole['in_sds'], 2)} ({whole['mcse'] / whole['sd']:.2f})",
            ]
        )
    head = ["parameter", "lme4, REML", "ours, REML", "ours, posterior mean (sd)"]
    return table([*head, "posterior mean − REML, in sds"], rows)


#: By the name in the page's `<!-- table NAME -->`.
TABLES: dict[str, Callable[[], str]] = {
    "summary": summary,
    "croon": closed_form_table,
    "croon-printed": printed_table,
    "schools-residual": lambda: schools_table(SCHOOLS, "sigma_l2^2", "mean"),
    "schools-coverage": lambda: schools_table(SCHOOLS, "sigma_l2^2", "coverage"),
    "schools-variance": lambda: schools_table(SCHOOLS, "sigma_l1^2", "mean"),
    "schools-covariates": lambda: schools_table(COVARIATES, "sigma_l1_1^2", "mean"),
    "schools-disagreements": disagreements_table,
    "schools-intercepts": intercepts_table,
    "schools-all": lambda: all_schools_tables(SCHOOLS),
    "schools-all-covariates": lambda: all_schools_tables(COVARIATES),
    "coalitions": posteriors_table,
    "coalitions-shares": shares_table,
    "coalitions-averages": averages_table,
    "workers": workers_table,
}
_TABLE = re.compile(r"<!-- table (?P<name>[a-z-]+) -->\n.*?<!-- end of table -->", re.DOTALL)


def with_tables(text: str) -> str:
    """Return the page with its tables written again."""

    def one(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- table {name} -->\n\n{TABLES[name]()}\n\n<!-- end of table -->"

    return _TABLE.sub(one, text)


if __name__ == "__main__":
    from site_parts import gallery_figures

    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    gallery_figures.write()
