"""What a table cannot tell about a model: checks before a fit, each with what follows from it.

Each check looks at the design, not at names: the rank of what the coefficients and standard
deviations do to the groups, and the curvature of the likelihood. They run in `rmm.fit` alone: a
prediction, a program or a saved fit that is read again is not checked. All together take less
than a millisecond for 100 groups.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmm.design.checks.separation import separating
from rmm.design.checks.variance_identification import RESIDUAL, Unidentified, find_unidentified
from rmm.design.fixed_effects import FixedEffects, fixed_effects
from rmm.design.prepare import Model
from rmm.errors import SpecificationWarning
from rmm.tables.read import Array

_FEW_LEVELS = 10  # so many columns are nothing unusual, however few groups there are
_SHOWN = 4  # names that a message lists
_SEPARATORS = (";", "|", ",", "/")  # between members that stand in one cell
_FARTHEST = 30.0  # between known sums on the scale of logs: a factor of 10^13
_RECUR = 0.8  # of several members in one cell so few are different ones


@dataclass(frozen=True)
class Look:
    """A model before its fit, and what several checks need of it."""

    model: Model

    @cached_property
    def fixed(self) -> FixedEffects:
        """The columns of all coefficients."""
        return fixed_effects(self.model.spec, self.model.grouped, self.model.design)

    @cached_property
    def held(self) -> frozenset[str]:
        """Standard deviations that are held at a number."""
        return frozenset(
            name
            for name, priors in self.model.priors.elements.items()
            if all(p.family == "fixed" for p in priors)
        )


def warn_of_design(model: Model) -> None:
    """Warn of everything that a model's own table says little or nothing about.

    Parameters
    ----------
    model : Model

    Warns
    -----
    SpecificationWarning
        One per finding: what was found, and what follows for the results.
    """
    look = Look(model)
    for check in CHECKS:
        for text in check(look):
            warnings.warn(text, SpecificationWarning, stacklevel=3)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


# ---- groups of one member ---------------------------------------------------------------------


def groups_of_one(look: Look) -> Iterator[str]:
    """Every group has one row: a member's weight is 1, and nothing is aggregated."""
    grouped, spec = look.model.grouped, look.model.spec
    if look.model.wide or not spec.blocks or len(grouped.table) > grouped.groups.count:
        return
    for part, units in zip(spec.blocks, grouped.blocks, strict=True):
        if part.weight.constraint == "group":
            block = part.block
            yield (
                f"Every group (column `{block.group}`) has only one member (column "
                f"`{block.member}`). Every weight is therefore 1, and this mm() is an ordinary "
                "regression. If your groups have more members, add the missing rows: the table "
                "needs one row per membership, not one row per group."
                + listed_in_cells(units.labels)
            )
            return


def listed_in_cells(labels: Array) -> str:
    """A sentence where ids look like lists of several members, who stand in other cells too."""
    texts = [label for label in labels if isinstance(label, str)]
    for separator in _SEPARATORS:
        several = [text for text in texts if separator in text]
        parts = [part.strip() for text in texts for part in text.split(separator)]
        if len(several) > len(labels) / 2 and len(set(parts)) < _RECUR * len(parts):
            return (
                f" Ids such as {several[0]!r} seem to be several members in one cell. Make one row "
                f"for each member, with .str.split({separator!r}) and .explode()."
            )
    return ""


# ---- standard deviations ----------------------------------------------------------------------


def standard_deviations(look: Look) -> Iterator[str]:
    """Standard deviations that are known in sum only, or not at all."""
    model = look.model
    found = find_unidentified(model.spec, model.grouped, model.design, look.fixed, look.held)
    for one in found:
        yield _absorbed(look, one) if len(one.names) == 1 else _summed(look, one)


def _absorbed(look: Look, found: Unidentified) -> str:
    name, model = found.names[0], look.model
    by = "they are the same in all groups"
    if found.absorbing:
        by = f"{_listed(found.absorbing)} can have the same effect"
    elif not model.spec.family.intercept:
        by = "the baseline can have the same effect"
        by = by if model.grouped.strata is None else "they cancel within strata"
    only = _only_member(look, name)
    return (
        f"{name}: {only}its effects cannot be separated from other parts of the model ({by}). The "
        f"data contain no information on {name}, so its posterior is its prior. This uncertainty "
        f"is also in {'these coefficients' if found.absorbing else 'the effects'}. No other "
        "result is affected."
    )


def _only_member(look: Look, name: str) -> str:
    """The one member that stands in all groups, by its own id."""
    spec, grouped = look.model.spec, look.model.grouped
    for part, units in zip(spec.blocks, grouped.blocks, strict=True):
        if part.sigma == name and units.count == 1:
            return f"`{part.block.member}` has only one member ({units.labels[0]}), so "
    return ""


