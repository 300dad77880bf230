"""The comment at the top of a program of either language: the model in the program's own names."""

from __future__ import annotations

from rmm.backends.program_data import weight_names
from rmm.design.priors.group_sizes import at_typical_size, describe_sizes
from rmm.errors import printable
from rmm.formula.expression import describe
from rmm.formula.weights.evaluate import LOG_N1_OF_ONE
from rmm.formula.weights.render import input_key
from rmm.formula.weights.rewrite import log_of_size_power
from rmm.model.spec import MemberPart, ModelSpec, NestingPart


def header(spec: ModelSpec, language: str, mark: str) -> list[str]:
    """Comment lines that state the formula, the linear predictor, the weights and the indices.

    Parameters
    ----------
    spec : ModelSpec
    language : {"JAGS", "Stan"}
    mark : str
        With which comments begin.
    """
    lines = [
        f"Multiple-membership multilevel model, {spec.family.name} outcome, for {language}",
        plain_text(spec.formula.text),
        *_sigma(spec),
        "",
        *_predictor(spec, language),
        *_effects(spec),
        *_imputed(spec),
        *(line for part in spec.members for line in _weights(part, language)),
        "",
        *_indices(spec, language),
        *_centres(spec),
    ]
    text = lines if language == "Stan" else [_ascii(line) for line in lines]
    return [f"{mark} {line}".rstrip() for line in text]


def _sigma(spec: ModelSpec) -> list[str]:
    """The formula of the residual standard deviation, and what its terms are in the program."""
    if spec.family.sigma is None:
        return []
    return [
        f"sigma: {plain_text(spec.family.sigma.text)}",
        "Residual sd of group j: exp(X_sigma[j] * beta_sigma). X_sigma: 1, then predictors minus "
        "center_sigma.",
        "b_sigma: reported coefficients. b_sigma[1] is the intercept where all predictors of the "
        "sd are 0.",
    ]


def _ascii(line: str) -> str:
    """JAGS reads no other characters, not in comments either."""
    return "".join(c if " " <= c <= "~" else "?" for c in line)


def plain_text(text: str) -> str:
    """User text that is safe inside a comment: one line of printable characters."""
    return printable(" ".join(text.split())).replace("*/", "* /")


def weight_symbol(part: MemberPart) -> str:
    """Name of the weights in the header: ``w`` if they are estimated, else the data ``weight``."""
    return f"{'w' if part.estimated else 'weight'}{part.suffix}"


# -- linear predictor ------------------------------------------------------------------------


def _predictor(spec: ModelSpec, language: str) -> list[str]:
    """The linear predictor of group j; products of vectors are inner products."""
    terms = ["alpha"] if spec.intercept else []
    terms += ["X_l2[j] * beta_l2"] if spec.terms else []
    terms += ["offset_l2[j]"] if spec.offset else []
    for part in spec.members:
        terms += _member_terms(part, language)
    for nest in spec.nestings:
        s = nest.suffix
        terms += [f"X_l3{s}[j] * {nest.b}"] if nest.covariates else []
        terms += [f"{nest.u}[nesting{s}[j]]"] if nest.random else []
    first, *others = terms or ["0"]
    return [
        "Linear predictor of group j:",
        f"  eta[j] = {first}",
        *(f"         + {term}" for term in others),
    ]


def _member_terms(part: MemberPart, language: str) -> list[str]:
    s, w = part.suffix, f"{weight_symbol(part)}[r]"
    if part.smooth is not None:
        return [f"sum over the functions r of group j: {w} * {part.u}[member{s}[r]]  (smooth)"]
    row = "r" if part.walk else f"{part.effect_index}[r]"
    effect = [f"{part.u}[{row}]"] if part.random else []
    slope = [f"Z_l1{s}[r] * {part.u_slope}[member{s}[r]]"] if part.slopes else []
    place = f"sum over the memberships r of group j{_in_block(s)}"
    b = f"{part.b}[1:K_x_l1{s}]" if part.features_in_program else part.b
    if part.estimated:
        inner = [f"X_l1{s}[r] * {b}"] if part.columns else []
        inner += [f"offset_l1{s}[r]"] if part.offset else []
        summed = [*inner, *effect, *slope]
        text = f"({' + '.join(summed)})" if len(summed) > 1 else "".join(summed)
        terms = [f"{place}: {w} * {text}"] if summed else []
    else:
        terms = [f"X_l1{s}[j] * {b}"] if part.columns else []
        weighted = [f"{w} * {text}" for text in effect]
        # Stan's Z_l1 are covariates times known weights.
        weighted += slope if language == "Stan" else [f"{w} * {text}" for text in slope]
        terms += [f"{place}: {' + '.join(weighted)}"] if weighted else []
    for number, feature in enumerate(part.features_in_program, start=1):
        index = f"K_x_l1{s} + {number}" if part.columns else f"{number}"
        centred = f"(f{number}{s}[j] - center_l1{s}[{index}])"
        terms.append(f"{centred} * {part.b}[{index}]  ({plain_text(feature.label)})")
    return terms


