"""What a formula, a family and priors decide before a table is known.

A plan serves several tables: the data sets of a simulation study have one plan. It keeps each
`ModelSpec` that it has made, so that what follows from it is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from rmm.design.columns.predictor_levels import find_levels
from rmm.design.columns.table_constants import with_constants
from rmm.design.members.known_covariances import KnownCovariance
from rmm.design.priors.places import Placed, hold_coefficients, place_priors
from rmm.design.rows.filled_values import FilledColumn
from rmm.design.rows.group_rows import Grouped
from rmm.families import Family
from rmm.formula.expression import TableCall, walk
from rmm.formula.prior_syntax import PriorChoice
from rmm.formula.terms import Atom, Formula, Term
from rmm.model.spec import ModelSpec, build_spec

_KEPT = 64  # specs of a plan; more of them are made only where each table has units of its own


@dataclass(frozen=True, eq=False)
class ModelPlan:
    """A model before its table.

    Attributes
    ----------
    formula : Formula
    family : Family
    choice : PriorChoice
    transform : {"center", "std", "std2"} or None
    covariances : mapping
        Known covariance matrices of member effects, by the formula's names for them.
    filled : tuple of FilledColumn
        Covariates whose missing values are parameters.
    """

    formula: Formula
    family: Family
    choice: PriorChoice
    transform: str | None = None
    covariances: Mapping[str, KnownCovariance] = field(default_factory=dict)
    filled: tuple[FilledColumn, ...] = ()
    _specs: dict[Any, ModelSpec] = field(default_factory=dict, repr=False)
    _placed: dict[Any, tuple[ModelSpec, ModelSpec, Placed]] = field(
        default_factory=dict, repr=False
    )

    def unweighted(self) -> ModelPlan:
        """The plan without observation weights."""
        formula = replace(self.formula, observation_weights="")
        family = replace(self.family, observation_weights="")
        return ModelPlan(formula, family, self.choice, self.transform, self.covariances)

    @cached_property
    def takes_constants(self) -> bool:
        """Whether a call such as `center(x)`, `poly(x, 2)` or `factor(x)` reads the table."""
        formula = self.formula
        expressions = [block.weight.expression for block in formula.members]
        atoms = list(_atoms(formula))
        expressions += [atom.expression for atom in atoms]
        calls = (isinstance(node, TableCall) for one in expressions for node in walk(one))
        return any(atom.basis is not None for atom in atoms) or any(calls)

    def spec(self, grouped: Grouped) -> ModelSpec:
        """The model on a table: levels of predictors, and constants that expressions take."""
        levelled, levels = find_levels(grouped)
        key = (
            tuple((block.member, block.group) for block in levelled.members),
            tuple(term.label for term in levelled.terms),
            tuple((nest.unit, _labels(nest.terms)) for nest in levelled.nestings),
            tuple(levels.items()),
            levelled.outcome.label,
        )
        if key not in self._specs:
            _keep(self._specs, key, build_spec(levelled, self.family, levels))
        spec = self._specs[key]
        return with_constants(spec, grouped) if self.takes_constants else spec

    def place(
        self, spec: ModelSpec, labels: Mapping[str, tuple[str, ...]]
    ) -> tuple[ModelSpec, Placed]:
        """The model without coefficients that are held at a number, and priors by label.

        Parameters
        ----------
        spec : ModelSpec
            Of `spec`.
        labels : mapping
            Of `rmm.design.columns.predictors.coefficient_labels`.
        """
        key = (id(spec), tuple(labels.items()))
        if key in self._placed and self._placed[key][0] is spec:
            return self._placed[key][1:]
        placed = place_priors(self.choice, spec, labels)
        held = hold_coefficients(spec, labels, placed.held)
        if not self.takes_constants:
            _keep(self._placed, key, (spec, held, placed))
        return held, placed


def _keep[T](kept: dict[Any, T], key: Any, value: T) -> None:
    if len(kept) >= _KEPT:
        kept.clear()
    kept[key] = value


def _labels(terms: tuple[Term, ...] | None) -> tuple[str, ...] | None:
    return None if terms is None else tuple(term.label for term in terms)


def _atoms(formula: Formula) -> Iterator[Atom]:
    """All atoms of a formula, of the outcome and of features too."""
    yield from formula.outcome.parts
    yield from formula.offset
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    terms += formula.sigma.terms if formula.sigma is not None else ()
    for block in formula.members:
        terms += [*block.terms, *block.slopes, *(f.term for f in block.fixed)]
        yield from (f.atom for f in block.features if f.atom is not None)
    for nest in formula.nestings:
        terms += [*(nest.terms or ()), *(f.term for f in nest.fixed)]
    for term in terms:
        yield from term.atoms
