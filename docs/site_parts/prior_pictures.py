"""What default priors say of outcomes: a figure, and a table of docs/howto/priors.md.

usage: PYTHONPATH=docs .venv/bin/python -m site_parts.prior_pictures

One table of memberships with the outcome of each family, drawn without any effect: the priors know
its location and spread alone. The model has two covariates of groups, two of members, and effects
of members and of nesting units.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

import rmm
from rmm.posterior.plots.style import INK, SETTINGS

DOCS = Path(__file__).resolve().parents[1]
FIGURE = DOCS / "figures" / "prior_outcomes.svg"
PAGE = DOCS / "howto" / "priors.md"
MARKS = ("<!-- table: prior outcomes -->", "<!-- end of table -->")
FORMULA = (
    "{outcome} ~ 1 + z + q + hm(id = country) "
    "+ mm(id(party, government), vars(x + s), fn(w ~ 1/n), RE = TRUE)"
)
GROUPS, MEMBERS, COUNTRIES, DRAWS = 200, 50, 20, 2000
type Array = np.ndarray

Draw = Callable[[np.random.Generator], Array]


def extra_zeros(rng: np.random.Generator, counts: Array) -> Array:
    """The counts of 7 groups in 10, and zeros."""
    return np.where(rng.random(GROUPS) < 0.3, 0.0, counts)


#: Family -> what is drawn for each group.
OUTCOMES: dict[str, Draw] = {
    "gaussian": lambda rng: rng.normal(50, 10, GROUPS),
    "student": lambda rng: 50 + 10 * rng.standard_t(4, GROUPS),
    "weibull": lambda rng: 600 * rng.weibull(1.3, GROUPS),
    "lognormal": lambda rng: rng.lognormal(6, 0.8, GROUPS),
    "gamma": lambda rng: rng.gamma(2, 300, GROUPS),
    "poisson": lambda rng: rng.poisson(8, GROUPS).astype(float),
    "negbinomial": lambda rng: rng.negative_binomial(2, 0.2, GROUPS).astype(float),
    "zero_inflated_poisson": lambda rng: extra_zeros(rng, rng.poisson(8, GROUPS)),
    "zero_inflated_negbinomial": lambda rng: extra_zeros(
        rng, rng.negative_binomial(2, 0.2, GROUPS)
    ),
    "hurdle_poisson": lambda rng: extra_zeros(rng, 1 + rng.poisson(7, GROUPS)),
    "hurdle_negbinomial": lambda rng: extra_zeros(rng, 1 + rng.negative_binomial(2, 0.2, GROUPS)),
    "binomial": lambda rng: (rng.random(GROUPS) < 0.3).astype(float),
    "probit": lambda rng: (rng.random(GROUPS) < 0.3).astype(float),
    "cloglog": lambda rng: (rng.random(GROUPS) < 0.3).astype(float),
    "beta": lambda rng: rng.beta(3, 7, GROUPS),
    "ordinal": lambda rng: rng.choice([1, 2, 3, 4], GROUPS, p=[0.2, 0.4, 0.3, 0.1]),
}
COUNTS = (
    "poisson",
    "negbinomial",
    "zero_inflated_poisson",
    "zero_inflated_negbinomial",
    "hurdle_poisson",
    "hurdle_negbinomial",
)
MEASURED, POSITIVE = ("gaussian", "student"), ("weibull", "lognormal", "gamma", *COUNTS)
#: Title of a panel -> the families in it.
PANELS = {
    "outcome less its mean, in standard deviations": MEASURED,
    "outcome over its median (counts: half a count added)": POSITIVE,
    "probability or share": ("binomial", "probit", "cloglog", "beta", "ordinal"),
}
LEVELS = (0.025, 0.25, 0.5, 0.75, 0.975)


def memberships(rng: np.random.Generator) -> pd.DataFrame:
    """Groups of two to five members."""
    rows = [
        (group, party)
        for group in range(GROUPS)
        for party in rng.choice(MEMBERS, rng.integers(2, 6), replace=False)
    ]
    table = pd.DataFrame(rows, columns=["government", "party"])
    table["x"] = rng.normal(size=MEMBERS)[table["party"]]
    table["s"] = rng.normal(size=len(table))
    for name, values in {
        "country": np.arange(GROUPS) % COUNTRIES,
        "z": rng.normal(size=GROUPS),
        "q": rng.normal(size=GROUPS),
    }.items():
        table[name] = values[table["government"]]
    return table


def drawn(family: str) -> tuple[Array, Array, float | None]:
    """What the priors say, what the data are, on the scale of the figure; the implausible share.

    For 0/1 outcomes and levels: the probability of a 1, and that of the highest level.
    """
    rng = np.random.default_rng(1)
    table, y = memberships(rng), OUTCOMES[family](rng)
    table["y"] = y[table["government"]]
    table["ended"] = 1
    outcome = "Surv(y, ended)" if family == "weibull" else "y"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.SpecificationWarning)
        found = rmm.prior_predictive(
            FORMULA.format(outcome=outcome), table, family, draws=DRAWS, seed=1
        )
    assert found.outcome is not None
    if family in MEASURED:
        said, seen = ((values - y.mean()) / y.std() for values in (found.outcome, y))
    elif family in POSITIVE:
        more = 0.5 if family in COUNTS else 0.0
        said, seen = (np.log10((v + more) / (np.median(y) + more)) for v in (found.outcome, y))
    elif family == "beta":
        said, seen = found.outcome, y
    elif family == "ordinal":
        said, seen = (found.outcome == 4).mean(axis=1), np.array([np.mean(y == 4)])
    else:
        said, seen = found.mean, np.array([y.mean()])
    return said.ravel(), seen, found.implausible


def draw() -> mpl.figure.Figure:
    """Bars of what priors say (50% and 95%), and a line below with the data's 95%."""
    import matplotlib.pyplot as plt

    heights = [len(families) for families in PANELS.values()]
    with mpl.rc_context(SETTINGS):
        figure, rows = plt.subplots(
            len(PANELS), 1, figsize=(7, 6.2), height_ratios=heights, layout="constrained"
        )
        for axes, (title, families) in zip(rows, PANELS.items(), strict=True):
            for place, family in enumerate(families):
                said, seen, _ = drawn(family)
                low, first, middle, third, high = np.quantile(said, LEVELS)
                axes.plot([low, high], [place, place], color="#7aa6c2", linewidth=2)
                axes.plot([first, third], [place, place], color="#2f6f9f", linewidth=6)
                axes.plot(middle, place, "o", color="white", markersize=3)
                ends = np.quantile(seen, [0.025, 0.975])
                if len(seen) == 1:
                    axes.plot(seen, place + 0.32, "|", color=INK, markersize=7)
                else:
                    axes.plot(ends, [place + 0.32] * 2, color=INK, linewidth=1.2)
            axes.set_yticks(range(len(families)), families)
            axes.set_ylim(len(families) - 0.4, -0.6)
            axes.set_title(title, loc="left", fontsize=9)
            axes.tick_params(left=False)
            if families == POSITIVE:
                powers = range(-4, 5, 2)
                axes.set_xticks(powers, [f"{10.0**p:,g}" for p in powers])
    return figure


def table_text() -> str:
    """Quantiles in the unit of the figure, and the share that no data look like."""
    lines = [
        "| family | unit | 2.5% | 25% | 50% | 75% | 97.5% | implausible |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    units = ("sd from the mean", "times the median", "probability")
    for unit, families in zip(units, PANELS.values(), strict=True):
        for family in families:
            said, _, share = drawn(family)
            cut = np.quantile(said, LEVELS)
            values = 10**cut if families == POSITIVE else cut
            cells = " | ".join(f"{v:,.2g}" if abs(v) < 100 else f"{v:,.0f}" for v in values)
            lines.append(
                f"| {family} | {unit} | {cells} | {'' if share is None else f'{share:.0%}'} |"
            )
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """The page with the table between its marks."""
    start, end = (page.index(mark) for mark in MARKS)
    return page[: start + len(MARKS[0])] + "\n\n" + table + "\n\n" + page[end:]


def main() -> None:
    """Write the figure and the table."""
    figure = draw()
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": "rmm"}):
        figure.savefig(FIGURE, metadata={"Date": None})
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table_text()), encoding="utf-8")
    print(FIGURE)


if __name__ == "__main__":
    main()
