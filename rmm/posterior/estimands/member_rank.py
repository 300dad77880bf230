"""Ranks of members: by their random effects, or by what they contribute."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.design.columns.predictors import take_out_held
from rmm.errors import BackendError, unknown_name
from rmm.posterior.estimands.quantity import Block, Quantity, Source
from rmm.tables.read import Array

OF = ("effect", "contribution")


def draw(source: Source, *, of: str = "effect", member: Any = None, block: int = 1) -> Quantity:
    """Rank in each draw, 1 for the largest.

    Parameters
    ----------
    source : Source
    of : {"effect", "contribution"}
        The random effect u; or the mean over a member's groups of w (x'b + u), with random slopes
        and `fix()` terms. Members without this role (`cor =`) have no contribution and no rank.
    member : object, optional
        Id of one member; default: all.
    block : int

    Raises
    ------
    BackendError
        If the block has no such effects.
    DataError
        If the member has no contribution, because it is in no group of the block.
    """
    chosen = source.block(block)
    if of not in OF:
        raise BackendError(unknown_name(of, "a value of `of`", OF))
    labels = chosen.labels
    if of == "effect":
        values = _effects(chosen)
    else:
        # Members who have other roles only (`cor =`) contribute nothing that could be ranked.
        present = np.unique(chosen.member.member)
        values, labels = _contributions(chosen, present), labels[present]
    order = np.argsort(-values, axis=1, kind="stable")
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, np.arange(1.0, values.shape[1] + 1)[None, :], axis=1)
    if member is None:
        return Quantity(ranks, labels, "member")
    code = chosen.code(member)
    if of == "contribution":
        code = int(np.searchsorted(present, chosen.member.member[chosen.memberships(member)[0]]))
    return Quantity(ranks[:, [code]])


def _effects(chosen: Block) -> Array:
    """(S, members) random effects."""
    part = chosen.part
    if not part.random:
        raise BackendError(
            "The members have no random effects to rank. Use of='contribution', or RE = TRUE in "
            "mm()."
        )
    if part.in_time:
        raise BackendError(
            "With `ar =` a member has different effects in its groups. Use of='contribution', "
            "which averages over the member's groups."
        )
    return chosen.source.need(part.u, "the rank of members")


def _contributions(chosen: Block, present: Array) -> Array:
    """(S, members) means over memberships of w (x'b + u) of the members who have any."""
    part, member, source = chosen.part, chosen.member, chosen.source
    if any(one.block == chosen.index for one in source.model.spec.imputed):
        raise BackendError(
            "Contributions of members are not available if their covariates have missing values "
            "that are parameters (missing=\"impute\"). Use of='effect', or pool fits of imputed "
            "tables with rmm.pool."
        )
    encoded = source.model.recipe.codings.columns(source.model.grouped).members[chosen.index]
    columns = take_out_held(encoded.terms, part.held)
    known = encoded.fixed if columns.known is None else encoded.fixed + columns.known
    each: Array = np.broadcast_to(known, (1, len(member.member)))
    if part.block.terms and not part.all_held:
        b = source.need(part.b, "the rank of members")[:, : len(columns.labels)]
        each = each + b @ columns.values.T
    if part.random:
        each = each + source.need(part.u, "the rank of members")[:, member.effect]
    if member.slopes is not None:
        slopes = source.need(part.u_slope, "the rank of members")
        for k, x in enumerate(member.slopes.values.T):
            each = each + x * slopes[:, member.member, k]
    if not (part.block.terms or part.effects or part.offset):
        raise BackendError("The members contribute nothing: mm() has no covariates or effects.")
    added = chosen.repeated(chosen.weights() * each)
    order = np.argsort(member.member, kind="stable")
    first = np.searchsorted(member.member[order], present)
    sums = np.add.reduceat(added[:, order], first, axis=1)
    return np.asarray(sums / np.bincount(member.member)[present])
