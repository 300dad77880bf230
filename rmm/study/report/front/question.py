"""What a study asks, seen from its results, and the judged numbers that answer it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rmm.study.design.estimand import Estimand
from rmm.study.report.data.labels import Labels, labels_of
from rmm.study.report.data.levels import is_null
from rmm.study.report.data.results import Results, StudyResults
from rmm.study.report.figures.rank_ecdf import rank_table
from rmm.study.report.front.engine_pairs import pair_table
from rmm.study.report.front.verdicts import (
    RELEVANT,
    Judged,
    Verdict,
    judged_deviation,
    judged_rate,
)

if TYPE_CHECKING:
    import pandas as pd

#: Kinds of questions.
CALIBRATION, NULL, POWER, RECOVERY = "calibration", "null effect", "power", "recovery"
PARITY = "parity"
#: Kinds of methods -> how all of them together are called.
FAMILIES = {
    "Multiple-membership models": ("mm", "mmmm"),
    "Regressions": ("aggregation", "disaggregation"),
}


@dataclass(frozen=True)
class Question:
    """The main question of a study, and how its numbers are to be read.

    Attributes
    ----------
    results : Results
    """

    results: Results

    @cached_property
    def labels(self) -> Labels:
        """The author's words."""
        return labels_of(self.results.study)

    @cached_property
    def estimand(self) -> Estimand:
        """The first one of the study."""
        return self.results.study.estimands[0]

    @cached_property
    def kind(self) -> str:
        """What is asked: by the first estimand, its true values, and what the file asks for."""
        if self.engine_pairs is not None:
            return PARITY
        if rank_table(self.results):
            return CALIBRATION
        if isinstance(self.results, StudyResults) and self.results.study.power:
            return POWER
        return NULL if self.null_scenarios(self.estimand) else RECOVERY

    @cached_property
    def engine_pairs(self) -> pd.DataFrame | None:
        """Comparisons of engines, where the study file asks for parity; else None."""
        return pair_table(self.results)

    @cached_property
    def methods(self) -> list[str]:
        """Methods of the study, without those that confirm others."""
        return [m for m in self.results.methods if m not in self.confirming]

    @cached_property
    def confirming(self) -> dict[str, str]:
        """Method -> the one that it confirms by another engine."""
        return {
            m.name: str(config["confirms"])
            for m in self.results.study.methods
            if (config := getattr(m, "config", {})).get("confirms")
        }

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {m.name: m.kind.name for m in self.results.study.methods if getattr(m, "kind", None)}

    def kind_of(self, method: str) -> str:
        """The kind of a method; empty where it is not known."""
        return self._kinds.get(method, "")

    def named(self, methods: Sequence[str], *, inside: bool = False) -> str:
        """Methods in words: a family by its name, up to four by theirs, or their number.

        Two or three methods with labels keep them: readers look for these words in the figure.

        Parameters
        ----------
        methods : sequence of str
        inside : bool
            Within a sentence: words of ours begin small.
        """
        if 2 < len(methods) == len(self.methods):
            return f"{'all' if inside else 'All'} {len(methods)} methods"
        words = self._words(methods, labels=True)
        if len(words) > 4:
            words = self._words(methods, labels=False)
        if len(words) > 4:
            return f"{len(methods)} of {len(self.methods)} methods"
        if not inside and words[0] in map(str.lower, FAMILIES):
            words[0] = f"{words[0][0].upper()}{words[0][1:]}"
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

    def _words(self, methods: Sequence[str], *, labels: bool) -> list[str]:
        """Names of families whose methods are all there, and of other methods."""
        left, words = list(methods), []
        for family, kinds in FAMILIES.items():
            every = [m for m in self.methods if self.kind_of(m) in kinds]
            known = labels and len(every) <= 3 and all(self.labels.method(m) != m for m in every)
            if len(every) > 1 and set(every) <= set(left) and not known:
                words.append(family.lower())
                left = [m for m in left if m not in every]
        return words + [self.labels.method(m) for m in left]

    # -- scenarios --------------------------------------------------------------------------------

    @cached_property
    def _records(self) -> dict[str, Mapping[Any, Any]]:
        return {str(r["scenario"]): r for r in self.results.scenarios.to_dict("records")}

    def null_scenarios(self, estimand: Estimand) -> list[str]:
        """Scenarios in which the null hypothesis of an estimand is true, and tested."""
        if not estimand.tested:
            return []
        rows = self._rows("rejection", estimand)
        return [s for s in self._records if s in rows and is_null(self.results, s, estimand)]

    def other_scenarios(self, estimand: Estimand) -> list[str]:
        """Scenarios in which it is tested and false."""
        rows = self._rows("rejection", estimand)
        null = set(self.null_scenarios(estimand))
        known = (s for s in self._records if s in rows and s not in null)
        return [s for s in known if not math.isnan(self.results.truth(s, estimand.parameter))]

    def place(self, scenario: str, among: Sequence[str] | None = None) -> str:
        """A scenario in words, by the factors that differ among some; empty if none does."""
        names = list(self._records if among is None else among)
        factors = [
            f
            for f in self.results.factors
            if len({str(self._records[name][f]) for name in names}) > 1
        ]
        return self.labels.scenario(self._records[scenario], factors)

    # -- judged numbers ---------------------------------------------------------------------------

    def rejections(self, estimand: Estimand, scenarios: Sequence[str], of: int = 0) -> list[Judged]:
        """Rates of a test whose null hypothesis is true."""
        level = estimand.alpha[0]
        return [
            judged_rate(row, level, of or len(scenarios), safe=-1)
            for row in self._of("rejection", estimand, scenarios)
        ]

    def coverages(self, estimand: Estimand) -> list[Judged]:
        """Rates at which intervals hold the truth."""
        rows = list(self._of("coverage", estimand, list(self._records)))
        count = len({row["scenario"] for row in rows})
        level = 1 - estimand.alpha[0]
        # Intervals of whole numbers hold them more often than they say.
        return [judged_rate(row, level, count, safe=1) for row in rows]

    def powers(self, estimand: Estimand) -> list[Judged]:
        """Rates of a test whose null hypothesis is false: not judged."""
        rows = self._of("rejection", estimand, self.other_scenarios(estimand))
        rates = (judged_rate(row, float(row["value"])) for row in rows)
        return [replace(one, verdict=Verdict.NONE) for one in rates]

    def biases(self, estimand: Estimand) -> list[Judged]:
        """Biases in standard deviations of the estimates."""
        spread = {
            (row["scenario"], row["method"]): float(row["value"])
            for row in self._of("empirical_se", estimand, list(self._records))
        }
        found = []
        rows = list(self._of("bias", estimand, list(self._records)))
        count = len({row["scenario"] for row in rows})
        for row in rows:
            sd = spread.get((row["scenario"], row["method"]), math.nan)
            if sd > 0:
                scaled = {**row, "value": row["value"] / sd, "mcse": row["mcse"] / sd}
                found.append(judged_deviation(scaled, count, RELEVANT))
        return found

    def errors_of_se(self, estimand: Estimand, scenarios: Sequence[str]) -> list[Judged]:
        """Errors of reported standard errors, in per cent."""
        rows = self._of("relative_error_se", estimand, scenarios)
        return [judged_deviation(row, len(scenarios)) for row in rows]

    def known(self, measure: str, estimand: Estimand) -> dict[tuple[str, str], float]:
        """(method, scenario) -> the value that the study file says is known, where it does."""
        return {
            (str(row["method"]), str(row["scenario"])): float(row["reference"])
            for row in self.values(measure, estimand)
            if not math.isnan(float(row.get("reference", math.nan)))
        }

    def values(self, measure: str, estimand: Estimand) -> list[Mapping[Any, Any]]:
        """Rows of any measure."""
        return list(self._of(measure, estimand, list(self._records)))

    def _of(
        self, measure: str, estimand: Estimand, scenarios: Sequence[str]
    ) -> Iterator[Mapping[Any, Any]]:
        rows = self._rows(measure, estimand)
        for scenario in scenarios:
            for method in self.methods:
                row = rows.get(scenario, {}).get(method)
                if row is not None:
                    yield row

    def _rows(self, measure: str, estimand: Estimand) -> dict[str, dict[str, Mapping[Any, Any]]]:
        """Scenario -> method -> row at the first level."""
        rows = self.results.measure(measure)
        level = rows["alpha"].isna() | ((rows["alpha"] - estimand.alpha[0]).abs() < 1e-12)
        rows = rows[level & (rows["parameter"] == estimand.parameter) & rows["value"].notna()]
        found: dict[str, dict[str, Mapping[Any, Any]]] = {}
        for row in rows.to_dict("records"):
            found.setdefault(str(row["scenario"]), {})[str(row["method"])] = row
        return found


def by_method(found: Sequence[Judged]) -> dict[str, list[Judged]]:
    """Method -> its numbers."""
    out: dict[str, list[Judged]] = {}
    for one in found:
        out.setdefault(one.method, []).append(one)
    return out
