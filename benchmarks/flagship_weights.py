"""Tables and figures of docs/studies from the kept measures of two studies of weights.

usage: .venv/bin/python benchmarks/flagship_weights.py

Draws docs/figures/estimated_weights.svg and docs/figures/wrong_weight_function.svg, and writes the
tables of docs/studies/estimated-weights.md and docs/studies/wrong-weight-function.md between their
marks, `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flagship_pages
import matplotlib as mpl
import numpy as np
import pandas as pd
from flagship_pages import FIGURES, KEPT, PAGES, measured

from rmm.posterior.plots.style import INK, SETTINGS

mpl.use("Agg")

PAY, WRONG = "estimated_weights", "wrong_weight_function"
EFFECT, LARGEST = "marginal_effect[variable=x]", "largest_weight[by=power]"
#: Largest root mean squared error of the weight of the largest member that counts as known.
BOUND = 0.05
#: Factors of the first study that make a setting; a setting has a row of groups.
SETTING = ["signal", "correlation", "overlap", "b_w"]
#: Functions of the second study, in the order of its file: the truths, and their methods.
FUNCTIONS = {
    "equal": "equal",
    "share": "share of power",
    "exponential": "exponential",
    "largest": "largest alone",
    "ces": "power mean (CES)",
}
COMBINED = {"selection": "selection", "stacking": "stacking"}
_DRAWS = 4000  # of crossings, for their Monte Carlo errors


# -- when do estimated weights pay? ------------------------------------------------------------


@dataclass(frozen=True)
class Crossing:
    """From how many groups on something holds, with the 95% interval of its Monte Carlo error.

    Numbers of groups are between the smallest and the largest of the study, 0 where it holds at
    the smallest already, and infinite where it does not at the largest.
    """

    groups: float
    low: float
    high: float

    def text(self, smallest: int, largest: int) -> str:
        """Such as ``130 (90 to 190)``, ``at most 50`` or ``above 800``."""

        def words(value: float) -> str:
            if value == 0:
                return f"at most {smallest}"
            return f"above {largest}" if np.isinf(value) else f"{value:.0f}"

        if self.low == self.high:
            return words(self.groups)
        ends = f"{words(self.low)} to {words(self.high)}".replace("at most ", "below ")
        return f"{words(self.groups)} ({ends})"


def crossing(groups: Sequence[float], values: Sequence[float], errors: Sequence[float]) -> Crossing:
    """From where on values stay below 0, by straight lines over the logarithm of the groups.

    The interval has the quantiles of crossings of values with normal Monte Carlo errors,
    independent between numbers of groups, whose data sets are different.
    """
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(_DRAWS, len(groups))) * np.asarray(errors)
    drawn = [_crosses(groups, row) for row in np.asarray(values) + noise]
    low, high = np.quantile(drawn, (0.025, 0.975), method="closest_observation")
    return Crossing(_crosses(groups, np.asarray(values)), float(low), float(high))


def _crosses(groups: Sequence[float], values: Any) -> float:
    above = np.flatnonzero(values >= 0)
    if not len(above):
        return 0.0
    last = int(above[-1])
    if last == len(groups) - 1:
        return np.inf
    share = values[last] / (values[last] - values[last + 1])
    logs = np.log([groups[last], groups[last + 1]])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0])))


def settings_of_study(folder: Path = KEPT) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Each setting with a row for every number of groups.

    Columns: `ratio` of the root mean squared errors of the average marginal effect, estimated over
    equal weights; `gain`, the paired difference of mean squared errors over that of equal weights,
    and its Monte Carlo error; `weight`, root mean squared error of the weight of the largest
    member with estimated weights.
    """
    keys = [*SETTING, "groups"]

    def column(measure: str, parameter: str, method: str) -> pd.DataFrame:
        table = measured(PAY, measure, parameter, folder)
        return table[table["method"] == method].set_index(keys)

    equal = column("mse", EFFECT, "equal")
    difference = column("difference_mse", EFFECT, "estimated")
    weight = column("rmse", LARGEST, "estimated")
    found = pd.DataFrame(
        {
            "ratio": np.sqrt(1 + difference["value"] / equal["value"]),
            "gain": difference["value"] / equal["value"],
            "gain_error": difference["mcse"] / equal["value"],
            "weight": weight["value"],
            "weight_error": weight["mcse"],
        }
    ).reset_index()
    for key, rows in found.groupby(SETTING, sort=False):
        yield dict(zip(SETTING, key, strict=True)), rows.sort_values("groups")