def _summed(look: Look, found: Unidentified) -> str:
    family = look.model.spec.family
    if RESIDUAL in found.names and not family.normal_sd:
        return _like_a_residual(look, found)
    if found.by_size:
        name, residual = _own_names(look, found)
        return (
            f"{name} and {residual} are hard to separate{_why(look, found)}. Only differences in "
            "variance between groups of different sizes or weights separate them. How the variance "
            "is divided between the two depends on the priors, and on the assumption that the "
            f"variance of a group is the sum of {residual}^2 and a part that follows its weights "
            "(1/n with equal weights). The variance shares and the size of the effects depend on "
            "the priors too. Coefficients (b_*) are hardly affected."
        )
    if not found.factors:
        return (
            f"{_listed(list(_own_names(look, found)))}: the data can estimate only sums of their "
            "squares, because the effects of one are sums of the effects of the others. How the "
            "variance is divided between them depends only on the priors, and so do the variance "
            "shares. Coefficients (b_*) are hardly affected."
        )
    names = _own_names(look, found)
    total = " + ".join(_term(n, f) for n, f in zip(names, found.factors, strict=True))
    return (
        f"{' and '.join(names)}: the data can estimate {total}, but hardly its parts"
        f"{_why(look, found)}. How this sum is divided depends on the priors, and so do the "
        "variance shares and the size of the effects. Coefficients (b_*) are not affected. Report "
        "the coefficients and the sum, or say that the priors decide how it is divided."
    )


def _own_names(look: Look, found: Unidentified) -> list[str]:
    return [look.model.spec.family.normal_sd if n == RESIDUAL else n for n in found.names]


def _term(name: str, factor: float) -> str:
    """``sigma_l1^2/2`` or ``0.41*sigma_l1^2``."""
    whole = round(1 / factor) if factor > 1e-6 else 0
    if abs(factor - 1) < 1e-3:
        return f"{name}^2"
    if whole > 1 and abs(factor * whole - 1) < 1e-3:
        return f"{name}^2/{whole}"
    return f"{factor:.2g}*{name}^2"


def _why(look: Look, found: Unidentified) -> str:
    """Whose effects are in one group each, where that is the reason."""
    spec, design = look.model.spec, look.model.design
    if RESIDUAL not in found.names:
        return ", because both have the same effect on the same groups"
    alone = []
    for part, member in zip(spec.members, design.members, strict=True):
        if (
            part.smooth is None
            and part.sigma in found.names
            and np.bincount(member.member).max() == 1
        ):
            alone.append(f"every member of `{part.block.member}` is in only one group")
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        if nest.sigma in found.names and np.bincount(nesting.unit).max() == 1:
            alone.append(f"every unit of `{nest.block.unit}` has only one group")
    if not alone:
        return ", because both differ between groups in the same way"
    return f", because {' and '.join(alone)}"


def _like_a_residual(look: Look, found: Unidentified) -> str:
    names = [n for n in found.names if n != RESIDUAL]
    which = " and ".join(names)
    start = f"{which}: these effects act like a residual of the groups{_why(look, found)}. "
    return start + look.model.spec.family.like_residual.format(which=which)


# ---- outcomes ---------------------------------------------------------------------------------


def separation(look: Look) -> Iterator[str]:
    """Coefficients whose likelihood grows without end."""
    model = look.model
    names = separating(model.spec.family, model.design, look.fixed)
    if names:
        label, one = model.spec.formula.outcome.label, len(names) == 1
        what = model.spec.family.separated.format(label=label)
        yield (
            f"{_listed(names)}: {what} by {'its variable' if one else 'their variables'}, so the "
            f"likelihood has no maximum in {'this coefficient' if one else 'these coefficients'}. "
            "The data determine only the sign. The size depends on the prior and on the spread of "
            "random effects. Report the prior, and compare the results with another prior."
        )


def few_events(look: Look) -> Iterator[str]:
    """Fewer events than parameters: the information is in events, not in groups."""
    model = look.model
    count, what = _events(model)
    slopes = [n for n in look.fixed.labels if n != "b_l2[Intercept]"]
    weights = [f"{p.b_w}[{w}]" for p in model.spec.members for w in p.weight.parameters]
    sds = [n for n in model.priors.elements if n.startswith("sigma") and n not in look.held]
    parameters = [*slopes, *weights, *sds]
    if count is not None and count < len(parameters):
        yield (
            f"`{model.spec.formula.outcome.label}` has only {count} {what}, but the model has "
            f"{len(parameters)} parameters besides the intercept ({_listed(parameters)}). The "
            f"information is in the {what}, not in the number of groups. The posterior and its "
            "intervals depend mostly on the priors."
        )


