"""Priors in Stan programs: data, bounds and statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rmm.backends.base import Forms
from rmm.backends.program_data import raw_name, standard_name
from rmm.design.prepare import Model
from rmm.design.priors.weight_priors import scale_name
from rmm.families import Parameter

# Prior family -> statement for parameter {p}; {h} is the stem of its hyperparameters' names and
# {i} an index such as "[2]" or "".
PRIORS = {
    "normal": "{p}{i} ~ normal({h}_location{i}, {h}_scale{i});",
    "student_t": "{p}{i} ~ student_t({h}_df{i}, {h}_location{i}, {h}_scale{i});",
    "half_normal": "{p}{i} ~ normal(0, {h}_scale{i});  // half-normal, as {p} > 0",
    "half_t": "{p}{i} ~ student_t({h}_df{i}, 0, {h}_scale{i});  // half-t, as {p} > 0",
    "half_cauchy": "{p}{i} ~ cauchy(0, {h}_scale{i});  // half-Cauchy, as {p} > 0",
    "exponential": "{p}{i} ~ exponential({h}_rate{i});",
    "gamma": "{p}{i} ~ gamma({h}_shape{i}, {h}_rate{i});",
    "uniform": "{p}{i} ~ uniform({h}_lower{i}, {h}_upper{i});",
    "beta": "{p}{i} ~ beta({h}_alpha{i}, {h}_beta{i});",
    "precision_gamma": "target += gamma_lpdf(inv_square({p}{i}) | {h}_shape{i}, {h}_rate{i})"
    "\n    - 3 * log({p}{i});  // gamma prior of the precision 1 / {p}{i}^2, with its Jacobian",
}
HYPER = {
    "normal": ("location", "scale"),
    "student_t": ("df", "location", "scale"),
    "half_normal": ("scale",),
    "half_t": ("df", "scale"),
    "half_cauchy": ("scale",),
    "exponential": ("rate",),
    "gamma": ("shape", "rate"),
    "uniform": ("lower", "upper"),
    "beta": ("alpha", "beta"),
    "precision_gamma": ("shape", "rate"),
    "lkj": ("eta",),
}
_UNBOUNDED = ("normal", "student_t")

#: Prior families of the standard deviations that are sampled as unconstrained parameters.
RAW_FAMILIES = ("half_normal", "half_cauchy", "half_t")

# Such a standard deviation is `scale` times a function of its unconstrained parameter. The function
# is nearly linear up to the scale, where most posteriors are nearly normal. It is exponential near
# zero and above the scale, so that the posterior of the parameter is neither cut off at 0 nor has a
# heavy tail. Alternatives are worse: the logarithm of a standard deviation that may be close to 0
# has a posterior with an exponential tail, in which NUTS mixes slowly; transformed to normal scores
# of the prior, the posterior is skewed, which leaves two thirds of the effective draws.
_FUNCTIONS = """\
  // Standard deviation as a function of an unconstrained parameter `raw`. Stan samples raw, because
  // its posterior is usually close to normal. The sd increases with raw: exponentially while the sd
  // is below about soft * scale, almost linearly while it is between soft * scale and scale, and
  // exponentially above scale. soft is at most 0.5.
  real sd_from_raw(real raw, real scale, real soft) {
    return scale * sinh(soft * log1p_exp(raw / soft));
  }
  // Log of the derivative of sd_from_raw(). This Jacobian term is needed because the priors are
  // for standard deviations, but Stan samples raw.
  real log_sd_derivative(real raw, real scale, real soft) {
    return log(scale) + log_inv_logit(raw / soft) + log(cosh(soft * log1p_exp(raw / soft)));
  }"""


def size_name(parameter: Parameter) -> str:
    """Name of the data integer that sizes a vector parameter."""
    if parameter.name.startswith("step_l1"):  # blocks of one kind share their memberships
        return "M" + parameter.name.removeprefix("step_l1")
    stems = {
        "slope_l2": "K_l2",
        "slope_l1": "K_slope_l1",
        "pair_l1": "K_pair_l1",
        "covariate_l1": "K_l1",
        "covariate_l3": "K_l3",
        "coefficient_w": "K_w",
        "coefficient_f": "K_f",
        "coefficient_imputed": "K_imputed",
        "missing": "N_imputed",
        "member": "N_l1",
        "occasion": "N_l1",
        "nesting": "H",
        "threshold": "K_tau",
        "covariate_sigma": "K_sigma",
    }
    dim = parameter.dims[0]
    stem = next(s for s in stems if dim == s or dim.startswith(s + "_"))
    return stems[stem] + dim.removeprefix(stem)


def is_fixed(parameter: Parameter, forms: Forms) -> bool:
    """Whether a parameter is held at a number, which is then data."""
    return forms.get(parameter.name) == ("fixed",)


def is_raw(parameter: Parameter, forms: Forms) -> bool:
    """Whether a standard deviation is sampled as an unconstrained parameter."""
    families = forms.get(parameter.name, ())
    return (
        parameter.role == "sd"
        and not parameter.dims
        and len(families) == 1
        and families[0] in RAW_FAMILIES
    )


def raw_functions(found: Sequence[Parameter]) -> list[str]:
    """Definitions of `sd_from_raw` and its log derivative, if any parameter needs them."""
    return [_FUNCTIONS] if found else []


def sd_from_raw(parameter: Parameter) -> str:
    """A standard deviation as an expression of its unconstrained parameter."""
    p = parameter.name
    return f"sd_from_raw({raw_name(p)}, base_{p}, base_soft)"


def raw_from_sd(value: float, scale: float, soft: float) -> float:
    """The unconstrained parameter of a standard deviation; the inverse of Stan's `sd_from_raw`."""
    size = np.arcsinh(value / scale)
    return float(size + soft * np.log(-np.expm1(-size / soft)))