def _in_block(suffix: str) -> str:
    return f" in block {suffix[1:]}" if suffix else ""


def _effects(spec: ModelSpec) -> list[str]:
    """Distributions of the effects, standard deviations in place of variances."""
    found = []
    for part in spec.members:
        if part.random and part.walk:
            found.append(
                f"{part.u}: random walk over the memberships of each member; its first value and "
                f"its steps ~ normal(0, {part.sigma})"
            )
        elif part.series:
            found.append(
                f"{part.u}: AR(1) process of each member in time. Its first value ~ "
                f"normal(0, {part.sigma});"
            )
            found.append(
                f"  each later one ~ normal(r * the one before, {part.sigma} * sqrt(1 - r^2)),"
            )
            found.append(f"  r = {part.rho}^(time between both)")
        elif part.related:
            found.append(
                f"{part.u} ~ multivariate normal(0, {part.sigma}^2 * {part.block.covariance}): "
                f"{part.u} = root_l1{part.suffix} * {part.independent}, "
                f"{part.independent} ~ normal(0, {part.sigma})"
            )
        elif part.random:
            found.append(f"{part.u} ~ normal(0, {part.sigma})")
        if part.slopes:
            found.append(f"{part.u_slope}[, k] ~ normal(0, {part.sigma_slope}[k])")
        if part.correlated:
            which = (
                f"{part.u}[i] and {part.u_slope}[i, ]" if part.random else f"{part.u_slope}[i, ]"
            )
            found.append(f"{which} of a member i have the correlations {part.cor}")
    for roles in spec.roles:  # the same members i, those of all its blocks
        which = " and ".join(f"{effect}[i]" for effect in roles.effects)
        found.append(f"{which} of a member i have the correlations {roles.cor}")
    found += [f"{nest.u} ~ normal(0, {nest.sigma})" for nest in spec.nestings if nest.random]
    return [
        "Random effects, as normal(mean, standard deviation):",
        *(f"  {e}" for e in found),
    ] * bool(found)


def _imputed(spec: ModelSpec) -> list[str]:
    """Distributions of the covariates with missing values."""
    lines: list[str] = []
    for one in spec.imputed:
        column, others = plain_text(one.column), ", ".join(map(plain_text, one.predictors))
        mean = f"mean linear in {others}, less their means" if others else "one mean"
        lines += [
            f"  {column}, of each {one.unit}: {mean} ({one.b}), sd {one.sigma}. Missing values: "
            f"{one.x}.",
        ]
    return [
        "Covariates with missing values, normal; X_* below have their means instead:",
        *lines,
    ] * bool(lines)


# -- weights and indices ---------------------------------------------------------------------


def _weights(part: MemberPart, language: str) -> list[str]:
    """How the weights of a block are computed, and what its weight function's names mean."""
    s, text = part.suffix, plain_text(part.weight.text)
    if part.smooth is not None:
        return []
    known = {"group": "divided by their sum in the group", "none": "not normalised"}
    known["total"] = "scaled so that their sum is the number of groups"
    if not part.estimated:
        name = f": weight{s}[r] =" if part.random else ":"
        return [f"Known weights{_in_block(s)}{name} {text}, {known[part.weight.constraint]}"]
    groups = f"J_l1{s}" if part.partial else "J"
    w = {
        "group": f"uw{s}[r] / sum of uw{s} in its group, so that weights sum to 1 in each group",
        "total": f"{groups} * uw{s}[r] / sum(uw{s}), so that all weights sum to {groups}",
        "none": f"uw{s}[r], not normalised",
    }[part.weight.constraint]
    lines = [f"Weights of the memberships{_in_block(s)}, raw (uw{s}) and normalised (w{s}):"]
    lines.append(f"  uw{s}[r] = {text}")
    if part.weight.constraint != "none" and log_of_size_power(part.weight.expression):
        most = "of its group" if part.weight.constraint == "group" else "of all"
        lines[-1] += f", divided by the largest {most} against underflow"
    lines += [f"    {line}" for line in _symbols(part, language)]
    lines.append(f"  w{s}[r] = {w}")
    return lines + [f"  {line}" for line in describe_sizes(part)]


