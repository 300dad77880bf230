"""Stan lines of effects that are integrated out component by component: see `choose`.

Some lines occur twice in a program: in the model, for the likelihood, and in the generated
quantities, where the effects are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse

from rmm.backends.stan.effects import weighted_effects
from rmm.backends.stan.marginalize.choose import Marginalization
from rmm.backends.stan.marginalize.components import components
from rmm.backends.stan.marginalize.strategy import (
    Lines,
    MarginalizationStrategy,
    comment,
    drawn_effects,
    effect_names,
    indented,
)
from rmm.backends.stan.sparse import declared_sparse, product, sparse_values
from rmm.design.design import Design
from rmm.families.variants.varying_sd import AT_CENTRES
from rmm.model.spec import ModelSpec

# Each component has one Cholesky factor, of I + Z'Z with a last row and column for the residuals r.
# The last row of the factor gives the means of the effects given r. The square of its last cell is
# r' (I + ZZ')^-1 r.
_FUNCTIONS = """\
  // Cholesky factor L of the matrix [I + Z'Z, Z'r; r'Z, r'r] of one component, r its residuals;
  // the last column of `cells` is r
  matrix bordered(vector cells, int n_groups, int n_units) {
    matrix[n_groups, n_units + 1] Z = to_matrix(cells, n_groups, n_units + 1);
    return cholesky_decompose(
      add_diag(crossprod(Z), append_row(ones_vector(n_units), 0)));
  }
  // log density of the residuals, divided by their sds, with the effects integrated out
  real components_lpdf(vector cells, array[] int n_groups, array[] int n_units) {
    real density = 0;
    int cell = 1;
    for (c in 1:size(n_units)) {
      int n = n_units[c];
      int size = n_groups[c] * (n + 1);
      matrix[n + 1, n + 1] L = bordered(segment(cells, cell, size), n_groups[c], n);
      density -= 0.5 * square(L[n + 1, n + 1]) + sum(log(diagonal(L)[1:n]));
      cell += size;
    }
    return density;
  }
  // draws of the effects given the residuals, divided by the effects' sds
  vector components_rng(vector cells, array[] int n_groups, array[] int n_units) {
    vector[sum(n_units)] effect;
    int cell = 1;
    int unit = 1;
    for (c in 1:size(n_units)) {
      int n = n_units[c];
      int size = n_groups[c] * (n + 1);
      matrix[n + 1, n + 1] L = bordered(segment(cells, cell, size), n_groups[c], n);
      row_vector[n] drawn = L[n + 1, 1:n] + to_row_vector(normal_rng(zeros_vector(n), 1));
      effect[unit:(unit + n - 1)] = mdivide_right_tri_low(drawn, L[1:n, 1:n])';
      cell += size;
      unit += n;
    }
    return effect;
  }"""


def _declared(spec: ModelSpec, chosen: Marginalization) -> Lines:
    lines = [
        *comment(
            "For efficiency only, effects are integrated out of the likelihood and drawn "
            "afterwards: "
            f"{effect_names(spec, chosen)}. The model is the one in the comment at the top of "
            "the program. "
            "Groups that share members or nesting units form a component, whose effects are "
            "integrated out together. Its units are its nesting units and its members of several "
            "groups. Z is its matrix of groups x units: the weight of the unit in the group, times "
            "the unit's sd, divided by the sd of the group's residual."
        ),
        "int<lower=0> C;  // number of components",
        "array[C] int<lower=1> n_groups;  // number of groups of each component",
        "array[C] int<lower=1> n_units;  // number of units of each component",
        "array[J - sum(n_groups)] int<lower=1, upper=J> alone;  // groups without such units",
        "int<lower=0> size_place;  // number of cells of all Z, with residuals as last columns",
        "// index of each cell in the vector of entries, by columns; 1: zero, k + 1: entry k",
        "array[size_place] int<lower=1> place;",
    ]
    for i in chosen.members:
        part = spec.members[i]
        s = part.suffix
        lines += [
            f"int<lower=0, upper=N_l1{s}> size_shared_l1{s};  // members of several groups",
            "// the members of several groups, and their indices among all units",
            f"array[size_shared_l1{s}] int<lower=1, upper=N_l1{s}> shared_l1{s};",
            f"array[size_shared_l1{s}] int<lower=1> place_{part.u};",
            *declared_sparse(
                f"own_l1{s}", "J", f"M{s}", "1 for memberships of members of one group"
            ),
        ]
        if not part.features_in_program:
            lines.append(
                f"array[M{s}] int<lower=1, upper=J> group{s};  // group of each membership"
            )
    for i in chosen.nestings:
        h = spec.nestings[i].suffix
        lines.append(f"array[H{h}] int<lower=1> place_u_l3{h};  // indices among all units")
    return lines


def _data(spec: ModelSpec, design: Design, chosen: Marginalization) -> dict[str, Any]:
    found = components(chosen, spec, design)
    out: dict[str, Any] = {
        "C": len(found.n_units),
        "n_groups": found.n_groups,
        "n_units": found.n_units,
        "alone": found.alone + 1,
        "size_place": len(found.place),
        "place": found.place + 1,
    }
    units = [spec.members[i].u for i in chosen.members]
    units += [spec.nestings[i].u for i in chosen.nestings]
    out |= {f"place_{u}": column + 1 for u, column in zip(units, found.column, strict=True)}
    for i, shared, own in zip(chosen.members, found.shared, found.own, strict=True):
        s, m = spec.members[i].suffix, design.members[i]
        ones = sparse.csr_matrix(
            (np.ones(len(own)), (m.group[own], own)), shape=(design.J, len(m.member))
        )
        out |= {f"group{s}": m.group + 1, f"size_shared_l1{s}": len(shared)}
        out |= {f"shared_l1{s}": shared + 1, **sparse_values(f"own_l1{s}", ones)}
    return out


@dataclass(frozen=True)
class _ResidualSd:
    """How lines write the residual sd: one for all groups, or a vector `sd` by group.

    Attributes
    ----------
    name : str
        ``sigma_l2`` or ``sd``.
    lines : list of str
        Definition of the vector.
    log_density : str
        What the sds add to the log density.
    """

    name: str
    lines: Lines
    log_density: str

    @staticmethod
    def of(spec: ModelSpec) -> _ResidualSd:
        if spec.family.sigma is None:
            name = spec.family.normal_sd
            return _ResidualSd(name, [], f"-J * log({name})")
        definition = f"vector[J] sd = exp(X_sigma * {AT_CENTRES});  // residual sd of each group"
        return _ResidualSd("sd", [definition], "-sum(log(sd))")

    def divide(self, text: str) -> str:
        """A number or (J,) vector over it."""
        return f"{text} {'./' if self.lines else '/'} {self.name}"

    def divide_by_membership(self, text: str, suffix: str, rows: str = "") -> str:
        """A number over that of the group of each of some memberships, times."""
        if not self.lines:
            return f"{text} / {self.name} *"
        return f"{text} ./ {self.name}[group{suffix}{rows}] .*"


def _cells(spec: ModelSpec, chosen: Marginalization) -> Lines:
    """The residuals, their variances, and the cells of the components' matrices."""
    sd = _ResidualSd.of(spec)
    times = ".*" if sd.lines else "*"
    lines, entries = [], ["[0]'"]
    for i in chosen.members:
        part = spec.members[i]
        s = part.suffix
        own = product(f"own_l1{s}", "J", f"M{s}", f"square(weight{s})")
        lines.append(f"spread += square({sd.divide(part.sigma)}) {times} {own};")
        ratio = sd.divide_by_membership(part.sigma, s)
        entries.append(f"{ratio} weight{s} ./ spread[group{s}]")
    for i in chosen.nestings:
        entries.append(f"{sd.divide(spec.nestings[i].sigma)} ./ spread")
    entries.append("residual ./ spread")
    text = entries[0]
    for entry in entries[1:]:
        text = f"append_row({text},\n          {entry})"
    return [
        *sd.lines,
        f"vector[J] residual = {sd.divide(f'({spec.family.normal_y} - eta)')};",
        f"// sds of the groups' residuals divided by {sd.name}; members of one group add to them",
        "vector[J] spread = ones_vector(J);",
        *lines,
        "spread = sqrt(spread);",
        f"vector[size_place] cells = {text}[place];",
    ]


