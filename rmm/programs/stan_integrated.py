"""Stan programs that do not sample effects as they stand: see `rmm.integration`.

The lines stand twice in a program: in the model, where they give the likelihood, and in the
generated quantities, where the effects are drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.design import Design
from rmm.integration import Integration, components, spectrum
from rmm.spec import MemberPart, ModelSpec, NestingPart

Lines = list[str]

# One Cholesky factor for each component, of I + Z'Z bordered by the residuals r: its last row is
# what they say about the effects, and the square of its last cell is r' (I + ZZ')^-1 r.
_COMPONENTS = """\
  // a component's matrix Z and its residuals, bordered: the Cholesky factor of I + Z'Z
  matrix bordered(vector cells, int n_groups, int n_units) {
    matrix[n_groups, n_units + 1] Z = to_matrix(cells, n_groups, n_units + 1);
    return cholesky_decompose(
      add_diag(crossprod(Z), append_row(ones_vector(n_units), 0)));
  }
  // log density of residuals in units of their sd, effects integrated out by components
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
  // effects in units of their sds, component after component, given the residuals
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


class _Names:
    """Names of the blocks that are integrated out."""

    def __init__(self, spec: ModelSpec, integration: Integration) -> None:
        self.members: list[MemberPart] = [spec.members[i] for i in integration.members]
        self.nestings: list[NestingPart] = [spec.nestings[i] for i in integration.nestings]
        self.exact = integration.exact
        self.sd = spec.family.normal_sd


def is_spectrum(integration: Integration | None) -> bool:
    """Whether a program has directions."""
    return integration is not None and integration.way == "spectrum"


def functions(integration: Integration | None) -> list[str]:
    """Texts of functions."""
    return [_COMPONENTS] if integration is not None and not is_spectrum(integration) else []


def declared(spec: ModelSpec, integration: Integration | None) -> Lines:
    """Declarations of data."""
    if integration is None:
        return []
    names = _Names(spec, integration)
    if not is_spectrum(integration):
        return _declared_components(names)
    s = names.members[0].suffix
    n = f"N_l1{s}"
    lines = [
        "// directions in which the member effects are independent: the singular vectors of the",
        f"// weights, sparse by rows, sorted by nesting unit. There are {n} of them.",
        f"vector[{n}] singular_l1{s};  // singular values",
        *_sparse(f"basis_l1{s}", n, "J", "residuals along each direction"),
        *_sparse(f"turn_l1{s}", n, n, "member effects from directions"),
    ]
    if not names.exact:
        lines += [
            *_sparse(f"image_l1{s}", "J", n, "their weighted sums from directions"),
            "vector[J] working_y;  // working response",
            "vector[J] working_root;  // roots of its weights",
        ]
    for nest in names.nestings:
        h = nest.suffix
        lines += [
            f"array[J] int<lower=1, upper=J> order_l3{h};  // groups by nesting unit",
            f"array[H{h} + 1] int<lower=1> order_start_l3{h};",
            f"array[{n}] int<lower=1, upper=H{h}> unit_l1{s};  // of each direction",
            f"array[H{h} + 1] int<lower=1> unit_start_l1{s};",
        ]
    return lines


def _sparse(name: str, rows: str, columns: str, what: str) -> Lines:
    return [
        f"int<lower=0> size_{name};  // {what}",
        f"vector[size_{name}] {name};",
        f"array[size_{name}] int<lower=1, upper={columns}> column_{name};",
        f"array[{rows} + 1] int<lower=1> start_{name};",
    ]


def _declared_components(names: _Names) -> Lines:
    lines = [
        "// components: sets of groups and units (members, nesting units) that share nothing with",
        "// the others, each with its matrix Z of weights, then residuals, column after column",
        "int<lower=1> C;  // components",
        "array[C] int<lower=1> n_groups;",
        "array[C] int<lower=1> n_units;",
        "array[J - sum(n_groups)] int<lower=1, upper=J> alone;  // groups without any",
        "int<lower=1> size_place;",
        "array[size_place] int<lower=1> place;  // 1: zero; else the number of the entry, and 1",
    ]
    for part in names.members:
        s = part.suffix
        lines.append(f"array[N_l1{s}] int<lower=1> place_u_l1{s};")
        if part.estimated and not part.live:
            lines.append(f"array[M{s}] int<lower=1, upper=J> group{s};")
    lines += [f"array[H{nest.suffix}] int<lower=1> place_u_l3{nest.suffix};"
              for nest in names.nestings]  # fmt: skip
    return lines


