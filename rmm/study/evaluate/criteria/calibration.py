"""Simulation-based calibration: are ranks of true values among posterior draws uniform?

Draw the truth from the prior, data from the truth, fit; then the rank of the truth among
(nearly independent) posterior draws is uniform if simulator, program, engine and priors all say
the same: Cook, Gelman & Rubin (2006); Talts et al. (2018). A study does it whose
`truth.parameters` are priors and whose methods have `priors: truth`; this file judges
the ranks that its estimates hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from rmm.study.evaluate.criteria.verdict import FIT, Verdict, broken, fit_notes
from rmm.study.methods.ranks import KEPT

if TYPE_CHECKING:
    import pandas as pd

    from rmm.study.design.study import Study

Array = np.ndarray[Any, Any]
_BINS = 20
_NULL_SETS = 4000  # simulated uniform rank sets for the ECDF test
LEAST = 2 * _BINS  # data sets: expected counts of the chi-square are at least 2
#: A fit without draws has no rank. More of them than this share, and the rest says little.
_BROKEN = 0.01


# -- uniformity ------------------------------------------------------------------------------


def chi_square_p(ranks: Array, bins: int = _BINS) -> float:
    """P value of the chi-square test of equal counts in `bins` bins of ranks 0..KEPT."""
    counts = np.bincount(np.asarray(ranks) * bins // (KEPT + 1), minlength=bins)
    return float(stats.chisquare(counts).pvalue)


def ecdf_p(ranks: Array, null: Array | None = None) -> float:
    """P value of the largest deviation of the ranks' ECDF from the uniform one.

    The deviation at each rank is measured by its binomial tail probability, so that all ranks
    count alike; the distribution of the smallest such probability is simulated: Saeilynoja,
    Buerkner & Vehtari (2022), Statistics and Computing 32, section 2.

    Parameters
    ----------
    ranks : (N,) int array
    null : (S,) array, optional
        `ecdf_null(N)`, where several parameters share it.
    """
    null = ecdf_null(len(ranks)) if null is None else null
    smallest = _smallest_tail(np.asarray(ranks)[None, :])[0]
    # Tail probabilities of counts have ties; a hair of room makes equal ones equal.
    return float((1 + np.sum(null <= smallest * (1 + 1e-9))) / (1 + len(null)))


def ecdf_null(count: int) -> Array:
    """(S,) smallest tail probabilities of `count` uniform ranks; always the same numbers."""
    rng = np.random.default_rng(20220401)
    return _smallest_tail(rng.integers(0, KEPT + 1, size=(_NULL_SETS, count)))


def _smallest_tail(ranks: Array) -> Array:
    sets, count = ranks.shape
    at = np.arange(KEPT)
    flat = ranks + (KEPT + 1) * np.arange(sets)[:, None]
    counts = np.bincount(flat.ravel(), minlength=sets * (KEPT + 1)).reshape(sets, KEPT + 1)
    below = np.cumsum(counts, axis=1)[:, :KEPT]
    chance = (at + 1) / (KEPT + 1)
    low = stats.binom.cdf(below, count, chance)
    high = stats.binom.sf(below - 1, count, chance)
    return np.asarray(np.minimum(low, high).min(axis=1))


# -- a study's ranks -------------------------------------------------------------------------


def judge(study: Study, estimates: pd.DataFrame, settings: Mapping[str, Any]) -> Verdict:
    """Both tests for every parameter of every method; Bonferroni over all of them.

    Fits that did not converge are ranked like the others: leaving them out would bias the ranks,
    as it is the truth that decides which they are.

    Parameters
    ----------
    settings : mapping
        ``false_alarm``: chance that calibrated engines fail, all tests of the study together.
    """
    ranked = estimates[estimates["rank"].notna()]
    cells = list(ranked.groupby(["scenario", "method", "parameter"], sort=False))
    limit = settings["false_alarm"] / max(1, 2 * len(cells))
    nulls = {n: ecdf_null(n) for n in {len(rows) for _, rows in cells}}
    uniform_sd = np.sqrt(((KEPT + 1) ** 2 - 1) / 12)
    found: list[dict[str, Any]] = []
    for key, rows in cells:
        scenario, method, parameter = map(str, key)
        ranks = rows["rank"].to_numpy(dtype=int)
        chi_square, ecdf = chi_square_p(ranks), ecdf_p(ranks, nulls[len(ranks)])
        found.append(
            {
                "scenario": study.scenario(scenario).label,
                "method": method,
                "parameter": parameter,
                "n": len(ranks),
                "chi_square_p": chi_square,
                "ecdf_p": ecdf,
                "mean_rank": float(ranks.mean() / KEPT),
                "sd_ratio": float(ranks.std() / uniform_sd),
                "passed": min(chi_square, ecdf) >= limit and len(ranks) >= LEAST,
            }
        )
    failed, fits = broken(estimates), len(estimates.drop_duplicates(FIT))
    small = any(row["n"] < LEAST for row in found)
    notes = (
        *fit_notes(estimates),
        f"Every p at least {limit:.2g} is wanted; calibrated engines fail this in at most "
        f"{100 * settings['false_alarm']:g}% of studies.",
        *([f"Fits without draws to rank: {failed}."] if failed else []),
        *([f"At least {LEAST} data sets are wanted."] if small else []),
    )
    return Verdict(
        study.name, "calibration", pd.DataFrame(found), notes, failed <= _BROKEN * max(1, fits)
    )