def _events(model: Model) -> tuple[int | None, str]:
    """Number of what carries the information, and its name."""
    outcome, name = model.design.outcome, model.spec.family.name
    if "event" in outcome:
        count = int(np.sum(outcome["event"]))
        return count, "event" if count == 1 else "events"
    if "cbind" in model.spec.family.outcome_kinds:
        successes = int(np.sum(outcome["y"]))
        total = int(np.sum(np.broadcast_to(outcome.get("trials", 1), outcome["y"].shape)))
        least = min(successes, total - successes)
        return least, "successes" if successes == least else "failures"
    if name == "condlogit":
        return int(outcome["S"]), "choices"
    return None, ""


def tied_durations(look: Look) -> Iterator[str]:
    """All events at one time: there is no order to explain."""
    outcome, name = look.model.design.outcome, look.model.spec.family.name
    if "event" not in outcome or int(np.sum(outcome["event"])) < 2:
        return
    seen = np.asarray(outcome["event"]) == 1
    times = np.asarray(outcome["time"])[seen]
    where = f"at the same time ({times[0]:g})"
    if "upper_end" in outcome:
        low, high = outcome["lower"][seen], outcome["upper_end"][seen]
        times = np.stack([low, high])
        where = f"between the same two times ({low[0]:g} and {high[0]:g})"
    if np.ptp(times, axis=-1).any():
        return
    label = look.model.spec.formula.outcome.label
    what = {
        "cox": "The order of events is therefore unknown, and coefficients are biased towards 0.",
        "weibull": "Only the prior limits the shape, and only the censored groups have information "
        "on the coefficients.",
    }.get(name, "")
    yield (
        f"All {times.shape[-1]} events of `{label}` are {where}. {what} If the "
        "times were rounded, use the exact times."
    )


def two_values(look: Look) -> Iterator[str]:
    """An outcome with two values in a family of measurements."""
    model = look.model
    if not model.spec.family.linear_mean:
        return
    y = np.asarray(model.design.outcome["y"])
    low, high = float(y.min()), float(y.max())
    if low < high and np.all((y == low) | (y == high)) and len(y) > _FEW_LEVELS:
        label = model.spec.formula.outcome.label
        yield (
            f"The outcome `{label}` has only two values ({low:g} and {high:g}), but family "
            f'"{model.spec.family.name}" is for measurements. Its coefficients are then '
            "differences of shares (a linear probability model). The residual cannot be normal, "
            "intervals assume equal variances, and predictions can be outside the two values. "
            'Family "binomial" is for 0/1 outcomes.'
        )


def many_levels(look: Look) -> Iterator[str]:
    """A predictor with more than half as many columns as there are groups.

    Columns of text are left to `table_checks`, which knows how many units they describe.
    """
    groups, labels = look.model.design.J, look.fixed.labels
    if len(labels) <= max(_FEW_LEVELS, groups / 2):
        return
    table = look.model.grouped.table
    for name, own in _by_predictor(labels).items():
        if len(own) <= max(_FEW_LEVELS, groups / 2) or name in table:
            continue
        x = look.fixed.values[:, own]
        alone = int(np.sum(np.count_nonzero(x, axis=0) == 1))
        rest = f". Of these, {alone} concern only one group each" if alone else ""
        yield (
            f"`{name}` has {len(own)} coefficients, but there are only {groups} groups{rest}. The "
            "data contain little information on each coefficient, and only the other groups have "
            f"information on the rest of the model. If `{name}` is an id or free text, do not use "
            "it as a category."
        )


def _by_predictor(labels: tuple[str, ...]) -> dict[str, list[int]]:
    """Places of the columns of each category, product of categories or kind of nesting unit."""
    out: dict[str, list[int]] = {}
    for k, label in enumerate(labels):
        vector, _, element = label.partition("[")
        name = re.sub("=[^:]*", "", element.removesuffix("]"))
        out.setdefault(vector if vector.startswith("b_l3") else name, []).append(k)
    return out


#: In the order in which they warn.
def far_offsets(look: Look) -> Iterator[str]:
    """A known sum in the unit of a table where logs are meant: exposures without their log."""
    model, known = look.model, look.model.design.offset
    if known is None or model.spec.family.linear_mean or np.ptp(known) <= _FARTHEST:
        return
    formula = model.spec.formula
    labels = [atom.label for atom in formula.offset]
    what = f"offset({' + '.join(labels)})" if labels else "The known part of the formula"
    yield (
        f"{what} ranges from {known.min():g} to {known.max():g} over the groups. It is added to "
        "the linear predictor, where a difference of 1 is about a factor of 2.7, so the groups "
        f"differ by a factor of 10^{np.ptp(known) / np.log(10):.0f}. An exposure goes in as its "
        "log: offset(log(exposure))."
    )


CHECKS: tuple[Callable[[Look], Iterator[str]], ...] = (
    groups_of_one,
    far_offsets,
    standard_deviations,
    separation,
    few_events,
    tied_durations,
    two_values,
    many_levels,
)