def transformed_data(spec: ModelSpec, integration: Integration | None) -> Lines:
    """What the lines need of the data, computed once."""
    if integration is None or not integration.nestings or not is_spectrum(integration):
        return []
    names = _Names(spec, integration)
    s, h = names.members[0].suffix, names.nestings[0].suffix
    n = f"N_l1{s}"
    root = "rep_vector(1, J)" if names.exact else "working_root"
    return [
        f"vector[J] root_l3{h} = {root};",
        f"vector[J] root_by_l3{h} = root_l3{h}[order_l3{h}];",
        f"array[J] int row_l3{h} = linspaced_int_array(J, 1, J);",
        f"array[{n}] int direction_l1{s} = linspaced_int_array({n}, 1, {n});",
        "// the nesting effects along each direction, and their information",
        f"vector[{n}] load_l1{s} = {_product(f'basis_l1{s}', n, 'J', f'root_l3{h}')};",
        f"vector[{n}] load2_l1{s} = square(load_l1{s});",
        f"vector[H{h}] information_l3{h}",
        f"    = csr_matrix_times_vector(H{h}, J, square(root_by_l3{h}), row_l3{h},"
        f" order_start_l3{h},",
        "                              rep_vector(1, J));",
    ]


def _product(name: str, rows: str, columns: str, vector: str) -> str:
    """A sparse matrix of the data times a vector."""
    matrix = f"{rows}, {columns}, {name}, column_{name}, start_{name}"
    return f"csr_matrix_times_vector({matrix},\n{' ' * 30}{vector})"


def declarations(spec: ModelSpec, integration: Integration | None) -> Lines:
    """Parameters in place of effects: none, or their normal scores."""
    if integration is None or integration.exact:
        return []
    names = _Names(spec, integration)
    lines = [f"vector[N_l1{p.suffix}] score_{p.u};  // by direction" for p in names.members]
    return lines + [f"vector[H{n.suffix}] score_{n.u};" for n in names.nestings]


def likelihood(spec: ModelSpec, integration: Integration) -> Lines:
    """Lines of the model after the rest of `eta`: the likelihood, or the effects in `eta`."""
    names = _Names(spec, integration)
    if not is_spectrum(integration):
        found = [
            *_cells(names),
            "target += components_lupdf(cells | n_groups, n_units);",
            f"target += -J * log({names.sd}) - 0.5 * dot_self(residual[alone]);",
        ]
        return ["{", "  // effects integrated out", *(f"  {line}" for line in found), "}"]
    s, nested = names.members[0].suffix, bool(names.nestings)
    gains = f"sum(log(gain_l1{s}))"
    if nested:
        h = names.nestings[0].suffix
        gains += f" + sum(log(gain_l3{h}))"
    found = _along(names)
    if names.exact:
        explained = f"dot_product(along_l1{s}, shrunk_l1{s})"
        if nested:
            explained += f"\n      - dot_product(along_l3{h}, along_l3{h} ./ gain_l3{h})"
        found += [
            f"target += -J * log({names.sd}) - 0.5 * ({gains});",
            f"target += -0.5 * (dot_self(residual) - {explained});",
        ]
        comment = "// effects integrated out, by direction"
    else:
        found += _scored(names)
        squares = f"dot_self(effect_l1{s})"
        if nested:
            squares += f" + dot_self(effect_l3{h})"
        found += [f"eta += {_image(names)};", f"target += -0.5 * ({gains} + {squares});"]
        comment = "// effects about their normal approximation, by direction"
    return ["{", f"  {comment}", *_indented(found), "}"]