def groups_needed(rows: pd.DataFrame) -> tuple[Crossing, Crossing]:
    """Groups from which on estimated weights pay, and from which on the largest weight is known."""
    groups = rows["groups"].tolist()
    pays = crossing(groups, rows["gain"].tolist(), rows["gain_error"].tolist())
    known = crossing(groups, (rows["weight"] - BOUND).tolist(), rows["weight_error"].tolist())
    return pays, known


def setting_words(setting: dict[str, Any]) -> str:
    """What differs from the first setting of the study."""
    signal = {
        "both": "",
        "covariate": "covariate only",
        "effects": "member effects only",
    }[setting["signal"]]
    words = [signal] if signal else []
    if setting["correlation"] == 0:
        words.append("x and power independent")
    if setting["overlap"] != 1:
        words.append(f"{setting['overlap']:.0%} of seats shared")
    return ", ".join(words) or "main setting"


def needed_table(folder: Path = KEPT) -> str:
    """Groups needed, by setting."""
    lines = [
        "| setting | b_w | groups from which the error is smaller with estimated weights | "
        f"groups from which the error of the largest weight is below {BOUND:g} |",
        "|---|---|---|---|",
    ]
    for setting, rows in settings_of_study(folder):
        ends = int(rows["groups"].min()), int(rows["groups"].max())
        pays, known = (one.text(*ends) for one in groups_needed(rows))
        lines.append(f"| {setting_words(setting)} | {setting['b_w']:g} | {pays} | {known} |")
    return "\n".join(lines)


