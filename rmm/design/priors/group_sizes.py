"""Weights that are a power of the group size: a mean or a sum of the members?

In w ~ 1/n^b without a constraint, b = 0 is the sum over members and b = 1 their mean. The scale of
all weights moves with b, and with it b_l1 and sigma_l1. Engines therefore work with (n/n_bar)^-b,
n_bar a typical size: coefficients are sampled as those of a group of n_bar members, which do not
move with b, and default priors are stated there. Reported ones are those of the user's formula,
b_l1 = b_l1(n_bar) * n_bar^b. The default prior of b is centred on neither hypothesis, at 1/2.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from rmm.design.members.known_covariances import group_pairs
from rmm.design.members.memberships import Membership
from rmm.errors import SpecificationWarning
from rmm.formula.expression import Aggregate, Column, GroupSize, Node, TableCall, children, describe
from rmm.formula.prior_syntax import PriorChoice
from rmm.formula.weights.rewrite import rebuilt
from rmm.formula.weights.weight_function import WeightFunction, evaluate
from rmm.model.spec import MemberPart, ModelSpec
from rmm.tables.read import Array

_NONE = 1e-9  # a power of the size that is rounding
SIZE = "n"  # name of the column of relative sizes; no weight variable may have it


@dataclass(frozen=True)
class SizePower:
    """Raw weights are multiplied by t^(-factor * parameter) where all sizes are multiplied by t.

    `index` is the parameter's place in `b_w`.
    """

    index: int
    factor: float

    @property
    def middle(self) -> float:
        """The parameter's value half-way between sum (n^0) and mean (n^-1)."""
        return 0.5 / self.factor


@cache
def size_power(weight: WeightFunction) -> SizePower | None:
    """The parameter that is a power of the group size alone; None if there is none.

    1/n^b, n^b, exp(-b*log(n)) and products with other factors, such as exp(b1*x)/n^b2. Found by
    multiplying all sizes by a number.
    """
    if weight.constraint == "group" or weight.uses_log_size or not weight.uses_size:
        return None
    rng, names = np.random.default_rng(0), weight.parameters
    start, size = np.array([0, 2, 5, 9]), np.repeat([2.0, 3.0, 4.0], [2, 3, 4])
    function, points = relative(weight.expression), rng.uniform(0.2, 0.8, (3, len(names)))
    columns = {describe(leaf): rng.uniform(0.5, 1.5, 9) for _, leaf in weight.inputs}
    function = _over_inputs(function)
    changes = np.empty((3, 9))
    for row, point in enumerate(points):
        at = dict(zip(names, point.tolist(), strict=True))
        low, high = (
            evaluate(function, {**columns, SIZE: t * size}, start, at, log=True)
            for t in (1.0, np.e)
        )
        changes[row] = high - low
    for index in range(len(names)):
        factors = -changes / points[:, [index]]
        factor = float(factors[0, 0])
        if abs(factor) > _NONE and np.allclose(factors, factor, rtol=1e-9):
            return SizePower(index, factor)
    return None


def relative(node: Node) -> Node:
    """The expression over a column of sizes, `SIZE`, in place of the group size."""
    if isinstance(node, GroupSize):
        return Column(SIZE)
    if isinstance(node, Aggregate | Column | TableCall):
        return node
    return rebuilt(node, [relative(child) for child in children(node)])


def _over_inputs(node: Node) -> Node:
    """The expression with a column in place of each data expression, named by its text."""
    if isinstance(node, Aggregate | TableCall):
        return Column(describe(node))
    return rebuilt(node, [_over_inputs(child) for child in children(node)])


def at_typical_size(part: MemberPart) -> bool:
    """Whether a block's coefficients may be sampled as those of a group of typical size."""
    free = part.estimated and part.weight.constraint == "none"
    return free and not part.offset and not part.block.features and bool(size_power(part.weight))


def describe_sizes(part: MemberPart) -> list[str]:
    """Lines that explain a program whose coefficients are those of a group of typical size."""
    power = size_power(part.weight)
    if power is None or not at_typical_size(part):
        return []
    names = [part.b] * part.covariates + [part.u, part.sigma] * part.random
    names += [part.u_slope, part.sigma_slope] * part.slopes
    factor = "" if power.factor == 1 else f"{power.factor:g} * "
    return [
        f"n{part.suffix}: group size divided by n_bar, the geometric mean of all sizes (n_bar = 1",
        "if the user gives a prior of one of the parameters in the next line).",
        f"{', '.join(names)}: here those of a group of n_bar members; rmm reports them",
        f"multiplied by n_bar^({factor}{part.b_w}[{power.index + 1}])",
    ]