def _indented(lines: Lines) -> Lines:
    return [f"  {line}" for text in lines for line in text.splitlines()]


def _along(names: _Names) -> Lines:
    """Residuals along the directions and what they say about effects in units of their sds."""
    part = names.members[0]
    s, n = part.suffix, f"N_l1{part.suffix}"
    over = f" / {names.sd}" if names.exact else ""
    residual = f"(y - eta) / {names.sd}" if names.exact else "working_root .* (working_y - eta)"
    lines = [
        f"vector[J] residual = {residual};",
        f"vector[{n}] signal_l1{s} = {part.sigma}{over} * singular_l1{s};",
        f"vector[{n}] along_l1{s} = {_product(f'basis_l1{s}', n, 'J', 'residual')};",
        f"vector[{n}] gain_l1{s} = 1 + square(signal_l1{s});  // precision of an effect",
        f"vector[{n}] shrunk_l1{s} = along_l1{s} - along_l1{s} ./ gain_l1{s};",
    ]
    for nest in names.nestings:
        h = nest.suffix
        units = f"H{h}, {n}, {{}}, direction_l1{s}, unit_start_l1{s},\n{' ' * 40}{{}}"
        rows = f"row_l3{h}, order_start_l3{h},\n{' ' * 40}residual[order_l3{h}]"
        groups = f"H{h}, J, root_by_l3{h}, {rows}"
        taken = units.format(f"load_l1{s}", f"shrunk_l1{s}")
        used = units.format(f"load2_l1{s}", f"1 - inv(gain_l1{s})")
        lines += [
            f"real signal_l3{h} = {nest.sigma}{over};",
            f"vector[H{h}] along_l3{h}",
            f"    = signal_l3{h} * (csr_matrix_times_vector({groups})",
            f"                   - csr_matrix_times_vector({taken}));",
            f"vector[H{h}] gain_l3{h}",
            f"    = 1 + square(signal_l3{h})",
            f"          * (information_l3{h} - csr_matrix_times_vector({used}));",
        ]
    return lines


def _scored(names: _Names, draw: bool = False) -> Lines:
    """Effects in units of their sds: their means given the residuals, and normal scores."""
    part = names.members[0]
    s = part.suffix
    lines, rest = [], f"along_l1{s}"
    for nest in names.nestings:
        h = nest.suffix
        score = f"to_vector(normal_rng(zeros_vector(H{h}), 1))" if draw else f"score_{nest.u}"
        lines.append(
            f"vector[H{h}] effect_l3{h} = along_l3{h} ./ gain_l3{h}\n"
            f"      + {score} .* inv_sqrt(gain_l3{h});"
        )
        rest = f"(along_l1{s} - signal_l3{h} * load_l1{s} .* effect_l3{h}[unit_l1{s}])"
    n = f"N_l1{s}"
    score = f"to_vector(normal_rng(zeros_vector({n}), 1))" if draw else f"score_{part.u}"
    lines.append(
        f"vector[{n}] effect_l1{s} = signal_l1{s} .* {rest} ./ gain_l1{s}\n"
        f"      + {score} .* inv_sqrt(gain_l1{s});"
    )
    return lines


def _image(names: _Names) -> str:
    """What the effects add to `eta`."""
    part = names.members[0]
    s = part.suffix
    sums = _product(f"image_l1{s}", "J", f"N_l1{s}", f"effect_l1{s}")
    text = f"{part.sigma} * {sums}"
    for nest in names.nestings:
        text += f"\n    + {nest.sigma} * effect_l3{nest.suffix}[nesting{nest.suffix}]"
    return text


def _cells(names: _Names) -> Lines:
    """The residuals, and the cells of the components' matrices."""
    entries = ["[0]'"]
    for part in names.members:
        entries.append(f"{part.sigma} / {names.sd} * weight{part.suffix}")
    for nest in names.nestings:
        entries.append(f"rep_vector({nest.sigma} / {names.sd}, J)")
    entries.append("residual")
    text = entries[0]
    for entry in entries[1:]:
        text = f"append_row({text},\n          {entry})"
    return [
        f"vector[J] residual = (y - eta) / {names.sd};",
        f"vector[size_place] cells = {text}[place];",
    ]