def _symbols(part: MemberPart, language: str) -> list[str]:
    """The names of the user's weight function and those of the program: ``b1 is b_w[1]``."""
    names = weight_names(part)
    found = [f"{p} is {names[f'param:{p}']}" for p in part.weight.parameters]
    for _, leaf in part.weight.inputs:
        found.append(f"{plain_text(describe(leaf))} is {names[f'input:{input_key(leaf)}']}[r]")
    if part.weight.uses_size and not at_typical_size(part):
        found.append("n is the size of the group")
    lines = [", ".join(found)]
    if part.weight.uses_log_size:
        name = f"log_n1{part.suffix}[r]"
        inverse = {"JAGS": "ilogit", "Stan": "inv_logit"}[language]
        lines += [
            "For any expression a, 1 / (1 + (n - 1) * exp(-a)) is the inverse logit of "
            "a - log(n - 1).",
            f"The program writes it as {inverse}(a - {name}). {name} is log(n - 1). If n = 1, it "
            f"is {LOG_N1_OF_ONE:g}",
            "in place of log(0), and the inverse logit is 1.",
        ]
    return lines


def _indices(spec: ModelSpec, language: str) -> list[str]:
    lines = ["J: number of groups, with index j. The outcome is measured on groups."]
    for part in spec.members:
        lines += _member_indices(part, language)
    for nest in spec.nestings:
        lines += _nesting_indices(nest)
    return lines


def _member_indices(part: MemberPart, language: str) -> list[str]:
    s = part.suffix
    if not (part.estimated or part.effects or part.features_in_program):
        return []
    if part.smooth is not None:
        label = plain_text(part.smooth.label)
        return [
            f"weight{s}[r]: values of the N_l1{s} functions of the smooth term {label} at all "
            "groups, by group.",
            f"  member{s}[r] is the number of the function. Its line is a predictor in X_*.",
        ]
    last = f"last{s}[j]" if language == "JAGS" else f"start{s}[j + 1] - 1"
    first = "first" if language == "JAGS" else "start"
    block = plain_text(part.block.member)
    lines = [
        f"M{s}: number of memberships, with index r. A membership is one member in one group.",
        f"  Group j has the memberships {first}{s}[j] to {last}.",
    ]
    if part.series:
        lines += [
            f"N_l1{s}: number of occasions, sorted by member, then time. An occasion is one member "
            f"(column {block})",
            f"  at one time. occasion{s}[r] is the occasion of membership r.",
        ]
    elif part.effects and not part.walk:
        lines.append(
            f"N_l1{s}: number of members. member{s}[r] is the member (column {block}) of "
            "membership r."
        )
    if part.in_role:
        lines[-1] += f" Members are those of all blocks with cor = {part.block.roles}."
    if part.related:
        lines.append(
            f"root_l1{s}: lower Cholesky factor of {part.block.covariance}, the known covariance "
            "matrix of the members."
        )
    return lines


def _nesting_indices(nest: NestingPart) -> list[str]:
    if not nest.random:
        return []
    s, unit = nest.suffix, plain_text(nest.block.unit)
    return [f"H{s}: number of nesting units. nesting{s}[j] is the unit (column {unit}) of group j."]


def _centres(spec: ModelSpec) -> list[str]:
    """What centred predictors mean for the intercept."""
    found = [part.covariates for part in spec.members]
    found += [nest.covariates for nest in spec.nestings]
    if not (spec.terms or any(found)):
        return []
    lines = [
        "X_*: predictors minus center_*.",
        "center_*: means over all groups, or 0 if predictors are not centred.",
    ]
    for part in spec.members:
        if part.covariates:
            summary = "average" if part.estimated else "weighted sum"
            lines.append(
                f"center_l1{part.suffix}: for each member covariate, the mean over all groups of "
                f"its {summary} in the group."
            )
    if spec.intercept:
        lines += [
            "alpha: intercept where all predictors are equal to center_*.",
            "b_l2: reported coefficients. b_l2[1] is the intercept where all predictors are 0."
            + (" b_l2[k + 1] is beta_l2[k]." if spec.terms else ""),
        ]
    if spec.thresholds:
        lines += [
            "cut: thresholds between the levels where all predictors are equal to center_*.",
            "tau: reported thresholds, where all predictors are 0.",
        ]
    return lines
