"""ModelSpec + table -> arrays, membership index and coordinates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmm.design.columns.encode import Columns, atom_values
from rmm.design.columns.imputed_columns import ImputedValues, imputed_values
from rmm.design.columns.outcome import ordered_parts, outcome_parts
from rmm.design.columns.predictors import (
    Encoded,
    take_out_held,
    unit_labels,
    unit_names,
)
from rmm.design.columns.sigma_columns import check_sigma, sigma_arrays
from rmm.design.identifiability import check_magnitude, check_rank
from rmm.design.members.known_covariances import KnownCovariance
from rmm.design.members.memberships import (
    FittedBlock,
    Membership,
    build_membership,
    centred,
    group_sums,
    sd,
)
from rmm.design.rows.filled_values import FilledColumn
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.likelihood_weights import observation_weights
from rmm.design.rows.units import Units
from rmm.errors import DataError, SpecificationWarning, counted, quoted
from rmm.families import Domain
from rmm.families.variants.observation_weights import WEIGHT
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA
from rmm.families.variants.varying_sd import at_zero as sigma_at_zero
from rmm.model.correlations import correlations, partial_correlations
from rmm.model.spec import CUT, INTERCEPT, ModelSpec, NestingPart
from rmm.tables.read import Array, first_varying

_SHOWN = 5  # groups that a message names


@dataclass(frozen=True)
class Nesting:
    """Arrays of one `hm()` block; `unit` (J,) 0-based, `X` (J, K) centred by `center` (K,)."""

    unit: Array
    n_units: int
    X: Array
    center: Array
    scale: Array


@dataclass(frozen=True)
class Design:
    """Everything an engine needs to know of the data.

    Attributes
    ----------
    J : int
        Number of groups.
    outcome : mapping
        The family's data, e.g. ``{"y": (J,) array}``.
    X_l2 : (J, K) array
        Level-2 slopes' columns without intercept, centred by `center_l2` (K,).
    offset : (J,) array or None
    members, nestings : tuples
    coords : mapping
        Dimension name -> labels.
    imputed : tuple of ImputedValues
        Of the columns whose missing values are parameters; of new groups none.
    rows : (M,) int array
        The user's row number (0-based) of each row in canonical order.
    """

    J: int
    outcome: Mapping[str, Any]
    X_l2: Array
    center_l2: Array
    scale_l2: Array
    offset: Array | None
    members: tuple[Membership, ...]
    nestings: tuple[Nesting, ...]
    coords: Mapping[str, Array]
    rows: Array
    imputed: tuple[ImputedValues, ...] = ()

    @property
    def centred(self) -> bool:
        """Whether the intercept that is sampled differs from `b_l2[Intercept]`."""
        parts = [self.center_l2, *(m.b_center for m in self.members)]
        return any(np.any(c) for c in (*parts, *(n.center for n in self.nestings)))


@dataclass(frozen=True)
class FittedNesting:
    """Scales of the covariates of an `hm()` block of a fit, and the names of its units."""

    scale: Array
    names: Array


@dataclass(frozen=True)
class FittedDesign:
    """What the arrays of new groups take from those of a fit."""

    scale_l2: Array
    nestings: tuple[FittedNesting, ...]
    members: tuple[FittedBlock, ...]


def build_design(
    spec: ModelSpec,
    grouped: Grouped,
    encoded: Encoded,
    *,
    centre: bool = True,
    centre_sigma: bool = False,
    fitted: FittedDesign | None = None,
    covariances: Mapping[str, KnownCovariance] | None = None,
) -> Design:
    """The arrays of a model on a table.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
    encoded : Encoded
        The columns of the predictors.
    centre : bool
        Whether the intercept is sampled at the predictors' centres (its prior says so).
    centre_sigma : bool
        The same of the intercept of the log of the residual standard deviation.
    fitted : FittedDesign, optional
        For new groups: scales and totals are those of the fit, nothing is checked again, and the
        outcome is left out.
    covariances : mapping, optional
        Known covariance matrices of member effects by name.

    Raises
    ------
    DataError
        For outcomes, weights, weight variables or covariance matrices that the model cannot use.
    """
    centre = centre and spec.spanned
    columns = take_out_held(encoded.level2.terms, spec.held)
    nestings: list[tuple[Nesting, Columns]] = []
    for i, (nest, units) in enumerate(zip(spec.nestings, grouped.nestings, strict=True)):
        free = take_out_held(encoded.nestings[i].terms, nest.held)
        scale = _scale(nest, units, free) if fitted is None else fitted.nestings[i].scale
        X, center = centred(free.values, centre)
        nestings.append((Nesting(units.code, units.count, X, center, scale), free))
    members: list[tuple[Membership, Columns]] = []
    for i, (part, kind) in enumerate(zip(spec.members, grouped.members, strict=True)):
        known = None if fitted is None else fitted.members[i]
        members.append(
            build_membership(part, grouped, kind, encoded.members[i], centre, known, covariances)
        )
    if fitted is None:
        _check_rank(spec, grouped, columns, members, nestings)
    X, center = centred(columns.values, centre)
    found = [c for _, c in nestings]
    outcome = _outcome(spec, grouped) if fitted is None else {}
    if encoded.sigma is not None:
        if fitted is None:
            check_sigma(encoded.sigma)
        outcome |= sigma_arrays(encoded.sigma, centre_sigma)
    weights = observation_weights(grouped.formula, grouped.first_rows) if fitted is None else None
    if weights is not None:
        outcome[WEIGHT] = weights
    coords = _coords(spec, grouped, columns, members, found, fitted)
    if encoded.sigma is not None:
        coords["covariate_sigma"] = np.array([INTERCEPT, *encoded.sigma.labels], dtype=object)
    if fitted is None:
        coords |= {k: np.asarray(v, dtype=object) for k, v in spec.family.coords(outcome).items()}
    return Design(
        J=grouped.groups.count,
        outcome=outcome,
        X_l2=X,
        center_l2=center,
        scale_l2=sd(columns.values) if fitted is None else fitted.scale_l2,
        offset=_offset(spec, grouped, encoded, columns, members, found) if spec.offset else None,
        members=tuple(m for m, _ in members),
        nestings=tuple(n for n, _ in nestings),
        coords=coords,
        rows=grouped.table.index.astype(np.int64),
    )


def with_imputed(
    spec: ModelSpec,
    grouped: Grouped,
    encoded: Encoded,
    design: Design,
    filled: Sequence[FilledColumn],
) -> Design:
    """The design with the arrays of the columns whose missing values are parameters."""
    if not spec.imputed:
        return design
    values = imputed_values(spec, grouped, encoded, filled, design.coords)
    coords = dict(design.coords)
    for one, found in zip(spec.imputed, values, strict=True):
        coefficients, missing = (parameter.dims for parameter in one.parameters[::2])
        coords[coefficients[0]] = np.array((INTERCEPT, *one.predictors), dtype=object)
        coords[missing[0]] = found.labels
    return replace(design, imputed=values, coords=coords)


def slope_centres(spec: ModelSpec, design: Design) -> dict[str, Array]:
    """Slopes, by their names in programs -> the centres at which they do not count.

    What is sampled there is ``alpha = b_l2[Intercept] + sum of centres' slopes`` and, of ordered
    levels, ``cut = tau - sum of centres' slopes``.
    """
    found = {"beta_l2": design.center_l2} if spec.terms else {}
    members = zip(spec.members, design.members, strict=True)
    nestings = zip(spec.nestings, design.nestings, strict=True)
    found |= {part.b: member.b_center for part, member in members if part.covariates}
    return found | {nest.b: nesting.center for nest, nesting in nestings if nest.covariates}


def at_zero(spec: ModelSpec, design: Design, draws: Mapping[str, Array]) -> dict[str, Array]:
    """`b_l2`, `tau` and `b_sigma`, where all predictors are 0, and `cor_l1`, from what is sampled.

    Parameters
    ----------
    draws : mapping
        Parameter of the program -> (S, *dims).

    Returns
    -------
    dict
    """
    shift = sum(draws[name] @ centre for name, centre in slope_centres(spec, design).items())
    out: dict[str, Array] = {}
    parts = [(draws["alpha"] - shift)[:, None]] if spec.intercept else []
    parts += [draws["beta_l2"]] if spec.terms else []
    if parts:
        out["b_l2"] = np.concatenate(parts, axis=1)
    if spec.thresholds:
        out["tau"] = draws[CUT] + np.reshape(shift, (-1, 1))
    if AT_CENTRES in draws:
        out[B_SIGMA] = sigma_at_zero(draws[AT_CENTRES], design.outcome["center_sigma"])
    return out | {found.cor: correlations(draws[found.pcor]) for found in spec.correlated}


def at_centres(spec: ModelSpec, design: Design, draws: Mapping[str, Array]) -> dict[str, Array]:
    """`alpha`, `beta_l2`, `cut`, ... from draws of what is reported; undoes `at_zero`."""
    out: dict[str, Array] = {}
    if "b_l2" in draws and spec.terms:
        out["beta_l2"] = draws["b_l2"][:, int(spec.intercept) :]
    known = {**draws, **out}
    centres = slope_centres(spec, design)
    if spec.intercept and "b_l2" in draws:
        out["alpha"] = draws["b_l2"][:, 0] + sum(known[n] @ c for n, c in centres.items())
    if spec.thresholds and "tau" in draws:
        shift = sum(known[n] @ c for n, c in centres.items())
        out[CUT] = draws["tau"] - np.reshape(shift, (-1, 1))
    if B_SIGMA in draws:
        out[AT_CENTRES] = sigma_at_zero(draws[B_SIGMA], -design.outcome["center_sigma"])
    for found in spec.correlated:
        if found.cor in draws:
            out[found.pcor] = partial_correlations(draws[found.cor])
    return out


def _outcome(spec: ModelSpec, grouped: Grouped) -> dict[str, Any]:
    outcome = spec.formula.outcome
    if spec.family.ordered:
        parts = ordered_parts(outcome, spec.family, grouped.first_rows)
    else:
        parts = outcome_parts(outcome, spec.family, grouped.first_rows)
        for atom, values in zip(outcome.parts, parts, strict=True):
            check_magnitude(atom.label, values[np.isfinite(values)])  # intervals may be open
    if spec.family.domain is not None:
        _check_domain(spec.family.domain, outcome.label, parts[0], grouped.groups.labels)
    strata = None if grouped.strata is None else grouped.strata.labels[grouped.strata.code]
    return spec.family.read_outcome(outcome.label, parts, strata)


def _check_domain(domain: Domain, label: str, values: Array, groups: Array) -> None:
    """Raise `DataError` for outcomes that the family cannot have, with their groups."""
    odd = np.flatnonzero(~domain.holds(values))
    if len(odd):
        shown = [f"{quoted(groups[j])} ({values[j]:g})" for j in odd[:_SHOWN]]
        raise DataError(
            f"The outcome `{label}` must {domain.words}, but "
            f"{counted(len(odd), 'group has another value', 'groups have other values')}: "
            f"{', '.join(shown)}{', ...' * (len(odd) > _SHOWN)}. {domain.advice(label, values)}"
        )


def _check_rank(
    spec: ModelSpec,
    grouped: Grouped,
    columns: Columns,
    members: list[tuple[Membership, Columns]],
    nestings: list[tuple[Nesting, Columns]],
) -> None:
    """Predictors must differ; of estimated weights only constants within groups are known sums."""
    _warn_of_absent([columns, *(found for _, found in (*nestings, *members))])
    for found in (columns, *(f for _, f in nestings), *(f for _, f in members)):
        for label, column in zip(found.labels, found.values.T, strict=False):
            check_magnitude(label, column)
    strata = None if grouped.strata is None else grouped.strata.code
    constant = int(spec.spanned and strata is None)
    labels = [INTERCEPT] * constant + list(columns.labels)
    names = [f"b_l2[{label}]" for label in labels]
    values = [np.ones((grouped.groups.count, constant)), columns.values]
    for nest, (nesting, found) in zip(spec.nestings, nestings, strict=True):
        labels += found.labels
        names += [f"{nest.b}[{label}]" for label in found.labels]
        values.append(nesting.X + nesting.center)
    for part, units, (member, found) in zip(spec.members, grouped.members, members, strict=True):
        keep = np.arange(len(found.labels))
        sums = member.X + member.center
        if part.estimated:
            normal = part.weight.constraint == "group"
            keep = np.array(
                [
                    k
                    for k in keep
                    if normal and first_varying(found.values[:, k], units.group) is None
                ],
                dtype=int,
            )
            sums = np.zeros((grouped.groups.count, found.values.shape[1]))
            sums[units.present] = found.values[units.segments[:-1]]
        own = [found.labels[k] for k in keep] + [f.term.label for f in member.features]
        labels += own
        names += [f"{part.b}[{label}]" for label in own]
        values.append(sums[:, keep])
        values += [f.reference[:, None] for f in member.features]
    if labels:  # a predictor of two blocks by the names of its coefficients
        shown = [n if labels.count(k) > 1 else k for k, n in zip(labels, names, strict=True)]
        check_rank(shown, np.hstack(values), strata)


def _warn_of_absent(found: list[Columns]) -> None:
    absent = list(dict.fromkeys(label for columns in found for label in columns.absent))
    if absent:
        more = f" and {len(absent) - 8} more" * (len(absent) > 8)
        warnings.warn(
            f"No row of the table has {', '.join(absent[:8])}{more}. Such combinations of "
            "categories have no coefficient, and their outcome cannot be predicted.",
            SpecificationWarning,
            stacklevel=2,
        )


def _offset(
    spec: ModelSpec,
    grouped: Grouped,
    encoded: Encoded,
    columns: Columns,
    members: list[tuple[Membership, Columns]],
    nestings: list[Columns],
) -> Array:
    """(J,) known sum: `fix()`, `offset()` and coefficients that are held."""
    total = encoded.level2.fixed + dict(spec.held).get(INTERCEPT, 0.0)
    for block in encoded.nestings:
        total += block.fixed
    for atom in spec.formula.offset:
        total += atom_values(atom, grouped.first_rows)
    sums = [columns.known, *(found.known for found in nestings)]
    for part, block, (membership, found) in zip(
        spec.members, encoded.members, members, strict=True
    ):
        if part.offset and membership.weight is not None:
            total += group_sums(block.fixed * membership.weight, membership.start)
            sums.append(found.known)
    for known in sums:
        total += 0.0 if known is None else known
    return total


def _scale(part: NestingPart, units: Units, columns: Columns) -> Array:
    """(K,) standard deviations over nesting units, of dummies over groups."""
    if not columns.labels:
        return np.zeros(0)
    return sd(columns.values[units.first] if part.random else columns.values)


def _coords(
    spec: ModelSpec,
    grouped: Grouped,
    columns: Columns,
    members: list[tuple[Membership, Columns]],
    nestings: list[Columns],
    fitted: FittedDesign | None,
) -> dict[str, Array]:
    intercept = (INTERCEPT,) if spec.intercept else ()
    coords: dict[str, Any] = {
        "covariate_l2": (*intercept, *columns.labels),
        "slope_l2": columns.labels,
        "group": grouped.groups.labels,
        "membership": np.arange(1, len(grouped.table) + 1),
    }
    for part, kind, (own, found) in zip(spec.members, grouped.members, members, strict=True):
        coords[f"covariate_l1{part.suffix}"] = (
            *found.labels,
            *(f.label for f in part.features_in_program),
        )
        coords[f"coefficient_w{part.suffix}"] = part.weight.parameters
        coords[f"coefficient_f{part.suffix}"] = [f.label for f in part.parametric_features]
        coords[f"member{part.suffix}"] = kind.labels
        coords[part.memberships] = np.arange(1, len(kind.rows) + 1)
        if own.series is not None:
            coords[part.occasions] = own.series.labels(kind.labels)
        slopes = () if own.slopes is None else own.slopes.labels
        coords[f"slope_l1{part.suffix}"] = slopes
        coords[part.pair] = part.pairs(slopes)
    coords |= {roles.pair: roles.pairs for roles in spec.roles}
    for i, (nest, units) in enumerate(zip(spec.nestings, grouped.nestings, strict=True)):
        known = None if fitted is None else fitted.nestings[i].names
        coords[f"covariate_l3{nest.suffix}"] = nestings[i].labels
        coords[f"nesting{nest.suffix}"] = _unit_labels(nest, grouped, units, known)
    return {name: np.asarray(labels, dtype=object) for name, labels in coords.items()}


def _unit_labels(part: NestingPart, grouped: Grouped, units: Units, known: Array | None) -> Array:
    """Readable labels of nesting units; those of a fit have the names that they had there."""
    names = unit_names(part, grouped, units)
    if known is not None:
        if part.block.label_column is None:
            return units.labels
        present = units.code[units.first]
        names = np.concatenate([known, names[present >= len(known)]])
    return unit_labels(names, units.labels)