def with_typical_sizes(
    spec: ModelSpec, members: tuple[Membership, ...], choice: PriorChoice
) -> tuple[Membership, ...]:
    """Memberships of blocks whose coefficients are sampled at a typical size.

    Blocks with a stated prior of b_l1, sigma_l1 or sigma_slope_l1 stay, since it is a prior of
    what the user's formula means; and so do all with the classic priors.
    """
    stated = {statement.target for statement in choice.statements}
    if choice.base != "weakly_informative":
        return members
    return tuple(
        _at_typical_size(member)
        if at_typical_size(part) and not stated & {part.b, part.sigma, part.sigma_slope}
        else member
        for part, member in zip(spec.members, members, strict=True)
    )


def _at_typical_size(member: Membership) -> Membership:
    """Sizes over their geometric mean, and the scales of priors there.

    At the middle of both hypotheses, n^-1/2, weighted sums of independent members have the same
    variance in groups of every size; at n_bar the weight is 1, and that variance is n_bar.
    """
    sizes = np.diff(np.unique(member.start)).astype(float)
    typical = float(np.exp(np.mean(np.log(sizes))))
    root = float(np.sqrt(typical))
    return replace(
        member,
        n=member.n / typical,
        typical_size=typical,
        scale=member.scale * root,
        spread=root * _middle_spread(member),
    )


def _middle_spread(member: Membership) -> float:
    """Mean over groups of sqrt(w'Aw) at weights n^-1/2: 1 for independent effects."""
    if member.root is None:
        return 1.0
    segments = np.unique(member.start)
    weight = np.repeat(np.diff(segments) ** -0.5, np.diff(segments))
    pairs = group_pairs(member.root, member.member, segments)
    return float(np.mean(np.sqrt(np.add.reduceat(pairs.terms(weight), pairs.start[:-1]))))


def warn_of_equal_sizes(part: MemberPart, member: Membership) -> None:
    """Warn of a power of the group size where all groups have one size.

    Of groups of one member no weight depends on it, which has a warning already.
    """
    power = size_power(part.weight) if part.weight.constraint == "none" else None
    sizes = np.diff(np.unique(member.start))
    if power is not None and sizes[0] > 1 and (sizes == sizes[0]).all():
        named = f"{part.b_w}[{part.weight.parameters[power.index]}]"
        warnings.warn(
            f"Every group has {sizes[0]} members, so the mean and the sum of a group differ only "
            f"by a constant. {named} in `{part.weight.text}` is therefore not identified, and its "
            "posterior is its prior.",
            SpecificationWarning,
            stacklevel=2,
        )


def reported_draws(
    spec: ModelSpec, members: tuple[Membership, ...], draws: Mapping[str, Array]
) -> dict[str, Array]:
    """Draws of coefficients and effects with the meaning that they have in the user's formula.

    Parameters
    ----------
    spec : ModelSpec
    members : tuple of Membership
    draws : mapping
        Parameter -> (..., *dims) as programs sample them.
    """
    changes = size_changes(spec, members, draws)
    return {
        name: _times(values, changes[name]) if name in changes else values
        for name, values in draws.items()
    }


def sampled_draws(
    spec: ModelSpec, members: tuple[Membership, ...], draws: Mapping[str, Array]
) -> dict[str, Array]:
    """Draws at the typical size, where default priors are stated: undoes `reported_draws`."""
    changes = size_changes(spec, members, draws)
    return {
        name: _times(values, 1 / changes[name]) if name in changes else values
        for name, values in draws.items()
    }


def moved_by_sizes(spec: ModelSpec, members: tuple[Membership, ...]) -> frozenset[str]:
    """Parameters whose prior is stated at a typical size, not for what is reported."""
    at = [p for p, m in zip(spec.members, members, strict=True) if m.typical_size != 1]
    return frozenset(name for part in at for name in _moved(part))


def _moved(part: MemberPart) -> tuple[str, ...]:
    return part.b, part.sigma, part.u, part.sigma_slope, part.u_slope


def size_changes(
    spec: ModelSpec, members: tuple[Membership, ...], draws: Mapping[str, Array]
) -> dict[str, Array]:
    """Parameter -> n_bar^(factor * b), of the shape of draws without dimensions."""
    out: dict[str, Array] = {}
    for part, member in zip(spec.members, members, strict=True):
        power = size_power(part.weight) if member.typical_size != 1 else None
        if power is None or part.b_w not in draws:
            continue
        change = member.typical_size ** (power.factor * draws[part.b_w][..., power.index])
        out |= dict.fromkeys(_moved(part), change)
    return out


def _times(values: Array, change: Array) -> Array:
    """Draws times a number for each draw."""
    extra = values.ndim - change.ndim
    return np.asarray(values * change.reshape(*change.shape, *[1] * extra))