def methods_table(folder: Path = KEPT) -> str:
    """Errors and coverage of all methods in the main setting, at 50 and 800 groups."""
    errors = measured(PAY, "rmse", EFFECT, folder)
    covers = measured(PAY, "coverage", "b_l1[x]", folder)
    bias = measured(PAY, "bias", EFFECT, folder)
    lines = [
        "| b_w | groups | method | data sets | RMSE | bias | coverage |",
        "|---|---|---|---|---|---|---|",
    ]
    key = [*SETTING, "groups", "method"]
    main = errors[(errors["signal"] == "both") & (errors["correlation"] != 0)]
    main = main[(main["overlap"] == 1) & main["groups"].isin([50, 200, 800])]
    others = {
        name: table.set_index(key)[["value", "mcse"]]
        for name, table in (("bias", bias), ("coverage", covers))
    }
    for row in main.itertuples():
        place = tuple(getattr(row, name) for name in key)
        cells = [_number(row.value, row.mcse)]
        cells += [_number(*others[name].loc[place]) for name in ("bias", "coverage")]
        lines.append(
            f"| {row.b_w:g} | {row.groups} | {row.method} | {row.n} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def _number(value: float, error: float) -> str:
    if np.isnan(value):
        return "–"
    text = f"{value:.3f}".replace("0.", ".", 1)
    return text if np.isnan(error) else f"{text} ({error:.3f})".replace("(0.", "(.")


def draw_needed(folder: Path = KEPT) -> Any:
    """Map of the groups needed: ratio of errors, and error of the largest weight, by setting."""
    from matplotlib.figure import Figure

    found = list(settings_of_study(folder))
    groups = sorted({g for _, rows in found for g in rows["groups"]})
    labels = [f"{setting_words(s)}, $b_w$ = {s['b_w']:g}" for s, _ in found]
    figure = Figure(figsize=(10.2, 0.36 * len(found) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    shape = (len(found), len(groups))
    ratio, weight = np.full(shape, np.nan), np.full(shape, np.nan)
    for place, (_, rows) in enumerate(found):
        at = [groups.index(g) for g in rows["groups"]]
        ratio[place, at], weight[place, at] = rows["ratio"], rows["weight"]
    _cells(left, np.log2(ratio), ratio, "PuOr_r", (-1.0, 1.0))
    _cells(right, np.log2(weight / BOUND), weight, "PuOr_r", (-2.0, 2.0))
    for number, axes in enumerate((left, right)):
        for place, (_, rows) in enumerate(found):
            _mark(axes, place, groups_needed(rows)[number].groups, groups)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_xlabel("groups")
    left.set_yticks(range(len(found)), labels)
    left.set_title(
        "error of the marginal effect: estimated / equal weights\n"
        "purple, below 1: estimated weights pay; mark: from here on"
    )
    right.set_title(
        "error of the weight of the largest member, estimated\n"
        f"purple, below {BOUND:g}: known well enough; mark: from here on"
    )
    return figure


def _cells(
    axes: Any, colours: Any, numbers: Any, palette: str, limits: tuple[float, float]
) -> None:
    """Coloured cells with numbers in them; cells that were not run stay empty."""
    shown = np.ma.masked_invalid(colours)
    axes.pcolormesh(
        np.arange(numbers.shape[1] + 1) - 0.5,
        np.arange(numbers.shape[0] + 1) - 0.5,
        shown,
        cmap=palette,
        vmin=limits[0],
        vmax=limits[1],
        edgecolors="white",
        linewidth=1.5,
    )
    for (row, column), value in np.ndenumerate(numbers):
        if not np.isnan(value):
            dark = abs(colours[row, column]) > 0.7 * limits[1]
            axes.text(
                column,
                row - 0.08,
                cell_text(value),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else INK,
            )
    axes.set_ylim(numbers.shape[0] - 0.5, -0.5)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def cell_text(value: float) -> str:
    """Two digits, three below .1, without the leading zero."""
    text = f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
    return text.removeprefix("0")


def _mark(axes: Any, row: int, value: float, groups: Sequence[float]) -> None:
    """A mark below the numbers where a crossing is, between the middles of two cells."""
    if value == 0 or np.isinf(value):
        return
    at = float(np.interp(np.log(value), np.log(groups), range(len(groups))))
    axes.plot(at, row + 0.32, "^", color=INK, ms=5, mec="white", mew=0.6)


# -- the wrong weight function -----------------------------------------------------------------


def wrong_measure(
    measure: str, parameter: str = EFFECT, folder: Path = KEPT
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Values and Monte Carlo errors of a measure: truths by methods."""
    table = measured(WRONG, measure, parameter, folder)
    order = [*FUNCTIONS, *COMBINED]
    values, errors = (
        table.pivot(index="function", columns="method", values=name).reindex(
            index=list(FUNCTIONS), columns=[m for m in order if m in set(table["method"])]
        )
        for name in ("value", "mcse")
    )
    return values, errors


def regret(folder: Path = KEPT) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Root mean squared error over that of the right function, less one; Monte Carlo errors.

    With D the paired difference of mean squared errors from the right function's M, it is
    sqrt(1 + D/M) - 1. D is the difference of two paired differences from the baseline, whose errors
    are taken to be independent: too large, rather than too small.
    """
    mse, _ = wrong_measure("mse", folder=folder)
    difference, error = wrong_measure("difference_mse", folder=folder)
    difference, error = difference.reindex(columns=mse.columns), error.reindex(columns=mse.columns)
    baseline = difference.columns[difference.isna().all()]
    difference[baseline], error[baseline] = 0.0, 0.0
    values, errors = mse.copy(), mse.copy()
    for truth in FUNCTIONS:
        right = mse.loc[truth, truth]
        gain = (difference.loc[truth] - difference.loc[truth, truth]) / right
        ratio = np.sqrt(1 + gain)
        spread = np.hypot(error.loc[truth], error.loc[truth, truth]) / right
        spread[truth] = 0.0
        values.loc[truth], errors.loc[truth] = ratio - 1, spread / (2 * ratio)
    return values, errors


def selection_rates(folder: Path = KEPT) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often selection takes each function: truths by functions; Monte Carlo errors."""
    values, errors = {}, {}
    for name in FUNCTIONS:
        value, error = wrong_measure("mean", f"weight[{name}]", folder)
        values[name], errors[name] = value["selection"], error["selection"]
    return pd.DataFrame(values), pd.DataFrame(errors)


def wrong_table(values: pd.DataFrame, errors: pd.DataFrame) -> str:
    """One measure: a row for each truth, a column for each method."""
    names = {**FUNCTIONS, **COMBINED}
    lines = [
        f"| truth | {' | '.join(names[m] for m in values.columns)} |",
        "|---" * (1 + len(values.columns)) + "|",
    ]
    for truth in values.index:
        cells = [
            "**right**" if m == truth and values.loc[truth, m] == 0 else _number(v, e)
            for m, v, e in zip(values.columns, values.loc[truth], errors.loc[truth], strict=True)
        ]
        lines.append(f"| {FUNCTIONS[truth]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_wrong(folder: Path = KEPT) -> Any:
    """Regret, coverage and selection rate: truths by methods."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.4, 3.8), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True, width_ratios=(7, 7, 5))
    cost, cover = regret(folder)[0] + 1, wrong_measure("coverage", folder=folder)[0]
    rates = selection_rates(folder)[0]
    _cells(axes[0], np.log2(cost.to_numpy()), cost.to_numpy(), "PuOr_r", (-1.5, 1.5))
    _cells(axes[1], (0.95 - cover.to_numpy()) / 0.3, cover.to_numpy(), "PuOr_r", (-1.0, 1.0))
    _cells(axes[2], rates.to_numpy(), rates.to_numpy(), "Greens", (0.0, 1.2))
    titles = (
        "error of the marginal effect,\nright function = 1",
        "coverage of 95% intervals",
        "how often selection takes it",
    )
    names = {**FUNCTIONS, **COMBINED}
    for one, table, title in zip(axes, (cost, cover, rates), titles, strict=True):
        one.set_title(title)
        labels = [names[m] for m in table.columns]
        one.set_xticks(range(len(labels)), labels, rotation=35, ha="right", rotation_mode="anchor")
        for place, truth in enumerate(table.index):
            at = list(table.columns).index(truth)
            box = mpl.patches.Rectangle((at - 0.5, place - 0.5), 1, 1, fill=False, ec=INK, lw=1.5)
            one.add_patch(box)
    axes[0].set_yticks(range(len(FUNCTIONS)), list(FUNCTIONS.values()))
    axes[0].set_ylabel("truth")
    figure.supxlabel("fitted (framed: the right function)", fontsize=9)
    return figure


# -- pages -------------------------------------------------------------------------------------

#: Page -> its tables by name.
TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "estimated-weights.md": {"groups needed": needed_table, "methods": methods_table},
    "wrong-weight-function.md": {
        "regret": lambda: wrong_table(*regret()),
        "coverage": lambda: wrong_table(*wrong_measure("coverage")),
        "bias": lambda: wrong_table(*wrong_measure("bias")),
        "selection": lambda: wrong_table(*selection_rates()),
    },
}
DRAWINGS: dict[str, Callable[[], Any]] = {PAY: draw_needed, WRONG: draw_wrong}


def main() -> None:
    """Draw the figures and write the tables."""
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": "flagship"}):
        for name, draw in DRAWINGS.items():
            out = FIGURES / f"{name}.svg"
            draw().savefig(out, metadata={"Date": None, "Creator": None})
            print(out)
    for name, tables in TABLES.items():
        flagship_pages.write_tables(PAGES / name, tables)


if __name__ == "__main__":
    main()
