"""What an estimand is computed from, and what it is: draws with labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmm.backends.base import Run
from rmm.design.members.memberships import Membership
from rmm.design.prepare import Model
from rmm.errors import BackendError, DataError, counted, quoted, unknown_name
from rmm.model.spec import MemberPart
from rmm.posterior.prediction.linear_predictor import (
    Draws,
    Totals,
    flat_draws,
    layout_of,
    need,
    weight_totals,
    weights_of,
)
from rmm.posterior.prediction.variance_components import variance_draws
from rmm.tables.read import Array


@dataclass(frozen=True)
class Quantity:
    """Draws of an estimand.

    Attributes
    ----------
    values : (S, K) array
        Chains one after the other.
    labels : (K,) array or None
        What the columns belong to; None for a single number.
    dim : str
        What the labels are: ``"group"``, ``"member"``, ``"component"``, ``"level"``, ...
    main : int or None
        The column that is the estimand where one number is wanted.
    """

    values: Array
    labels: Array | None = None
    dim: str = "estimand"
    main: int | None = None

    def number(self) -> Array:
        """(S,) draws of the one number that it is.

        Raises
        ------
        BackendError
            If it has several.
        """
        if self.main is None and self.values.shape[1] > 1:
            raise BackendError(
                f"One number is wanted, but there is one for each {self.dim} "
                f"({self.values.shape[1]:,} in all)."
            )
        return self.values[:, self.main or 0]


@dataclass(frozen=True)
class Source:
    """A posterior, as estimands read it.

    Attributes
    ----------
    model : Model
    run : Run
    seed : int
        Of effects of new members, and of a baseline hazard.
    """

    model: Model
    run: Run
    seed: int = 0

    @cached_property
    def draws(self) -> Draws:
        """Draws by parameter, (S, *dims)."""
        return flat_draws(self.run, self.model)

    @cached_property
    def totals(self) -> Totals:
        """Sums of the raw weights over the fit's table; see `weight_totals`."""
        return weight_totals(self.model, self.draws)

    @cached_property
    def variances(self) -> dict[str, Array]:
        """Component -> (S,) draws of its variance; see `variance_draws`."""
        return variance_draws(self.model, self.run)

    @cached_property
    def _weights(self) -> dict[int, Array]:
        """Weights of blocks that have been asked for: estimands of a study share them."""
        return {}

    def weights(self, index: int) -> Array:
        """(S, M) weights of a block counted from 0; (1, M) where they are known."""
        if index not in self._weights:
            part = self.model.spec.members[index]
            self._weights[index] = weights_of(
                layout_of(self.model), index, part, self.draws, self.totals
            )
        return self._weights[index]

    def need(self, name: str, why: str) -> Array:
        """Draws of a parameter; a `BackendError` where the fit did not keep it."""
        return need(self.draws, name, why)

    def block(self, number: int) -> Block:
        """An `mm()` block, counted from 1.

        Raises
        ------
        BackendError
            If the model has no such block.
        """
        parts = self.model.spec.blocks
        if not 1 <= number <= len(parts):
            raise BackendError(
                f"The model has {counted(len(parts), 'mm() block')}, but `block` is {number}."
                + ("" if parts else " Without mm() there are no members and no weights.")
            )
        return Block(self, number - 1)


@dataclass(frozen=True)
class Block:
    """One `mm()` block of a posterior."""

    source: Source
    index: int

    @property
    def part(self) -> MemberPart:
        """The block in the model."""
        return self.source.model.spec.members[self.index]

    @property
    def member(self) -> Membership:
        """Its M memberships."""
        return self.source.model.design.members[self.index]

    @property
    def labels(self) -> Array:
        """Ids of its members, by code."""
        return self.source.model.grouped.members[self.index].labels

    @property
    def groups(self) -> Array:
        """Ids of the groups, by code."""
        return self.source.model.grouped.groups.labels

    @property
    def filled(self) -> Array:
        """Numbers of the groups that have a member of the block."""
        return np.flatnonzero(np.diff(self.member.start))

    def weights(self, *, share: bool = False) -> Array:
        """(S, M) weights, (1, M) where they are known; with `share` w / (sum of the group).

        Raises
        ------
        BackendError
            With `share`, if weights of a group sum to 0 in some draw.
        """
        w = self.source.weights(self.index)
        if not share:
            return w
        sums = self.by_group(w)
        empty = (sums == 0).any(axis=0)
        if empty.any():
            group = self.groups[self.filled[int(np.argmax(empty))]]
            raise BackendError(
                f"The weights `{self.part.weight.text}` of group {quoted(group)} sum to 0, so "
                "they have no shares. Use share=False."
            )
        return np.asarray(w / np.repeat(sums, np.diff(self.member.start)[self.filled], axis=1))

    def by_group(self, values: Array) -> Array:
        """(S, filled groups) sums of (S, M) values over the members of each group."""
        return np.add.reduceat(values, self.member.start[self.filled], axis=1)

    def code(self, label: object) -> int:
        """Code of a member.

        Raises
        ------
        DataError
            If it is not a member of the data of the fit.
        """
        return found_code(self.labels, label, f"a member of column `{self.part.block.member}`")

    def memberships(self, label: object) -> Array:
        """Numbers of the memberships of a member.

        Raises
        ------
        DataError
            If it has none in this block, or is not a member of the data of the fit.
        """
        code = self.code(label)
        found = np.flatnonzero(self.member.member == code)
        if len(found):
            return found
        blocks = [Block(self.source, i) for i in range(len(self.source.model.spec.blocks))]
        places = [
            f"`{other.part.block.member}` (block={other.index + 1})"
            for other in blocks
            if other.part.block.roles == self.part.block.roles and code in other.member.member
        ]
        raise DataError(
            f"Member {quoted(label)} is in no row of column `{self.part.block.member}` "
            f"(block={self.index + 1}), only of column {' and '.join(places)}. Give the block of a "
            "role that the member has."
        )

    def repeated(self, values: Array) -> Array:
        """(S, K) values of all draws, where known weights gave (1, K)."""
        count = len(next(iter(self.source.draws.values())))
        return np.repeat(values, count, axis=0) if len(values) == 1 < count else values


def found_code(labels: Array, label: object, kind: str) -> int:
    """Place of an id among the ids of the fit; text and number are the same id if written alike.

    Raises
    ------
    DataError
        If it is not there; `kind` has its article.
    """
    for place, known in enumerate(labels):
        if known == label or str(known) == str(label):
            return place
    raise DataError(unknown_name(label, kind, labels))


def averaged(values: Array, labels: Array, average: bool) -> Quantity:
    """One number per draw, the mean over groups; or one per group."""
    if average:
        return Quantity(values.mean(axis=1, keepdims=True))
    return Quantity(values, labels, "group")