def generated(spec: ModelSpec, integration: Integration, eta: Lines) -> Lines:
    """Lines that draw the effects; `eta` are those of the linear predictor without them."""
    names = _Names(spec, integration)
    lines = [f"vector[N_l1{p.suffix}] {p.u};" for p in names.members]
    lines += [f"vector[H{n.suffix}] {n.u};" for n in names.nestings]
    found = list(eta)
    if is_spectrum(integration):
        part = names.members[0]
        n = f"N_l1{part.suffix}"
        found += [*_along(names), *_scored(names, draw=names.exact)]
        drawn = _product(f"turn_l1{part.suffix}", n, n, f"effect_l1{part.suffix}")
        found.append(f"{part.u} = {part.sigma} * {drawn};")
        found += [f"{k.u} = {k.sigma} * effect_l3{k.suffix};" for k in names.nestings]
    else:
        found += _cells(names)
        found.append("vector[sum(n_units)] effect = components_rng(cells, n_groups, n_units);")
        for p in names.members:
            found.append(f"{p.u} = {p.sigma} * effect[place_u_l1{p.suffix}];")
        for k in names.nestings:
            found.append(f"{k.u} = {k.sigma} * effect[place_u_l3{k.suffix}];")
    return [*lines, "{", *_indented(found), "}"]


# ---- data --------------------------------------------------------------------------------------


def data(spec: ModelSpec, design: Design, integration: Integration | None) -> dict[str, Any]:
    """Data of these programs, besides those of the program that samples all effects."""
    if integration is None:
        return {}
    names = _Names(spec, integration)
    if is_spectrum(integration):
        return _spectrum_data(spec, design, integration, names)
    found = components(integration, spec, design)
    out: dict[str, Any] = {
        "C": len(found.n_units),
        "n_groups": found.n_groups,
        "n_units": found.n_units,
        "alone": found.alone + 1,
        "size_place": len(found.place),
        "place": found.place + 1,
    }
    units = [f"place_{p.u}" for p in names.members] + [f"place_{n.u}" for n in names.nestings]
    out |= {name: column + 1 for name, column in zip(units, found.column, strict=True)}
    for i, part in zip(integration.members, names.members, strict=True):
        if part.estimated:
            out[f"group{part.suffix}"] = design.members[i].group + 1
    return out


def _spectrum_data(
    spec: ModelSpec, design: Design, integration: Integration, names: _Names
) -> dict[str, Any]:
    found, s = spectrum(integration, spec, design), names.members[0].suffix
    out: dict[str, Any] = {f"singular_l1{s}": found.singular}
    out |= _sparse_values(f"basis_l1{s}", found.basis) | _sparse_values(f"turn_l1{s}", found.turn)
    if not names.exact:
        out |= _sparse_values(f"image_l1{s}", found.image)
        out |= {"working_y": found.response, "working_root": found.root}
    for i, nest in zip(integration.nestings, names.nestings, strict=True):
        n, h = design.nestings[i], nest.suffix
        out[f"order_l3{h}"] = np.argsort(n.unit, kind="stable") + 1
        out[f"order_start_l3{h}"] = _starts(n.unit, n.n_units)
        out[f"unit_l1{s}"] = found.unit + 1
        out[f"unit_start_l1{s}"] = _starts(found.unit, n.n_units)
    return out


def _sparse_values(name: str, matrix: Any) -> dict[str, Any]:
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return {
        f"size_{name}": matrix.nnz,
        name: matrix.data,
        f"column_{name}": matrix.indices.astype(np.int64) + 1,
        f"start_{name}": matrix.indptr.astype(np.int64) + 1,
    }


def _starts(codes: Any, count: int) -> Any:
    return np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=count))]) + 1


__all__ = [
    "data", "declarations", "declared", "functions", "generated", "is_spectrum", "likelihood",
    "transformed_data",
]  # fmt: skip
