"""Recovery: true values come back without bias, and intervals hold them as often as they say.

Posterior means are unbiased and credible intervals exact on average over the prior, whatever the
size of the data, if truths are drawn from the prior of the fit; at one fixed truth neither holds
in small data (a standard deviation's posterior is skew, a prior pulls). So studies that are judged
here draw their truths (`truth.parameters` with priors, methods with `priors: truth`). Intervals of
whole numbers, such as ranks of members, hold them more often than they say: only `calibration`
judges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from scipy import stats

from rmm.study.evaluate.criteria.verdict import Verdict, broken, fit_notes
from rmm.study.files.parquet import NOT_CONVERGED, OK
from rmm.study.measures.score_cells import PER_METHOD, score_estimates
from rmm.study.methods.method import WITHOUT_ENGINE

if TYPE_CHECKING:
    import pandas as pd

    from rmm.study.design.study import Study

_LEVEL = 0.95  # of the intervals whose coverage is judged


def judge(study: Study, estimates: pd.DataFrame, settings: Mapping[str, Any]) -> Verdict:
    """Bias in Monte Carlo errors and coverage, for every parameter of Bayesian methods.

    Fits that did not converge count like the others.

    Parameters
    ----------
    settings : mapping
        ``bias``: largest bias in Monte Carlo errors; ``coverage``: smallest and largest;
        ``methods``: those that are judged, all if empty.
    """
    wanted = [m.name for m in study.methods if m.backend not in WITHOUT_ENGINE]
    wanted = list(settings["methods"]) or wanted
    bayesian = estimates[estimates["method"].isin(wanted)]
    low, high = settings["coverage"]
    found = []
    for (scenario, method, parameter), rows in _scores(study, bayesian):
        (bias, mcse, n), (coverage, _, _) = rows["bias"], rows["coverage"]
        z = bias / mcse
        found.append(
            {
                "scenario": study.scenario(scenario).label,
                "method": method,
                "parameter": parameter,
                "n": n,
                "bias": bias,
                "mcse": mcse,
                "z": z,
                "coverage": coverage,
                "passed": abs(z) <= settings["bias"] and low <= coverage <= high,
            }
        )
    return Verdict(
        study.name,
        "recovery",
        pd.DataFrame(found),
        (*fit_notes(bayesian), _false_alarm(found, settings)),
        broken(bayesian) == 0,
    )


_Score = tuple[float, float, int]


def _scores(
    study: Study, estimates: pd.DataFrame
) -> list[tuple[tuple[str, str, str], dict[str, _Score]]]:
    frame = score_estimates(
        estimates,
        measures=["bias", "coverage"],
        parameters=[e.parameter for e in study.estimands if not e.whole],
        usable=(OK, NOT_CONVERGED),
    )
    frame = frame[frame["policy"] == PER_METHOD]
    out: dict[tuple[str, str, str], dict[str, _Score]] = {}
    for row in frame.to_dict("records"):
        key = (str(row["scenario"]), str(row["method"]), str(row["parameter"]))
        out.setdefault(key, {})[str(row["measure"])] = (row["value"], row["mcse"], row["n"])
    return list(out.items())


def _false_alarm(found: list[dict[str, Any]], settings: Mapping[str, Any]) -> str:
    """How often correct engines fail: at most the sum over all comparisons."""
    low, high = settings["coverage"]
    chance = 0.0
    for one in found:
        n, p = int(one["n"]), float(2 * stats.norm.sf(settings["bias"]))
        outside = stats.binom.sf(high * n + 1e-9, n, _LEVEL)
        if low * n > 0:
            outside += stats.binom.cdf(low * n - 1e-9, n, _LEVEL)
        chance += p + float(outside)
    return (
        f"Wanted: |z| of the bias at most {settings['bias']:g}, coverage of 95% intervals from "
        f"{low:g} to {high:g}. Correct engines are expected to fail {chance:.2g} of these "
        f"{2 * len(found)} comparisons."
    )
