"""Which coefficient a prior is about, and coefficients that are held at a number.

Names and numbers are those of `summary()`: both are looked up in the design's labels, which count
the model as written, before any coefficient is held.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rmm.errors import PriorError, SpecificationWarning
from rmm.families import Parameter
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA
from rmm.formula.prior_syntax import PriorChoice, PriorStatement
from rmm.model.spec import CUT, INTERCEPT, Held, MemberPart, ModelSpec, NestingPart

#: Coefficient vector -> the names of its elements.
Labels = Mapping[str, tuple[str, ...]]

#: Names of programs for what a summary calls otherwise.
IN_PROGRAMS = {"alpha": f"b_l2[{INTERCEPT}]", "beta_l2": "b_l2", CUT: "tau", AT_CENTRES: B_SIGMA}


@dataclass(frozen=True)
class Placed:
    """Statements about a model's own coefficients.

    Attributes
    ----------
    choice : PriorChoice
        Priors of what is estimated, elements named by label.
    held : mapping
        Coefficient vector -> (label, value) of the elements that are held at a number.
    """

    choice: PriorChoice
    held: Mapping[str, Held]


def place_priors(
    choice: PriorChoice, spec: ModelSpec, labels: Labels, *, table: bool = True
) -> Placed:
    """Statements with the labels of `summary()`, and those that hold coefficients apart.

    Parameters
    ----------
    choice : PriorChoice
    spec : ModelSpec
        The model as written, nothing held.
    labels : mapping
        Names of the elements of each coefficient vector.
    table : bool
        Whether they are those of a table; without one every term counts as one column.

    Returns
    -------
    Placed

    Raises
    ------
    PriorError
        If a statement names a parameter or coefficient that the model does not have.

    Warns
    -----
    SpecificationWarning
        If a number in brackets is the name of one coefficient and the place of another.
    """
    known = {p.name: p for p in spec.parameters if p.structural}
    fixable = {p.name for p in known.values() if p.role in ("coefficient", "weight", "feature")}
    held: dict[str, dict[str, float]] = {}
    rest: list[PriorStatement] = []
    for statement in choice.statements:
        own = _labels_of(statement, known, labels)
        element = statement.element if own is None else _element(statement, own, table)
        statement = replace(statement, element=element)
        target, named = statement.target, (element,) if element is not None else own or ()
        if statement.prior.family == "fixed" and target in fixable:
            held.setdefault(target, {}).update(dict.fromkeys(named, statement.prior.values[0]))
            continue
        if element is not None:  # the last statement about a coefficient wins
            held.get(target, {}).pop(element, None)
        rest.append(statement)
    left = tuple(s for s in rest if not _is_held(s, held, labels))
    return Placed(replace(choice, statements=left), {k: tuple(v.items()) for k, v in held.items()})


def _labels_of(
    statement: PriorStatement, known: Mapping[str, Parameter], labels: Labels
) -> tuple[str, ...] | None:
    """Labels of the vector that a statement is about; None for a single number."""
    parameter = known.get(statement.target)
    if parameter is None:
        raise PriorError(
            f"`{statement.text}`: the model has no parameter `{statement.target}`."
            f"{_meant(statement.target, known, labels)} The model has: {', '.join(known)}."
        )
    if parameter.role == "threshold":
        _check_thresholds(statement)
        return None
    if parameter.role == "correlation":
        _check_correlations(statement)
        return None
    if parameter.role == "log_sd" and statement.prior.family == "fixed":
        raise PriorError(
            f"`{statement.text}`: a coefficient of the residual standard deviation cannot be held "
            f"at a number. Leave the term out of `sigma`, or give it a narrow prior: "
            f"{statement.target}[...] ~ normal({statement.prior.values[0]:g}, 0.01)."
        )
    if parameter.dims:
        return labels[parameter.name]
    if statement.element is not None:
        raise PriorError(
            f"`{statement.text}`: `{statement.target}` is a single number without elements. Write "
            f"`{statement.target}`, not `{statement.target}[{statement.element}]`."
        )
    return None


def _check_thresholds(statement: PriorStatement) -> None:
    """Sorted draws of one distribution have no priors of their own."""
    name, family = statement.target, statement.prior.family
    if statement.element is None and family in ("normal", "student_t"):
        return
    raise PriorError(
        f"`{statement.text}`: all thresholds `{name}` have one prior, that of sorted draws, and it "
        f"is normal or student_t. Write `{name} ~ normal(location, scale)`, without brackets."
    )


def _check_correlations(statement: PriorStatement) -> None:
    """Correlations of a matrix have no priors of their own."""
    name = statement.target
    if statement.element is None and statement.prior.family == "lkj":
        return
    raise PriorError(
        f"`{statement.text}`: all correlations `{name}` have one prior, that of their matrix. "
        f"Write `{name} ~ lkj(eta)`, without brackets; with eta = 1 all correlation matrices are "
        "equally likely. For independent effects remove `cor = TRUE` from re(), or `cor =` from "
        "mm()."
    )


def _meant(target: str, known: Mapping[str, Parameter], labels: Labels) -> str:
    """A sentence with what was meant: an element (`x`, `b1`), or a part of a name (`sigma`)."""
    names = [f"{name}[{target}]" for name in known if target in labels.get(name, ())] or [
        name for name in known if name.startswith(f"{target}_")
    ]
    if target in IN_PROGRAMS:
        names = [IN_PROGRAMS[target]]
    return f" Did you mean {' or '.join(f'`{n}`' for n in names)}?" if names else ""


def _element(statement: PriorStatement, labels: tuple[str, ...], table: bool) -> str | None:
    """The label that a statement's brackets name; None where there are no brackets."""
    element = statement.element
    if element is None:
        return None
    if element not in labels:  # a label may begin or end with a blank
        element = _without_blanks(element.strip(), labels)
    place = int(element) if re.fullmatch("[0-9]{1,9}", element) else 0
    numbered = labels[place - 1] if 1 <= place <= len(labels) else None
    by_place = "." in statement.text.split("[")[0]
    if element in labels and by_place and numbered not in (None, element):
        return _place_before_name(statement, element, str(numbered))
    if element in labels:
        return element
    if numbered is not None:
        return numbered
    allowed = ", ".join(f"{statement.target}[{label}]" for label in labels)
    raise PriorError(
        f"`{statement.text}`: `{statement.target}` has no element `{element}`. "
        f"Its elements are: {allowed}.{'' if table else _WITHOUT_TABLE}"
    )


