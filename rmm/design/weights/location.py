"""Weight functions that depend on where zero is: variables far from it, variances between groups.

exp(b*x) under constraint 1 is the same for x + c. The logistic function and 1/n^exp(-(b*x)) are
not: far from zero all weights of a group tend to 1/n (or to 0 and 1) whatever b is, and the
likelihood is flat. Weights at b = +1 and -1 prior sd are compared with those of a centred variable.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping

import numpy as np

from rmm.design.weights.scales import LEAST_WITHIN, multiplier_values, total_sd, within_sd
from rmm.errors import SpecificationWarning
from rmm.formula.expression import Aggregate, Call, Column, Node, TableCall, describe
from rmm.formula.weights.rewrite import shifted
from rmm.formula.weights.weight_function import WeightFunction
from rmm.model.spec import MemberPart
from rmm.tables.read import Array

_SHIFT = "(centre)"  # column that is taken off; no column of a formula has such a name
_FLAT = 0.1  # of the centred variable's spread of weights within groups
_MANY = 0.1  # share of groups


def warn_of_location(
    part: MemberPart,
    columns: Mapping[str, Array],
    start: Array,
    scales: Array,
    idle: Collection[str] = (),
) -> None:
    """Warn where a function moves hardly any weight because of the location of its variable.

    Parameters
    ----------
    part : MemberPart
    columns : mapping
        Weight variables, (M,) each.
    start : int array
        Row pointer of the groups that have members.
    scales : (K,) array
        Of `rmm.design.weights.scales.multiplier_scales`.
    idle : collection of str
        Coefficients that no weight depends on, wherever zero is.
    """
    for name, scale in zip(part.weight.parameters, scales, strict=True):
        node = part.weight.multiplier(name)
        values = multiplier_values(part.weight, name, columns, start)
        if name in idle or node is None or values is None or not np.isfinite(values).all():
            continue
        if within_sd(values, start) <= LEAST_WITHIN * total_sd(values):
            continue  # it cannot move weights by itself
        spreads = _Spreads(part.weight, name, columns, start, 1 / scale)
        group = np.repeat(np.arange(len(start) - 1), np.diff(start))
        means = np.bincount(group, values) / np.diff(start)
        plain, centred = (
            spreads.at(np.zeros(len(values))),
            spreads.at(np.full(len(values), values.mean())),
        )
        _warn_of_zero(part, name, node, plain, centred)
        _warn_of_saturation(part, name, node, centred, spreads.at(means[group]))


class _Spreads:
    """Standard deviations of weights within groups, of a function whose variable is shifted."""

    def __init__(
        self,
        weight: WeightFunction,
        name: str,
        columns: Mapping[str, Array],
        start: Array,
        step: float,
    ) -> None:
        self.function = shifted(weight.expression, name, Column(_SHIFT))
        self.weight, self.name, self.columns, self.start = weight, name, columns, start
        self.several = np.diff(start) > 1
        self.group = np.repeat(np.arange(len(start) - 1), np.diff(start))
        self.step = step

    def at(self, shift: Array) -> dict[int, Array]:
        """Sign -> spread in each group of two or more, at b = sign * one prior sd.

        Not finite where weights are not.
        """
        return {sign: self._spread(sign, shift) for sign in (1, -1)}

    def _spread(self, sign: int, shift: Array) -> Array:
        given = dict.fromkeys(self.weight.parameters, 0.0) | {self.name: sign * self.step}
        function = WeightFunction(self.weight.text, self.function, self.weight.constraint)
        weights = function.weights({**self.columns, _SHIFT: shift}, self.start, given)
        size = np.diff(self.start)
        with np.errstate(all="ignore"):
            means = np.bincount(self.group, weights) / size
            squares = np.bincount(self.group, (weights - means[self.group]) ** 2)
        return np.asarray(np.sqrt(squares / size)[self.several])


def _warn_of_zero(
    part: MemberPart,
    name: str,
    node: Node,
    plain: Mapping[int, Array],
    centred: Mapping[int, Array],
) -> None:
    """A variable far from zero."""
    flat, broken = [], []
    for sign, found in plain.items():
        best = float(centred[sign].mean()) if len(centred[sign]) else 0.0
        if not np.isfinite(best) or best == 0:
            continue
        here = float(found.mean())
        if not np.isfinite(here):
            broken.append(sign)
        elif here < _FLAT * best:
            flat.append(sign)
    if not flat and not broken:
        return
    which = " and ".join({1: "positive", -1: "negative"}[s] for s in sorted(flat + broken)[::-1])
    what = "are not finite numbers" if broken and not flat else "hardly differ within groups"
    variable = describe(node)
    warnings.warn(
        f"The weight variable `{variable}` is far from zero. At {which} values of "
        f"{part.b_w}[{name}] the weights `{part.weight.text}` {what}, so the data cannot "
        f"distinguish such values. Centre the variable: write {_centred(node)} instead of "
        f"{variable}.",
        SpecificationWarning,
        stacklevel=2,
    )


def _warn_of_saturation(
    part: MemberPart,
    name: str,
    node: Node,
    centred: Mapping[int, Array],
    within: Mapping[int, Array],
) -> None:
    """Differences between groups that leave no spread of weights in many of them."""
    shares = [
        float(np.mean(centred[sign] < _FLAT * within[sign]))
        for sign in (1, -1)
        if len(within[sign]) and np.isfinite(within[sign]).all() and (within[sign] > 0).any()
    ]
    if not shares or max(shares) < _MANY:
        return
    group, variable = part.block.group, describe(node)
    warnings.warn(
        f"Most of the variance of the weight variable `{variable}` lies between groups. In "
        f"{max(shares):.0%} of the groups, {part.b_w}[{name}] then hardly changes the weights "
        f"`{part.weight.text}`, because the function is flat there. If only differences within a "
        f"group should count, write {_centred(node, group)} instead of {variable}. Or use "
        f"exp(b*{_factor(node)}), on which differences between groups have no effect.",
        SpecificationWarning,
        stacklevel=2,
    )


def _centred(node: Node, group: str | None = None) -> str:
    inside = describe(node)
    return f"center({inside})" if group is None else f"center({inside}, within={group})"


def _factor(node: Node) -> str:
    simple = isinstance(node, Column | Aggregate | Call | TableCall)
    return describe(node) if simple else f"({describe(node)})"