def prior_values(model: Model) -> dict[str, Any]:
    """Hyperparameters of the priors, and arguments of `sd_from_raw`.

    Its `scale` is that of the outcome, or of the prior if that is narrower. Its `soft` is about
    the standard deviation of the posterior: below it the function is exponential.
    """
    outcome = model.spec.family.scale(model.design.outcome)[1]
    forms, elements = model.priors.forms, model.priors.elements
    scales = {
        f"base_{p.name}": min(elements[p.name][0].hyper["scale"], outcome)
        for p in model.spec.sampled
        if is_raw(p, forms)
    }
    soft = {"base_soft": min(0.5, 2 / np.sqrt(model.design.J))} if scales else {}
    return {**model.priors.data, **scales, **soft}


def is_in_units(parameter: Parameter, forms: Forms) -> bool:
    """Whether a program declares standardised weight coefficients, `std_b_w`.

    It does if some elements are bounded and others are not. Otherwise, unbounded ones are
    standardised by `multiplier`, and Stan samples bounded ones on the logit or log scale.
    """
    bounded = {family not in _UNBOUNDED for family in forms.get(parameter.name, ())}
    return parameter.role == "weight" and len(bounded) == 2


def weight_lines(parameter: Parameter, forms: Forms) -> list[str]:
    """Definition of weight coefficients from standardised ones, if these are declared."""
    p = parameter.name
    if not is_in_units(parameter, forms):
        return []
    return [f"vector[{size_name(parameter)}] {p} = {scale_name(p)} .* {standard_name(p)};"]


def weight_declaration(parameter: Parameter, forms: Forms) -> str:
    """Declaration of weight coefficients, sampled on a scale that fits the data."""
    p, size = parameter.name, size_name(parameter)
    if is_in_units(parameter, forms):
        bounds = f"lower=lower_{p} ./ {scale_name(p)}, upper=upper_{p} ./ {scale_name(p)}"
        return f"vector<{bounds}>\n      [{size}] {standard_name(p)};  // {p} ./ {scale_name(p)}"
    if is_bounded(parameter, forms):
        return f"vector<lower=lower_{p}, upper=upper_{p}>[{size}] {p};  // weight coefficients"
    return f"vector<multiplier={scale_name(p)}>[{size}] {p};  // Stan samples {p} / {scale_name(p)}"


def prior_data(parameter: Parameter, forms: Forms) -> list[str]:
    """Declarations of the hyperparameters of a parameter."""
    if not parameter.structural:
        return []
    if is_fixed(parameter, forms):
        size = f"[{size_name(parameter)}]" if parameter.dims else ""
        number = "vector" if parameter.dims else "real"
        return [f"{number}<lower=0>{size} {parameter.name};  // held fixed"]
    kind = f"vector[{size_name(parameter)}]" if parameter.dims else "real"
    hyper = dict.fromkeys(h for family in forms[parameter.name] for h in HYPER[family])
    lines = [f"{kind} prior_{parameter.name}_{h};" for h in hyper]
    if parameter.role == "weight":
        scale = scale_name(parameter.name)
        lines += [
            f"// {scale}[k]: 1 / sd of the variable that {parameter.name}[k] multiplies (1 if it "
            "multiplies no variable)",
            f"{kind} {scale};",
        ]
    return lines


def raw_constants(found: Sequence[Parameter]) -> list[str]:
    """Declarations of the arguments of `sd_from_raw`, if any parameter needs them."""
    if not found:
        return []
    return [
        "// constants of sd_from_raw(): they affect the speed of sampling, not the model",
        "real base_soft;  // argument `soft`",
        *(f"real base_{p.name};  // argument `scale` for {p.name}" for p in found),
    ]


def is_bounded(parameter: Parameter, forms: Forms) -> bool:
    """Whether a prior of any element has bounded support."""
    return any(f not in _UNBOUNDED for f in forms[parameter.name])


def bound_lines(parameter: Parameter, families: tuple[str, ...]) -> list[str]:
    """Bounds of a vector parameter, some of whose priors have bounded support."""
    p, size = parameter.name, size_name(parameter)
    lines = [
        f"vector[{size}] lower_{p} = rep_vector(negative_infinity(), {size});",
        f"vector[{size}] upper_{p} = rep_vector(positive_infinity(), {size});",
    ]
    for number, family in enumerate(families, start=1):
        place = f"[{number}]" if len(families) > 1 else ""
        if family == "uniform":
            lines.append(f"lower_{p}{place} = prior_{p}_lower{place};")
            lines.append(f"upper_{p}{place} = prior_{p}_upper{place};")
        elif family not in _UNBOUNDED:
            lines.append(f"lower_{p}{place} = {'0' if place else f'rep_vector(0, {size})'};")
    return lines


def prior_lines(parameter: Parameter, families: tuple[str, ...]) -> list[str]:
    """Statements of the priors: one for all elements, or one each."""
    p, stem = parameter.name, f"prior_{parameter.name}"
    if is_raw(parameter, {p: families}):
        slope = f"target += log_sd_derivative({raw_name(p)}, base_{p}, base_soft);"
        return [PRIORS[families[0]].format(p=p, h=stem, i=""), slope]
    if families == ("precision_gamma",) and parameter.dims:
        line = PRIORS["precision_gamma"].format(p=parameter.name, h=stem, i="[k]")
        head = f"for (k in 1:{size_name(parameter)}) {{"
        return [head, *(f"  {part}" for part in line.splitlines()), "}"]
    if len(families) == 1:
        return [PRIORS[families[0]].format(p=parameter.name, h=stem, i="")]
    return [
        PRIORS[family].format(p=parameter.name, h=stem, i=f"[{number}]")
        for number, family in enumerate(families, start=1)
    ]
