"""Priors of a JAGS program: a row per prior family, and which scale of an sd is sampled."""

from __future__ import annotations

from collections.abc import Mapping

from rmm.backends.base import Forms
from rmm.backends.program_data import standard_name
from rmm.design.priors.weight_priors import scale_name
from rmm.families import Parameter
from rmm.formula.prior_syntax import PRIOR_FAMILIES
from rmm.model.spec import ModelSpec

# Prior family -> density; JAGS's dnorm and dt take precisions.
DENSITIES: Mapping[str, str] = {
    "normal": "dnorm({location}, pow({scale}, -2))",
    "student_t": "dt({location}, pow({scale}, -2), {df})",
    "half_normal": "dnorm(0, pow({scale}, -2)) T(0, )",
    "half_t": "dt(0, pow({scale}, -2), {df}) T(0, )",
    "half_cauchy": "dt(0, pow({scale}, -2), 1) T(0, )",
    "exponential": "dexp({rate})",
    "gamma": "dgamma({shape}, {rate})",
    "uniform": "dunif({lower}, {upper})",
    "beta": "dbeta({alpha}, {beta})",
    "lkj": "dbeta({eta}, {eta})",  # of (1 + partial correlation) / 2
}
# Prior family of a standard deviation -> density of its precision tau = sigma^-2.
PRECISIONS: Mapping[str, str] = {
    "half_t": "dscaled.gamma({scale}, {df})",
    "half_cauchy": "dscaled.gamma({scale}, 1)",
    "precision_gamma": "dgamma({shape}, {rate})",
}
# The same, for standard deviations of effects only. A half-normal is a half-t with infinitely many
# degrees of freedom; with a million, log densities differ by less than 2e-5 within 3 scales. In
# this form JAGS uses the sampler of its glm module, with up to sixty times the effective draws of
# the slice sampler for a truncated normal. If effects are in no block, that sampler does not
# move. The form is for Gaussian outcomes only: see `Family.jags_standard_effects`.
EFFECT_PRECISIONS: Mapping[str, str] = {
    **PRECISIONS,
    "half_normal": "dscaled.gamma({scale}, 1.0E6)",
}
# For effects that are their standard deviation times normals or walks of sd 1.
STANDARD_PRECISIONS: Mapping[str, str] = {"precision_gamma": PRECISIONS["precision_gamma"]}


# Hyperparameter of a weight coefficient -> that of the coefficient divided by its scale.
_SCALED: Mapping[str, str] = {
    "location": "{0} / {1}",
    "scale": "{0} / {1}",
    "lower": "{0} / {1}",
    "upper": "{0} / {1}",
    "rate": "{0} * {1}",
}


#: Draws that are thresholds once they are sorted.
UNSORTED = "cut_unsorted"


def prior_lines(spec: ModelSpec, forms: Forms) -> list[str]:
    """Section of the program with the priors of all structural parameters."""
    lines = ["", "  # ---- priors: prior_<parameter>_<hyperparameter>"]
    for parameter in spec.sampled:
        if parameter.structural:
            lines += [f"  {line}" for line in _prior(spec, parameter, forms)]
    return lines


def _prior(spec: ModelSpec, parameter: Parameter, forms: Forms) -> list[str]:
    name, families = parameter.name, forms[parameter.name]
    if parameter.role == "sd":
        return _sd_prior(spec, parameter, forms)
    if parameter.role == "weight":
        return _weight_prior(spec, parameter, families)
    if parameter.role == "threshold":
        density = _density(DENSITIES, families[0], name, "k")
        return [
            f"for (k in 1:K_tau) {{ {UNSORTED}[k] ~ {density} }}",
            f"{name}[1:K_tau] <- sort({UNSORTED}[1:K_tau])  # thresholds: draws in their order",
        ]
    if parameter.role == "correlation":
        density = _density(DENSITIES, families[0], name, "k")
        half, size = f"half_{name}", _size(spec, parameter)
        return [
            f"for (k in 1:{size}) {{ {half}[k] ~ {density}; {name}[k] <- 2 * {half}[k] - 1 }}"
            "  # LKJ prior of the correlations"
        ]
    if families == ("fixed",):  # data
        return []
    if not parameter.dims:
        return [f"{name} ~ {_density(DENSITIES, families[0], name)}"]
    if len(families) > 1:
        numbered = enumerate(families, start=1)
        return [f"{name}[{k}] ~ {_density(DENSITIES, f, name, str(k))}" for k, f in numbered]
    density = _density(DENSITIES, families[0], name, "k")
    return [f"for (k in 1:{_size(spec, parameter)}) {{ {name}[k] ~ {density} }}"]