def _without_blanks(element: str, labels: tuple[str, ...]) -> str:
    """The label of a function, such as `s(x, k = 5)`, that differs from the text only in blanks."""
    bare = re.sub(r"\s", "", element)
    alike = [label for label in labels if "(" in label and re.sub(r"\s", "", label) == bare]
    return alike[0] if len(alike) == 1 and element not in labels else element


_WITHOUT_TABLE = (
    " Without `data`, every predictor has one coefficient. Give `data` if the prior names a "
    "category or a nesting unit."
)


def _place_before_name(statement: PriorStatement, name: str, numbered: str) -> str:
    """R's names, with a dot, count; a number that is also a name of another element is told."""
    target = statement.target
    warnings.warn(
        f"`{statement.text}` was read as a prior of {target}[{numbered}], which is number {name} "
        f"of `{target}` in summary(): names with a dot ({target.replace('_', '.')}) use numbers. "
        f"For the coefficient that is called {name} write {target}[{name}].",
        SpecificationWarning,
        stacklevel=2,
    )
    return numbered


def _is_held(
    statement: PriorStatement, held: Mapping[str, Mapping[str, float]], labels: Labels
) -> bool:
    """Whether everything that a prior is about is held at a number by a later statement."""
    own = labels.get(statement.target, ())
    named = own if statement.element is None else (statement.element,)
    return bool(named) and set(named) <= set(held.get(statement.target, {}))


def hold_coefficients(spec: ModelSpec, labels: Labels, held: Mapping[str, Held]) -> ModelSpec:
    """The model with coefficients held at numbers; which columns there are does not change.

    Parameters
    ----------
    spec : ModelSpec
        The model as written.
    labels : mapping
        Names of the elements of each coefficient vector.
    held : mapping
        Of `place_priors`.

    Returns
    -------
    ModelSpec

    Raises
    ------
    PriorError
        For coefficients that the program computes: those of features whose weights or number
        are estimated, and these numbers.
    """
    if not held:
        return spec
    level2 = held.get("b_l2", ())
    slopes = {label for label in labels["b_l2"] if label != INTERCEPT}
    return replace(
        spec,
        held=level2,
        all_held=slopes <= set(dict(level2)),
        members=tuple(_hold_members(part, labels, held) for part in spec.members),
        nestings=tuple(_hold_nesting(nest, labels, held) for nest in spec.nestings),
    )


def _hold_nesting(nest: NestingPart, labels: Labels, held: Mapping[str, Held]) -> NestingPart:
    own = held.get(nest.b, ())
    return replace(nest, held=own, all_held=bool(own) and len(own) == len(labels[nest.b]))


def _hold_members(part: MemberPart, labels: Labels, held: Mapping[str, Held]) -> MemberPart:
    for name, value in held.get(part.b_f, ()):
        raise PriorError(
            f"`{part.b_f}[{name}] = {value:g}`: the number of a feature cannot be fixed by a "
            "prior. Write it in the formula, as in softmax(x, 2)."
        )
    own = held.get(part.b, ())
    part = replace(part, held_weights=held.get(part.b_w, ()), held=own)
    computed = {f.label for f in part.features_in_program}
    for name, value in own:
        if name in computed:
            raise PriorError(
                f"`{part.b}[{name}] = {value:g}`: the coefficient of a feature cannot be fixed if "
                "the number of the feature is estimated. Give the coefficient a narrow prior."
            )
    columns = [label for label in labels[part.b] if label not in computed]
    return replace(part, all_held=bool(own) and len(own) == len(columns))
