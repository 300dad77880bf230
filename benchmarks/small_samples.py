"""What priors do in small data: bias, coverage and standard errors, and what a wider prior costs.

Usage: python benchmarks/small_samples.py [CASE ...] [--data-sets 500] [--write]

Each case fits the same simulated data sets under several priors by laplace. `--write` puts the
table into results/small_samples.csv, where it replaces the rows of these cases.

choices     25 strata of 4 choices; the default priors before and after they were narrowed
groups15    gaussian, 15 groups; the default priors before and after, and narrower ones of sds
shrinkage   weight coefficient of 1 per sd of its variable, 15 and 100 groups; wider priors of it
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import rmm
from rmm.study.performance import performance

RESULT = Path(__file__).parent / "results" / "small_samples.csv"
KEYS = ["case", "design", "priors", "parameter"]
MEASURES = ["bias", "empirical_se", "model_se", "relative_error_se", "coverage", "contraction"]
WEIGHTED = "mm(id(member, group), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*power)))), RE = TRUE)"
GAUSSIAN = f"y ~ 1 + {WEIGHTED}"
CHOICES = f"y ~ 0 + strata(choice_set) + {WEIGHTED}"
TRUTH = {"b_l1[x]": 1.0, "b_w[b1]": 1.0, "sigma_l1": 1.0}
Priors = Callable[[pd.DataFrame], dict[str, str]]


def default(table: pd.DataFrame) -> dict[str, str]:
    """Those of the package."""
    return {}


def before(s: float | None) -> Priors:
    """The default priors of version 0.1.0: everything 2.5 s; s None: that of y."""

    def of(table: pd.DataFrame) -> dict[str, str]:
        groups = table.drop_duplicates("group")
        scale = float(groups["y"].std()) if s is None else s
        spread = np.sqrt(1 / table.groupby("group").size()).mean()
        out = {
            "b_l1": f"normal(0, {2.5 * scale / table['x'].std()})",
            "b_w": f"normal(0, {1 / table['power'].std()})",
            "sigma_l1": f"half_normal({2.5 * scale / spread})",
        }
        return out | ({"sigma_l2": f"half_normal({2.5 * scale})"} if s is None else {})

    return of


def narrow_sds(table: pd.DataFrame) -> dict[str, str]:
    """Of a gaussian model: half-normal of the outcome's sd, in place of 2.5 of it."""
    s = float(table.drop_duplicates("group")["y"].std())
    spread = np.sqrt(1 / table.groupby("group").size()).mean()
    return {"sigma_l1": f"half_normal({s / spread})", "sigma_l2": f"half_normal({s})"}


def wider(times: float) -> Priors:
    """Of the weight coefficient, in units of the default's scale."""

    def of(table: pd.DataFrame) -> dict[str, str]:
        within = table["power"] - table.groupby("group")["power"].transform("mean")
        s = np.sqrt((within**2).sum() / (len(table) - table["group"].nunique()))
        return {"b_w": f"normal(0, {times / s})"}

    return of


@dataclass(frozen=True)
class Design:
    """Data sets of one kind, and the priors that they are fitted under."""

    case: str
    name: str
    formula: str
    family: str
    parameters: Mapping[str, float]
    membership: Mapping[str, Any]
    priors: Mapping[str, Priors]


def synthetic(groups: int, members: int, **more: Any) -> dict[str, Any]:
    """Groups of two to five members."""
    size = {"distribution": "uniform", "low": 2, "high": 5}
    return {"kind": "synthetic", "groups": groups, "members": members, "size": size, **more}


_NORMAL = {**TRUTH, "b_l2[Intercept]": 0.0, "sigma_l2": 1.0}
_WIDTHS: Mapping[str, Priors] = {"default": default, "2.5 times": wider(2.5), "10 times": wider(10)}
_STRATA = synthetic(100, 40, units=25, within=False, nesting="choice_set")
DESIGNS = (
    Design("choices", "25 strata of 4", CHOICES, "condlogit", TRUTH, _STRATA,
           {"before": before(1.0), "after": default}),
    Design("groups15", "15 groups", GAUSSIAN, "gaussian", _NORMAL, synthetic(15, 20),
           {"before": before(None), "after": default, "sds of 1": narrow_sds}),
    Design("shrinkage", "15 groups", GAUSSIAN, "gaussian", _NORMAL, synthetic(15, 20), _WIDTHS),
    Design("shrinkage", "100 groups", GAUSSIAN, "gaussian", _NORMAL, synthetic(100, 40), _WIDTHS),
)  # fmt: skip


def fits(design: Design, count: int) -> Iterator[dict[str, Any]]:
    """A row per fit and parameter, as `rmm.study.performance` takes them."""
    for number in range(1, count + 1):
        simulated = rmm.simulate(
            design.formula,
            dict(design.parameters),
            family=design.family,
            membership=dict(design.membership),
            seed=number,
            covariates={"x": {"level": "membership"}, "power": {"level": "membership"}},
        )
        for name, priors in design.priors.items():
            fit = rmm.fit(
                design.formula,
                simulated.data,
                family=design.family,
                backend="laplace",
                priors=priors(simulated.data),
                chains=2,
                draws=1000,
                seed=number,
                monitor="structural",
                progress=False,
            )
            for parameter, row in fit.summary().iterrows():
                yield {
                    "case": design.case,
                    "design": design.name,
                    "priors": name,
                    "parameter": parameter,
                    "replication": number,
                    "mean": row["mean"],
                    "sd": row["sd"],
                    "lower": row["q2.5"],
                    "upper": row["q97.5"],
                    "contraction": row["contraction"],
                    "truth": design.parameters[str(parameter)],
                    "status": "ok" if fit.converged else "not_converged",
                }


def measured(design: Design, count: int) -> pd.DataFrame:
    """A row per priors and parameter: each measure and its Monte Carlo standard error."""
    table = pd.DataFrame(list(fits(design, count)))
    found = performance(
        table.assign(method=table["priors"], scenario=design.name), measures=MEASURES
    )
    found = found[found["policy"] == "per_method"]
    values = found.pivot(index=["method", "parameter"], columns="measure", values=["value", "mcse"])
    values.columns = pd.Index(
        [c[1] if c[0] == "value" else f"{c[1]}_mcse" for c in values.columns.to_flat_index()]
    )
    numbers = found.groupby(["method", "parameter"])[["n", "n_not_converged"]].max()
    order = [c for m in MEASURES for c in (m, f"{m}_mcse")]
    out = values[order].join(numbers).reset_index().rename(columns={"method": "priors"})
    return out.assign(case=design.case, design=design.name)[
        [*KEYS, "n", "n_not_converged", *order]
    ].round(4)


def main() -> None:
    """Print the table, and keep it."""
    cases = sorted({d.case for d in DESIGNS})
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(cases))
    parser.add_argument("--data-sets", type=int, default=500)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    wrong = set(options.cases) - set(cases)
    if wrong:
        parser.error(f"no such case: {', '.join(sorted(wrong))}; there are {', '.join(cases)}")
    warnings.simplefilter("ignore")
    chosen = [d for d in DESIGNS if d.case in (options.cases or cases)]
    table = pd.concat([measured(d, options.data_sets) for d in chosen], ignore_index=True)
    print(table.drop(columns=[c for c in table if str(c).endswith("_mcse")]).to_string(index=False))
    if options.write:
        if RESULT.exists():
            known = pd.read_csv(RESULT)
            kept = known[~known["case"].isin(table["case"])]
            table = pd.concat([kept, table]).sort_values(KEYS, kind="stable")
        table.to_csv(RESULT, index=False)


if __name__ == "__main__":
    main()
