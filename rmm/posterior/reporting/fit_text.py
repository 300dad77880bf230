"""What a fit says of itself: headline, table, and the warning where it has not converged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from rmm.errors import counted
from rmm.posterior.diagnostics.contraction import MOSTLY_PRIOR, by_quartiles, mostly_prior
from rmm.posterior.diagnostics.summary import Diagnostics, Weighing

if TYPE_CHECKING:
    from rmm.backends.base import Settings
    from rmm.design.prepare import Model

_PLAIN = (0.005, 1e6)  # sds that three decimals show
_OWN_SCALE = ("mean", "sd", "median", "mcse_mean")  # in the parameter's unit, as quantiles are
_ADVICE_LINES = 3  # of the warning; the diagnostics hold all
_NOTHING_KNOWN = (
    "Increase `warmup` and `draws`, or choose a narrower prior for the parameter named above."
)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A summary without columns that are missing throughout, such as R-hat of weighted draws."""
    return table.dropna(axis="columns", how="all") if len(table) else table


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """A summary as text: three decimals, or three digits where these would say nothing.

    Which of both is decided by the sd of the row: the coefficient of a variable in millions has an
    sd such as 5.4e-07.
    """
    kept = shown(table)
    if "sd" not in kept:
        return kept.map(_decimals)
    plain = (kept["sd"].isna() | (kept["sd"] == 0) | kept["sd"].between(*_PLAIN)).to_numpy()
    columns = {
        name: [
            _digits(v) if _in_own_unit(str(name)) and not normal else _decimals(v)
            for v, normal in zip(kept[name], plain, strict=True)
        ]
        for name in kept
    }
    return pd.DataFrame(columns, index=kept.index)


def _in_own_unit(column: str) -> bool:
    return column in _OWN_SCALE or column.startswith("q")


def _decimals(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def headline(
    model: Model, backend: str, settings: Settings, found: Diagnostics, engine: Mapping[str, Any]
) -> str:
    """Family, engine, sizes and convergence; a second line where the engine was chosen."""
    spec, design = model.spec, model.design
    units = [f"{design.J} groups"]
    units += [f"{m.n_present} members" for m in design.members[: len(spec.blocks)]]
    units += [f"{n.n_units} nesting units" for n in design.nestings]
    state = "converged" if found.converged else "NOT CONVERGED"
    line = (
        f"{spec.family.name}, {backend}: {', '.join(units)}; "
        f"{_kept(settings, found)}, {state} ({found.short})"
    )
    return f"{line}\n{engine['chosen']}" if engine.get("chosen") else line


def _kept(settings: Settings, found: Diagnostics) -> str:
    """The draws that were kept; weighted draws are independent and have no chains."""
    if found.pareto_k is not None:
        return f"{settings.chains * settings.draws} draws"
    return f"{counted(settings.chains, 'chain')} x {settings.draws} draws"


def unconverged(found: Diagnostics, weighed: Weighing | None, advice: Mapping[str, str]) -> str:
    """Why a fit has not converged, and what to do: the end of the warning that says so."""
    if weighed is None:
        why = (
            f"largest R-hat {found.max_rhat:.3f} ({found.worst_rhat}), smallest bulk ESS "
            f"{found.min_ess_bulk:.0f} and tail ESS {found.min_ess_tail:.0f} ({found.worst_ess}; "
            f"{found.ess_wanted:.0f} needed), {found.divergences} divergences"
        )
    else:
        why = weighed.problem() or (
            f"{found.min_ess_bulk:.0f} effective draws, {found.ess_wanted:.0f} needed"
        )
    lines = list(advice.values())[:_ADVICE_LINES] or [_NOTHING_KNOWN]
    return f"{why}.\n" + "\n".join(f"* {line}" for line in lines)


def _third_column(model: Model) -> list[str]:
    """What is known of events, what the third column of `Surv()` is, and late entries."""
    outcome, known = model.spec.formula.outcome, model.design.outcome
    lines = []
    if "entry" in known:
        late = int((known["entry"] > 0).sum())
        lines.append(
            f"{outcome.label}: {late} of {model.design.J} groups enter after time 0 "
            "(delayed entry)."
        )
    if outcome.kind == "interval":
        exact, left, between = (known[f"n_{name}"] for name in ("exact", "left", "between"))
        none = model.design.J - exact - left - between
        lines.append(
            f"{outcome.label}: {between} groups with an event between two times, {left} with an "
            f"event before a time, {exact} with an event at a known time, {none} without an event."
        )
    if outcome.reading == "values":
        labels = {part.label for part in outcome.parts}
        what = (
            "its columns are a start, an end and an event"
            if outcome.kind == "spell"
            else "its columns are a time, an event and an upper limit"
        )
        lines.append(f"`Surv()` has {len(labels)} columns without names; by their values {what}.")
    return lines


def remarks(
    model: Model,
    together: Mapping[str, list[list[Any]]],
    table: pd.DataFrame,
    contraction: pd.DataFrame,
) -> str:
    """What a reader of a summary must know: groups left out, effects, and priors.

    Parameters
    ----------
    model : Model
    together : mapping
        Name of member effects -> sets of members that are always in the same groups.
    table : pandas.DataFrame
        The summary that is shown.
    contraction : pandas.DataFrame
        Of `rmm.posterior.diagnostics.contraction.contraction`.
    """
    lines = [] if model.dropped is None else [f"{model.dropped}."]
    if model.imputed:
        lines.append(f"Missing values are parameters: {model.imputed}.")
    lines += _third_column(model)
    for name, sets in together.items():
        if sets:
            lines.append(
                f"{name}: {sum(map(len, sets))} members (sets: {len(sets)}) are always in the "
                "same groups. For each set,\nonly the sum of the effects is identified "
                "(diagnostics()['always_together'] lists the sets)."
            )
    found = {
        f"Mostly decided by the prior (contraction below {MOSTLY_PRIOR:g})": mostly_prior(table),
        "Contraction computed from interquartile ranges, because the prior has no variance": [
            name for name in by_quartiles(contraction) if name in table.index
        ],
    }
    lines += [f"{what}: {', '.join(names)}." for what, names in found.items() if names]
    return "\n".join(lines)
