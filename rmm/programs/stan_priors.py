"""Priors in Stan programs: data, bounds and statements."""

from __future__ import annotations

from collections.abc import Mapping

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
    return [f"{kind} prior_{parameter.name}_{h};" for h in hyper]


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
