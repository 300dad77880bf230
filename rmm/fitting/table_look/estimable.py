"""What a table can tell about a multiple-membership model, whatever its outcome is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rmm.design.checks.variance_identification import Unidentified, find_unidentified
from rmm.design.fixed_effects import fixed_effects
from rmm.design.plan import ModelPlan
from rmm.design.prepare import lay_out
from rmm.errors import counted
from rmm.families import find_family
from rmm.fitting.table_look.membership_facts import MembershipFacts
from rmm.fitting.table_look.variable_facts import (
    BOTH,
    GROUP,
    MEMBER,
    MEMBERSHIP,
    Variable,
)
from rmm.formula.parse_formula import parse_formula
from rmm.formula.prior_syntax import read_priors
from rmm.tables.table import Table

YES, PARTLY, NO = "yes", "partly", "no"
_FEW = 10  # members or groups: a standard deviation of so few units is mostly prior
_SHOWN = 6  # names in a sentence
_LEVELS = 10  # categories with more of them are rather names of units than covariates
_UNITS = 5  # nesting units, at least
_OUTCOME = "outcome and covariates of groups"
_MODEL = "y ~ 1 + mm(id(m, g), fn(w ~ 1/n), RE = TRUE)"


@dataclass(frozen=True)
class Answer:
    """Whether something can be estimated: ``"yes"``, ``"partly"`` or ``"no"``, and why."""

    what: str
    answer: str
    why: str


@dataclass(frozen=True)
class Seen:
    """What the answers are about."""

    memberships: MembershipFacts
    variables: tuple[Variable, ...]

    def named(self, *levels: str) -> list[Variable]:
        """Variables of some levels."""
        return [v for v in self.variables if v.level in levels]

    def covariates(self, *levels: str) -> list[Variable]:
        """Numbers and categories of few levels among them."""
        return [
            v
            for v in self.named(*levels)
            if v.kind == "number" or (v.kind == "category" and v.different <= _LEVELS)
        ]


def answers(memberships: MembershipFacts, variables: tuple[Variable, ...]) -> tuple[Answer, ...]:
    """What can and cannot be estimated from a table.

    Parameters
    ----------
    memberships : MembershipFacts
    variables : tuple of Variable

    Returns
    -------
    tuple of Answer
    """
    seen = Seen(memberships, variables)
    if len(memberships.groups) < 2:
        why = "There is only one group. The outcome has one value per group, so nothing can vary."
        return (Answer("any model", NO, why),)
    return tuple(answer for question in QUESTIONS for answer in question(seen))


def outcome(seen: Seen) -> Iterator[Answer]:
    """Columns that are the same in all rows of a group."""
    found = seen.covariates(GROUP, BOTH)
    m = seen.memberships
    if found:
        yield Answer(_OUTCOME, YES, f"These have one value per group: {_names(found)}.")
        return
    why = (
        f"No column with numbers has one value per `{m.group_column}`, so none can be the "
        "outcome or a covariate of groups."
    )
    members = seen.covariates(MEMBER)
    if members:
        why += (
            f" But {_names(members)} {'has' if len(members) == 1 else 'have'} one value per "
            f"`{m.member_column}`. Are the ids in the wrong order? The group is the unit whose "
            "outcome is measured."
        )
    yield Answer(_OUTCOME, NO, why)


def member_covariates(seen: Seen) -> Iterator[Answer]:
    """Coefficients of covariates of members: their means over groups must differ."""
    found = seen.covariates(MEMBER, MEMBERSHIP)
    if not found:
        return
    flat = [v for v in found if not v.means_differ]
    if flat:
        yield Answer(
            "effect of members' covariates, weights 1/n",
            NO if len(flat) == len(found) else PARTLY,
            f"The mean of {_names(flat)} is the same in all groups, so its effect cannot be "
            "estimated with equal weights.",
        )
    else:
        what = "effect of members' covariates, weights 1/n"
        yield Answer(what, YES, f"Means over groups differ: {_names(found)}.")


def member_effects(seen: Seen) -> Iterator[Answer]:
    """The standard deviation of members' effects, apart from the residual of groups."""
    m, what = seen.memberships, "member effects (RE = TRUE, sigma_l1)"
    found = [one for one in _unidentified(m) if "sigma_l1" in one.names]
    if found:
        yield Answer(what, *_hardly(m, found[0]))
        return
    shared = int(m.shared.sum())
    why = f"{counted(shared, 'member is', 'members are')} in several groups."
    if shared < _FEW:
        yield Answer(what, PARTLY, f"Only {why} The size of the effects depends on the prior.")
        return
    yield Answer(what, YES, why)


def _hardly(m: MembershipFacts, found: Unidentified) -> tuple[str, str]:
    """The answer where the design cannot tell member effects from something else."""
    if len(found.names) == 1:
        return NO, (
            "The members' effects have the same sum in every group (all groups have the same "
            "members), which the intercept contains."
        )
    alone = "No member is in several groups"
    if found.by_size:
        return PARTLY, (
            f"{alone}: only because groups differ in size can sigma_l1 be separated from the "
            "residual of the groups (gaussian outcome). It depends on the prior."
        )
    reason = f"{alone}, so" if not m.shared.any() else "As the memberships are,"
    return NO, (
        f"{reason} the data cannot separate member effects from the residual of the groups "
        "(gaussian outcome): only a sum of both variances can be estimated."
    )


