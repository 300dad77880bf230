"""Which effects Stan does not sample one by one, and what that gains.

Given everything else the effects of a normal outcome are normal. They can be integrated out of the
likelihood and drawn afterwards (`generated quantities`), so that Stan samples a handful of
structural parameters, which mix several times better. `choose_marginalization` decides from the
memberships which effects, by which of three strategies:

``"spectrum"``
    Normal outcome with one residual sd, one block of members with known weights W (J, N). With the
    singular values W = V' diag(s) Q', V (N, J) and Q (N, N), the effects are independent of each
    other in the directions Q, whatever the standard deviations are. If all groups that a direction
    touches lie in one nesting unit, the units' effects are independent given those, and are
    integrated out too.
``"components"``
    Normal outcome, any blocks, weights estimated or not. Effects of members of one group alone add
    to its variance. Groups and other units that share nothing with others make a component of
    their own; the effects of each are integrated out by the Cholesky factor of I + Z'Z,
    Z (groups, units) the weights times sd over the group's sd.
``"approximation"``
    Binary outcomes, counts and durations: effects are sampled in such directions about a normal
    approximation of the likelihood, on which the posterior does not depend
    (`rmm.backends.stan.marginalize.normal_approximation`).

The posterior is that of the program that samples all effects, `rmm.program(..., integrate=False)`.

Gain, as ESS per CPU second over that of the program that samples all effects, of the designs where
a strategy was chosen (``python benchmarks/integration.py``, kept in
``benchmarks/results/integration.txt``; one run of 1,000 draws each):

====== ======= ==== ============= ================= ======== =========
groups members sets known weights estimated weights binomial durations
====== ======= ==== ============= ================= ======== =========
60     25      1    2.7           0.6               3.5      0.8
200    60      1    1.2           not chosen        2.5      1.0
200    60      6    4.4           1.5               1.8      1.7
500    250     10   8.3           2.2               2.4      0.6
====== ======= ==== ============= ================= ======== =========

(The last column of that file is what smaller limits chose then.) Matrices grow with the square or
cube of a set: with 500 groups and 250 members in one set the ratio is .1 to .5, and all effects are
sampled.

Sources: Searle, Casella & McCulloch (1992), Variance Components, section 6.2 (marginal
likelihood) and 7.4 (effects given the data).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rmm.backends.stan.marginalize.connected import linked, members_of_several_groups
from rmm.design.design import Design
from rmm.model.spec import MemberPart, ModelSpec
from rmm.tables.read import Array

# What an evaluation may cost, in multiples of what it costs with sampled effects (one step for
# each membership and group): up to here it pays, by `python benchmarks/integration.py`.
LIMITS = {"directions": 18.0, "components": 250.0}
# Most parameters for which Stan learns a dense metric in the usual warm-up.
_FEW = 50


@dataclass(frozen=True)
class Marginalization:
    """Which effects a program integrates out, or samples about their normal approximation.

    Attributes
    ----------
    strategy : str
        ``"spectrum"``, ``"components"`` or ``"approximation"``.
    members, nestings : tuple of int
        Places of the blocks in `ModelSpec.members` and `.nestings`.
    dense : bool
        Whether what is left are so few parameters that a dense metric can be learnt.
    """

    strategy: str
    members: tuple[int, ...]
    nestings: tuple[int, ...]
    dense: bool

    @property
    def exact(self) -> bool:
        """Whether the effects are integrated out: the outcome is normal."""
        return self.strategy != "approximation"


def choose_marginalization(
    spec: ModelSpec, design: Design, limits: Mapping[str, float] = LIMITS
) -> Marginalization | None:
    """Which effects of a model are not sampled one by one; None if all are sampled.

    Parameters
    ----------
    spec : ModelSpec
    design : Design
    limits : mapping
        What an evaluation may cost: with ``directions`` (strategies ``"spectrum"`` and
        ``"approximation"``), and with ``components``.
    """
    exact = spec.family.sds is not None
    if spec.family.observation_weights or spec.imputed:
        return None
    if not exact and spec.family.working is None:
        return None
    members = [i for i, p in enumerate(spec.members) if p.random and not _made_of_others(p)]
    nestings = [i for i, n in enumerate(spec.nestings) if n.random]
    if not members and not nestings:
        return None
    spectrum = None
    if spec.family.sigma is None:  # directions are independent if groups have one residual sd
        spectrum = _find_spectrum(spec, design, members, nestings, limits["directions"])
    if not exact:
        return None if spectrum is None else _chosen("approximation", *spectrum, spec, design)
    if spectrum is not None and spectrum == (members, nestings):
        return _chosen("spectrum", members, nestings, spec, design)
    if _components_work(design, members, nestings) <= limits["components"]:
        return _chosen("components", members, nestings, spec, design)
    return None if spectrum is None else _chosen("spectrum", *spectrum, spec, design)


def _made_of_others(part: MemberPart) -> bool:
    """Whether its effects are made of other, independent ones, which are all sampled."""
    return part.in_time or part.correlated or part.related or part.in_role


def _chosen(
    strategy: str, members: list[int], nestings: list[int], spec: ModelSpec, design: Design
) -> Marginalization:
    exact = spec.family.sds is not None
    gone = {spec.members[i].u for i in members} if exact else set()
    gone |= {spec.nestings[i].u for i in nestings} if exact else set()
    left = sum(
        int(np.prod([len(design.coords[d]) for d in p.dims], dtype=int))
        for p in spec.sampled
        if p.name not in gone
    )
    return Marginalization(strategy, tuple(members), tuple(nestings), exact and left <= _FEW)


def _find_spectrum(
    spec: ModelSpec, design: Design, members: list[int], nestings: list[int], most: float
) -> tuple[list[int], list[int]] | None:
    """The block, and the nesting within whose units its members stay."""
    if spec.family.normal_sd:
        members = [i for i in members if not spec.members[i].estimated]
    if not members:
        return None
    block = max(members, key=lambda i: design.members[i].n_members)
    m = design.members[block]
    groups, units = linked(design, [m], [])
    size, cells = np.bincount(units), np.bincount(groups, minlength=units.max() + 1)
    if (size * cells[: len(size)]).sum() > most * (len(m.member) + design.J):
        return None
    within = [i for i in nestings if _one_unit_each(groups, design.nestings[i].unit)]
    return [block], within[:1]


def _one_unit_each(component: Array, unit: Array) -> bool:
    """Whether the groups of each component lie in one unit."""
    pairs = np.unique(np.column_stack([component, unit]), axis=0)
    return len(pairs) == len(np.unique(component))


def _components_work(design: Design, members: list[int], nestings: list[int]) -> float:
    blocks = [design.members[i] for i in members]
    shared = [members_of_several_groups(m) for m in blocks]
    groups, units = linked(design, shared, [design.nestings[i] for i in nestings])
    n_units = np.bincount(units).astype(float)
    n_groups = np.bincount(groups, minlength=len(n_units))[: len(n_units)]
    work = float((n_units**2 * (n_units + n_groups)).sum())
    return work / (design.J + sum(len(m.member) for m in blocks))


def marginalized(spec: ModelSpec, chosen: Marginalization | None) -> frozenset[str]:
    """Names of the effects that are no parameters of the program."""
    if chosen is None:
        return frozenset()
    members: list[MemberPart] = [spec.members[i] for i in chosen.members]
    return frozenset([p.u for p in members] + [spec.nestings[i].u for i in chosen.nestings])