def _likelihood(spec: ModelSpec, chosen: Marginalization) -> Lines:
    found = [
        *_cells(spec, chosen),
        "target += components_lupdf(cells | n_groups, n_units);",
        f"target += {_ResidualSd.of(spec).log_density} - sum(log(spread));",
        "target += -0.5 * dot_self(residual[alone] ./ spread[alone]);",
    ]
    what = f"likelihood, with {effect_names(spec, chosen)} integrated out by components"
    return ["{", f"  // {what}", *indented(found), "}"]


def _generated(spec: ModelSpec, chosen: Marginalization, eta: Lines) -> Lines:
    """Lines that draw the effects.

    Effects of components are drawn from their distribution given the residuals. Those of members of
    one group are drawn from their prior, and then shifted by the part of the remaining residual
    (minus a draw of the noise) that is attributed to them (Matheron's rule).
    """
    sd = _ResidualSd.of(spec)
    members = [spec.members[i] for i in chosen.members]
    found = [
        *eta,
        *_cells(spec, chosen),
        "vector[sum(n_units)] effect = components_rng(cells, n_groups, n_units);",
        "residual -= to_vector(normal_rng(zeros_vector(J), 1));",
    ]
    for i in chosen.nestings:
        nest = spec.nestings[i]
        found += [
            f"{nest.u} = {nest.sigma} * effect[place_{nest.u}];",
            f"residual -= {sd.divide(f'{nest.u}[nesting{nest.suffix}]')};",
        ]
    for part in members:
        s = part.suffix
        found += [
            f"{part.u} = to_vector(normal_rng(zeros_vector(N_l1{s}), {part.sigma}));",
            f"{part.u}[shared_l1{s}] = {part.sigma} * effect[place_{part.u}];",
            f"residual -= {sd.divide(weighted_effects(part))};",
        ]
    if members:
        found.append("residual ./= square(spread);")
    for part in members:
        s, own = part.suffix, f"column_own_l1{part.suffix}"
        ratio = sd.divide_by_membership(f"square({part.sigma})", s, f"[{own}]")
        found += [
            f"{part.u}[member{s}[{own}]] +=",
            f"    {ratio} weight{s}[{own}] .* residual[group{s}[{own}]];",
        ]
    return [*drawn_effects(spec, chosen), "{", *indented(found), "}"]


STRATEGY = MarginalizationStrategy(
    declared=_declared,
    data=_data,
    functions=_FUNCTIONS,
    likelihood=_likelihood,
    generated=_generated,
)