def _weight_prior(spec: ModelSpec, parameter: Parameter, families: tuple[str, ...]) -> list[str]:
    """Weight coefficients: sampled divided by scales that fit the data."""
    name, scale, standard = (
        parameter.name,
        scale_name(parameter.name),
        standard_name(parameter.name),
    )
    count = len(families)
    places = ["k"] if count == 1 else [str(k) for k in range(1, count + 1)]
    lines = []
    for family, place in zip(families, places, strict=True):
        hyper = {
            h: _SCALED.get(h, "{0}").format(f"prior_{name}_{h}[{place}]", f"{scale}[{place}]")
            for h in PRIOR_FAMILIES[family].hyper
        }
        lines.append(f"{standard}[{place}] ~ {DENSITIES[family].format(**hyper)}")
    size = _size(spec, parameter)
    reported = f"for (k in 1:{size}) {{ {name}[k] <- {scale}[k] * {standard}[k] }}"
    comment = [
        f"# {standard}: standardised weight coefficients, {name} / {scale}, which JAGS samples.",
        f"# {scale}[k] is 1 / sd of the variable that {name}[k] multiplies (1 if it multiplies no "
        "variable).",
    ]
    if count == 1:
        return [*comment, f"for (k in 1:{size}) {{ {lines[0]} }}", reported]
    return [*comment, *lines, reported]


def _sd_prior(spec: ModelSpec, parameter: Parameter, forms: Forms) -> list[str]:
    """Lines for standard deviations and, where a line uses these, precisions."""
    families = forms[parameter.name]
    if not parameter.dims:
        return _one_sd(spec, parameter, families[0], None)
    if len(families) > 1:
        numbered = enumerate(families, start=1)
        return [line for k, f in numbered for line in _one_sd(spec, parameter, f, str(k))]
    lines = []
    for line in _one_sd(spec, parameter, families[0], "k"):
        statement, note, comment = line.partition("  # ")
        lines.append(f"for (k in 1:{_size(spec, parameter)}) {{ {statement} }}{note}{comment}")
    return lines


def _one_sd(spec: ModelSpec, parameter: Parameter, family: str, index: str | None) -> list[str]:
    where = f"[{index}]" if index else ""
    name, precision = f"{parameter.name}{where}", f"{tau(parameter.name)}{where}"
    table = _precisions(spec, parameter)
    if family in table:
        density = _density(table, family, parameter.name, index)
        note = f"  # {name} ~ half-normal (a half-t with 1.0E6 df)"
        note = note if family == "half_normal" else ""
        return [f"{precision} ~ {density}{note}", f"{name} <- pow({precision}, -0.5)"]
    derived = [f"{precision} <- pow({name}, -2)"] if _uses_precision(spec, parameter) else []
    if family == "fixed":
        return [f"{line}  # {name} is held fixed" for line in derived]
    return [f"{name} ~ {_density(DENSITIES, family, parameter.name, index)}", *derived]


def _uses_precision(spec: ModelSpec, parameter: Parameter) -> bool:
    """Whether a density has the precision: of the outcome, or of effects that are sampled as such.

    Other effects are standard normals times their standard deviation.
    """
    own = parameter.name in {p.name for p in spec.family.parameters}
    standard = _standard_sds(spec)
    return own or not (spec.family.jags_standard_effects or parameter.name in standard)


def _standard_sds(spec: ModelSpec) -> set[str]:
    """Standard deviations of effects that are made of ones with the standard deviation 1."""
    alone = {p.sigma for p in spec.members if p.in_time or p.in_role}
    correlated = [p for p in spec.members if p.correlated]
    return alone | {name for p in correlated for name in (p.sigma, p.sigma_slope)}


def _density(table: Mapping[str, str], family: str, name: str, index: str | None = None) -> str:
    where = f"[{index}]" if index else ""
    hyper = {h: f"prior_{name}_{h}{where}" for h in PRIOR_FAMILIES[family].hyper}
    return table[family].format(**hyper)


def _precisions(spec: ModelSpec, parameter: Parameter) -> Mapping[str, str]:
    own = parameter.name in {p.name for p in spec.family.parameters}
    if parameter.name in _standard_sds(spec) or (spec.family.jags_standard_effects and not own):
        return STANDARD_PRECISIONS
    return PRECISIONS if own or not spec.family.jags_block else EFFECT_PRECISIONS


def on_precision(spec: ModelSpec, parameter: Parameter, forms: Forms) -> bool | tuple[bool, ...]:
    """Whether the program samples tau instead of the standard deviation.

    A tuple with an element each if priors of a vector of standard deviations differ.
    """
    if parameter.role != "sd":
        return False
    found = tuple(f in _precisions(spec, parameter) for f in forms[parameter.name])
    return found if len(found) > 1 else found[0]


def tau(sigma: str) -> str:
    """Name of the precision of a standard deviation: ``sigma_l1[k]`` -> ``tau_l1[k]``."""
    return "tau" + sigma.removeprefix("sigma")


def _size(spec: ModelSpec, parameter: Parameter) -> str:
    """Number of elements of a vector of coefficients, as the program writes it."""
    for found in spec.correlated:
        if parameter.name == found.pcor:
            return f"K_pair_l1{found.suffix}"
    for one in spec.imputed:
        if parameter.name == one.b:
            return f"K{one.suffix}"
    for part in spec.members:
        if parameter.name == part.b_w:
            return str(len(part.weight.parameters))
        if parameter.name == part.b:
            return f"K_l1{part.suffix}"
        if parameter.name == part.sigma_slope:
            return f"K_slope_l1{part.suffix}"
        if parameter.name == part.b_f:
            return str(len(part.parametric_features))
    for nest in spec.nestings:
        if parameter.name == nest.b:
            return f"K_l3{nest.suffix}"
    if parameter.role == "log_sd":
        return "K_sigma"
    return "K_l2"
