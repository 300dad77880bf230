"""Shares of factors in the differences of the main estimand's measures, for a report."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from rmm.errors import StudyError
from rmm.study.measures.explain_scores import cells_of, variance_shares
from rmm.study.measures.measure_values import Sample
from rmm.study.measures.measures import MEASURES
from rmm.study.measures.score_cells import PER_METHOD, usable_samples
from rmm.study.report.data.results import Results, StudyResults

#: Measures that a report explains.
EXPLAINED = ("bias", "coverage", "rejection")
#: Reports explain studies of so many scenarios: of fewer the measures can be read at once, and of
#: more it takes minutes.
SCENARIOS = range(6, 5001)
_KEY = ("method", "parameter", "measure", "alpha")
#: Measures that are means over data sets -> the values of the data sets.
_VALUES: dict[str, Any] = {
    "mean": lambda s: s.estimate,
    "bias": lambda s: s.errors,
    "mse": lambda s: s.errors**2,
    "mean_absolute_error": lambda s: np.abs(s.errors),
    "interval_width": lambda s: s.upper - s.lower,
}


def explained(
    results: Results, measures: Sequence[str] = EXPLAINED, parameter: str | None = None
) -> pd.DataFrame:
    """Rows of `rmm.study.variance_shares` for one parameter, the main estimand by default.

    Raises
    ------
    StudyError
        If fewer than two factors vary or no measure has values; in studies with scenarios of the
        same data sets, for measures that are no means over data sets.
    """
    name = parameter or results.study.estimands[0].parameter
    if len(results.factors) < 2:
        raise StudyError(
            f"{'One' if results.factors else 'No'} factor varies between the scenarios: there is "
            "nothing to divide.\n  At least two factors are needed."
        )
    rows = results.performance
    rows = rows[(rows["parameter"] == name) & rows["measure"].isin(list(measures))]
    scores = rows.merge(results.scenarios, on="scenario")
    shared = _sharing(results)
    if not shared:
        return variance_shares(scores, results.factors, measures)
    for measure in measures:
        if measure not in _VALUES and (measure not in MEASURES or MEASURES[measure].hits is None):
            means = ", ".join((*_VALUES, *(m for m, row in MEASURES.items() if row.hits)))
            raise StudyError(
                f"{measure} is no mean over data sets, so its Monte Carlo errors in scenarios with "
                f"the same data sets are not known.\n  Allowed in this study: {means}."
            )
    known = {
        key: _correlations(results, here, dict(zip(_KEY, key, strict=True)), shared)
        for key, here in cells_of(scores, measures, PER_METHOD)
    }
    return variance_shares(scores, results.factors, measures, correlations=known)


def _sharing(results: Results) -> dict[str, str]:
    """Scenario -> id of its data, in studies whose scenarios share some; else nothing."""
    if not isinstance(results, StudyResults):
        return {}
    found = {s.id: s.data_id for s in results.study.scenarios}
    return found if len(set(found.values())) < len(found) else {}


def _correlations(
    results: Results, rows: pd.DataFrame, key: Mapping[str, Any], shared: Mapping[str, str]
) -> Any:
    """(N, N) sparse correlations of the Monte Carlo errors of a measure between scenarios."""
    ids = rows["scenario"].tolist()
    values = _values_of(results, key)
    groups: dict[str, list[int]] = {}
    for place, scenario in enumerate(ids):
        groups.setdefault(shared[scenario], []).append(place)
    found = sparse.eye_array(len(ids), format="lil")
    for places in groups.values():
        for i, j in itertools.combinations(places, 2):
            found[i, j] = found[j, i] = _correlation(values[ids[i]], values[ids[j]])
    return found.tocsr()


def _values_of(results: Results, key: Mapping[str, Any]) -> dict[str, pd.Series[float]]:
    """Scenario -> the values whose mean the measure is, by replication."""
    table = results.estimates
    table = table[(table["parameter"] == key["parameter"]) & (table["method"] == key["method"])]
    texts = ("scenario", "method", "parameter", "status")
    table = table.astype({name: "str" for name in texts if name in table})
    null = next(e.null for e in results.study.estimands if e.parameter == key["parameter"])
    truth = table["scenario"].map(lambda s: results.truth(s, key["parameter"])).astype(float)
    table = table.assign(truth=truth.fillna(table["truth"]), null=null)
    alpha = 0.05 if np.isnan(key["alpha"]) else float(key["alpha"])
    samples = usable_samples(table, key["parameter"], alpha, results.usable)
    return {s: _series(sample, key["measure"]) for (s, _), sample in samples.items()}


def _series(sample: Sample, measure: str) -> pd.Series[float]:
    values = _VALUES.get(measure) or MEASURES[measure].hits
    assert values is not None
    return pd.Series(values(sample), index=sample.replication).dropna()


def _correlation(one: pd.Series[float], other: pd.Series[float]) -> float:
    """Of two means; data sets that only one of them has count for it alone."""
    both = one.index.intersection(other.index)
    if len(both) < 3 or one[both].std() == 0 or other[both].std() == 0:
        return float(one.equals(other))
    r = float(np.corrcoef(one[both], other[both])[0, 1])
    return r * len(both) / float(np.sqrt(len(one) * len(other)))
