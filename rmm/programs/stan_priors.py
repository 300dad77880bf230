"""Priors in Stan programs: data, bounds and statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.special import erf, log_ndtr, ndtri, ndtri_exp

from rmm.families import Parameter

Forms = Mapping[str, tuple[str, ...]]

# Prior family -> statement for parameter {p}; {h} is the stem of its hyperparameters' names and
# {i} an index such as "[2]" or "".
PRIORS = {
    "normal": "{p}{i} ~ normal({h}_location{i}, {h}_scale{i});",
    "student_t": "{p}{i} ~ student_t({h}_df{i}, {h}_location{i}, {h}_scale{i});",
    "half_normal": "{p}{i} ~ normal(0, {h}_scale{i});  // half: {p} > 0",
    "half_t": "{p}{i} ~ student_t({h}_df{i}, 0, {h}_scale{i});  // half: {p} > 0",
    "half_cauchy": "{p}{i} ~ cauchy(0, {h}_scale{i});  // half: {p} > 0",
    "exponential": "{p}{i} ~ exponential({h}_rate{i});",
    "gamma": "{p}{i} ~ gamma({h}_shape{i}, {h}_rate{i});",
    "uniform": "{p}{i} ~ uniform({h}_lower{i}, {h}_upper{i});",
    "precision_gamma": "target += gamma_lpdf(inv_square({p}{i}) | {h}_shape{i}, {h}_rate{i})"
    "\n    - 3 * log({p}{i});  // gamma prior of the precision 1/{p}{i}^2",
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
    "precision_gamma": ("shape", "rate"),
}
_UNBOUNDED = ("normal", "student_t")

# Standard deviations are sampled by their normal scores: sd = F^-1(Phi(score)), F the prior, or
# for heavy tails a half-t with 2 df at the outcome's scale: as heavy as the posterior's tail may
# be, and without the prior's scale, which may be far from the data's (half-Cauchy(25): half as
# many effective draws). On the log scale the posterior of an sd that may be next to 0 has an
# exponential tail, in which NUTS mixes slowly; the score's tails are normal ones.
_WORDS = {"half_normal": "half-normal", "half_t2": "half-t (2 df)"}
_HALF_T2 = "scale * sqrt2() * Phi(score) * inv_sqrt(Phi(-score) * (1 + Phi(score)))"
SCORES = {
    # Next to 0 the inverse has no digits left: there, its first term.
    "half_normal": (
        "half_normal",
        "scale * (score < -5 ? sqrt(pi() / 2) * Phi(score) : -inv_Phi(0.5 * Phi(-score)))",
    ),
    "half_cauchy": ("half_t2", _HALF_T2),
    "half_t": ("half_t2", _HALF_T2),
}


def size_name(parameter: Parameter) -> str:
    """Name of the data integer that sizes a vector parameter."""
    if parameter.name.startswith("step_l1"):  # blocks of one kind share their memberships
        return "M" + parameter.name.removeprefix("step_l1")
    stems = {
        "slope_l2": "K_l2",
        "slope_l1": "K_slope_l1",
        "covariate_l1": "K_l1",
        "covariate_l3": "K_l3",
        "coefficient_w": "K_w",
        "coefficient_f": "K_f",
        "member": "N_l1",
        "nesting": "H",
    }
    dim = parameter.dims[0]
    stem = next(s for s in stems if dim == s or dim.startswith(s + "_"))
    return stems[stem] + dim.removeprefix(stem)


def is_fixed(parameter: Parameter, forms: Forms) -> bool:
    """Whether a parameter is held at a number, which is data then."""
    return forms.get(parameter.name) == ("fixed",)


def is_scored(parameter: Parameter, forms: Forms) -> bool:
    """Whether an sd is sampled by its normal score."""
    families = forms.get(parameter.name, ())
    return (
        parameter.role == "sd"
        and not parameter.dims
        and len(families) == 1
        and families[0] in SCORES
    )


def score_functions(scored: Iterable[Parameter], forms: Forms) -> list[str]:
    """Definitions of the functions that make sds of normal scores."""
    used = dict.fromkeys(SCORES[forms[p.name][0]] for p in scored)
    return [
        f"  // standard deviation of a {_WORDS[name]} distribution by its normal score\n"
        f"  real {name}(real score, real scale) {{\n    return {value};\n  }}"
        for name, value in used
    ]


def by_score(parameter: Parameter, forms: Forms) -> str:
    """An sd as an expression of its normal score."""
    p = parameter.name
    function = SCORES[forms[p][0]][0]
    return f"{function}(score_{p}, {score_scale(p, forms[p][0])})"


def score_scale(p: str, family: str) -> str:
    """Name of the scale of the distribution whose scores are sampled."""
    return f"prior_{p}_scale" if SCORES[family][0] == family else f"base_{p}"


def score_of(family: str, value: float, scale: float) -> float:
    """The normal score of an sd; the inverse of the functions above."""
    size = value / scale
    if family != "half_normal":  # half-t with 2 df, by the tail that has digits
        below = size / np.sqrt(2 + size**2)
        above = 2 / (2 + size**2) / (1 + below)
        return float(ndtri(below) if below < 0.5 else -ndtri(above))
    # By the tail that has digits; far out in logs, as Phi(-38) is 0.
    return float(
        ndtri(erf(size / np.sqrt(2))) if size < 1 else -ndtri_exp(np.log(2) + log_ndtr(-size))
    )


def prior_data(parameter: Parameter, forms: Forms) -> list[str]:
    """Declarations of the hyperparameters of a parameter."""
    if not parameter.structural:
        return []
    if is_fixed(parameter, forms):
        size = f"[{size_name(parameter)}]" if parameter.dims else ""
        number = "vector" if parameter.dims else "real"
        return [f"{number}<lower=0>{size} {parameter.name};  // held fixed"]
    kind = f"vector[{size_name(parameter)}]" if parameter.dims else "real"
    base = []
    if is_scored(parameter, forms):
        scale = score_scale(parameter.name, forms[parameter.name][0])
        base = [f"real {scale};  // of the scores' distribution"] * scale.startswith("base")
    hyper = dict.fromkeys(h for family in forms[parameter.name] for h in HYPER[family])
    return [f"{kind} prior_{parameter.name}_{h};" for h in hyper] + base


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
    stem = f"prior_{parameter.name}"
    if is_scored(parameter, {parameter.name: families}):
        return _score_lines(parameter.name, families[0], stem)
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


def _score_lines(p: str, family: str, stem: str) -> list[str]:
    """The prior of a normal score, and what the sd's prior has that the scores' has not."""
    lines = [f"score_{p} ~ std_normal();  // {p} ~ {family.replace('_', '-')}"]
    if SCORES[family][0] != family:
        own = f"cauchy_lpdf({p} | 0, {stem}_scale)"
        if family == "half_t":
            own = f"student_t_lpdf({p} | {stem}_df, 0, {stem}_scale)"
        lines += [f"target += {own}", f"    - student_t_lpdf({p} | 2, 0, base_{p});"]
    return lines