def _unidentified(m: MembershipFacts) -> list[Unidentified]:
    """What `rmm.fit` would find in a gaussian model of these memberships and equal weights."""
    outcomes = np.random.default_rng(1).standard_normal(len(m.groups))
    table = pd.DataFrame({"m": m.member, "g": m.group, "y": outcomes[m.group]})
    plan = ModelPlan(
        parse_formula(_MODEL), find_family("gaussian"), read_priors("weakly_informative")
    )
    model = lay_out(plan, Table(table))
    fixed = fixed_effects(model.spec, model.grouped, model.design)
    return find_unidentified(model.spec, model.grouped, model.design, fixed, frozenset())


def single_members(seen: Seen) -> Iterator[Answer]:
    """The effect of each member, apart from others."""
    m, what = seen.memberships, "the effect of each single member"
    if len(m.members) == 1:
        yield Answer(what, NO, "There is only one member.")
        return
    if not m.shared.any():
        why = f"Every member is in one group only. {_inseparable(m)}".strip()
        yield Answer(what, NO, why)
        return
    alone = int((~m.shared).sum())
    parts = [f"{counted(alone, 'member is', 'members are')} in one group only."] * bool(alone)
    parts += [_inseparable(m)] * bool(m.inseparable)
    why = " ".join(parts)
    yield Answer(what, PARTLY if parts else YES, why or "All members are in several groups.")


def _inseparable(m: MembershipFacts) -> str:
    if not m.inseparable:
        return ""
    return (
        f"{m.inseparable:,} members are in exactly the same groups as another member: with equal "
        "weights the data cannot tell their effects apart."
    )


def weights(seen: Seen) -> Iterator[Answer]:
    """Weights that depend on a variable: it must vary within groups."""
    m, what = seen.memberships, "weights by a variable, such as fn(w ~ 1/n^exp(-(b1*x)))"
    if m.sizes.max() == 1:
        yield Answer(what, NO, "Every group has one member, whose weight is 1.")
        return
    usable = [v for v in seen.named(MEMBER, MEMBERSHIP) if v.kind == "number" and v.varies]
    if not usable:
        yield Answer(what, NO, "No variable with numbers varies within groups.")
        return
    several = int((m.sizes > 1).sum())
    shown = [f"`{v.name}` ({100 * (v.varies or 0) / several:.0f}%)" for v in usable[:_SHOWN]]
    more = f" and {len(usable) - _SHOWN} more" * (len(usable) > _SHOWN)
    yield Answer(
        what, YES, f"These vary within groups (share of the groups): {', '.join(shown)}{more}."
    )


def nesting_units(seen: Seen) -> Iterator[Answer]:
    """Texts and categories that many groups share, such as their country."""
    groups = len(seen.memberships.groups)
    found = [
        v
        for v in seen.named(GROUP, BOTH)
        if v.kind == "category" and not v.missing and _UNITS <= v.different <= groups / 2
    ]
    if found:
        shown = ", ".join(f"`{v.name}` ({v.different:,} units)" for v in found[:_SHOWN])
        yield Answer("effects of nesting units, hm(id = ...)", YES, f"Of these columns: {shown}.")


def mean_or_sum(seen: Seen) -> Iterator[Answer]:
    """Whether the data can tell a mean of members from their sum."""
    sizes, what = seen.memberships.sizes, "mean or sum of members"
    if sizes.min() == sizes.max():
        every = counted(int(sizes[0]), "member")
        why = f"All groups have {every}: a sum is {int(sizes[0])} times the mean."
        yield Answer(what, NO, why if sizes[0] > 1 else f"All groups have {every}.")
        return
    yield Answer(what, YES, f"Groups have {sizes.min()} to {sizes.max()} members.")


def separate_sets(seen: Seen) -> Iterator[Answer]:
    """Members of sets of groups that share nobody."""
    m = seen.memberships
    sets = len(m.set_sizes)
    if sets == 1 or not m.shared.any():
        return
    yield Answer(
        "members of different sets compared",
        PARTLY,
        f"The groups form {sets:,} sets that share no member. Effects of members are compared "
        "within sets; between sets only as far as the sets are alike otherwise.",
    )


def few_units(seen: Seen) -> Iterator[Answer]:
    """So few groups that hardly anything can be estimated."""
    groups = len(seen.memberships.groups)
    if groups < _FEW:
        yield Answer(
            "several coefficients", NO, f"There are only {groups} groups, each with one outcome."
        )


#: In the order in which they are printed.
QUESTIONS: tuple[Callable[[Seen], Iterator[Answer]], ...] = (
    outcome,
    few_units,
    member_covariates,
    member_effects,
    single_members,
    weights,
    mean_or_sum,
    nesting_units,
    separate_sets,
)


def _names(found: list[Variable]) -> str:
    shown = ", ".join(f"`{v.name}`" for v in found[:_SHOWN])
    return shown + f" and {len(found) - _SHOWN} more" * (len(found) > _SHOWN)
