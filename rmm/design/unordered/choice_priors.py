"""Priors of a multinomial model: the defaults of each category, and the user's by their names.

A category against the reference has the default priors of the binomial model. Its intercept has
its prior about the log of the ratio of both counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmm.design.prepare import Model
from rmm.errors import PriorError, unknown_name
from rmm.formula.prior_syntax import Prior, PriorChoice, PriorStatement
from rmm.formula.terms import MemberBlock
from rmm.model.spec import INTERCEPT
from rmm.tables.read import Array

#: The sds of member effects, and what the conditional logit calls them: sds of random slopes.
SIGMA, SLOPE_SIGMA = "sigma_l1", "sigma_slope_l1"
#: Names stand between backquotes in a formula, on one line.
_WRITABLE = str.maketrans({"`": "'", "\n": " "})


def column_name(category: str, label: str) -> str:
    """The name of a predictor, and of its coefficient, of one category.

    Parameters
    ----------
    category, label : str

    Returns
    -------
    str
        ``"left:z"``.
    """
    return f"{category}:{label.translate(_WRITABLE)}"


def states_intercept(choice: PriorChoice) -> bool:
    """Whether the user gave a prior of an intercept, which is one where all predictors are 0.

    Parameters
    ----------
    choice : PriorChoice

    Returns
    -------
    bool
    """
    return any(
        s.target == "b_l2" and (s.element is None or s.element.strip().endswith(f":{INTERCEPT}"))
        for s in choice.statements
    )


@dataclass(frozen=True)
class CategoryPriors:
    """What the priors of a multinomial model follow from.

    Attributes
    ----------
    base : Model
        The binomial model of the same formula.
    others : tuple of str
        Labels of the categories other than the reference.
    counts : (K,) array
        Number of groups of each category, the reference first.
    slopes, covariates : tuple of str
        Predictors of each category outside and inside `mm()`.
    intercept : str or None
        What the conditional logit calls the intercepts.
    choice : PriorChoice
        Priors as the user stated them.
    """

    base: Model
    others: tuple[str, ...]
    counts: Array
    slopes: tuple[str, ...]
    covariates: tuple[str, ...]
    intercept: str | None
    choice: PriorChoice

    @property
    def _block(self) -> MemberBlock | None:
        return self.base.spec.members[0].block if self.base.spec.members else None

    @cached_property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Parameter -> the names of its elements in `summary()`, in their order."""
        own = [INTERCEPT] * self.base.spec.intercept + list(self.slopes)
        found = {
            "b_l2": tuple(column_name(k, v) for v in own for k in self.others),
            "b_l1": tuple(column_name(k, v) for v in self.covariates for k in self.others),
        }
        if self._block is not None:
            found["b_w"] = self._block.weight.parameters
            found[SIGMA] = self.others if self._block.random else ()
        return {name: labels for name, labels in found.items() if labels}

    def of_choices(self) -> PriorChoice:
        """The priors of the conditional logit: the defaults one by one, then the user's.

        Raises
        ------
        PriorError
            If a statement names a parameter that the model does not have.
        """
        own = [self._translated(statement) for statement in self.choice.statements]
        return PriorChoice(self.choice.base, (*self._defaults(), *own))

    def _defaults(self) -> Iterator[PriorStatement]:
        elements, block = self.base.priors.elements, self._block
        odds = (self.counts[1:] + 0.5) / (self.counts[0] + 0.5)
        for other, location in zip(self.others, np.log(odds), strict=True):
            if self.intercept is not None:
                prior = elements["alpha"][0]
                if self.choice.base == "weakly_informative":
                    prior = Prior("normal", (float(location), prior.values[1]))
                yield _statement("b_l2", column_name(other, self.intercept), prior)
            for label, prior in zip(self.slopes, elements.get("beta_l2", ()), strict=True):
                yield _statement("b_l2", column_name(other, label), prior)
            for label, prior in zip(self.covariates, elements.get("b_l1", ()), strict=True):
                yield _statement("b_l1", column_name(other, label), prior)
            if block is not None and block.random:
                yield _statement(SLOPE_SIGMA, other, elements[SIGMA][0])
        if block is not None and block.weight.estimated:
            for label, prior in zip(block.weight.parameters, elements["b_w"], strict=True):
                yield _statement("b_w", label, prior)

    def _translated(self, statement: PriorStatement) -> PriorStatement:
        """A user's statement by the names of the conditional logit."""
        target, element = statement.target, statement.element
        if target not in self.labels:
            kind = "a parameter of this model"
            raise PriorError(f"`{statement.text}`: {unknown_name(target, kind, self.labels)}")
        if element is not None:
            own = self.labels[target]
            element = element if element in own else element.strip()
            if element not in own:
                kind = f"an element of `{target}`"
                raise PriorError(f"`{statement.text}`: {unknown_name(element, kind, own)}")
        return _statement(SLOPE_SIGMA if target == SIGMA else target, element, statement.prior)


def _statement(target: str, element: str | None, prior: Prior) -> PriorStatement:
    """A statement whose text can be read again, to the last digit."""
    whose = target if element is None else f"{target}[{element}]"
    if prior.family == "fixed":
        return PriorStatement(target, element, prior, f"{whose} <- {prior.values[0]!r}")
    numbers = ", ".join(repr(float(v)) for v in prior.values)
    return PriorStatement(target, element, prior, f"{whose} ~ {prior.family}({numbers})")
