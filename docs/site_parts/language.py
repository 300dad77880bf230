"""The weight language, priors and plots, from their registries."""

from __future__ import annotations

from site_parts.tables import table


def weight_functions() -> str:
    """Elementwise functions, as each engine computes them."""
    from rmm.formula.functions import FUNCTIONS

    arguments = ("x", "y")
    rows = []
    for name, row in FUNCTIONS.items():
        given = arguments[: row.arity]
        rows.append(
            (
                f"`{name}({', '.join(given)})`",
                f"`{row.jags.format(*given)}`",
                f"`{row.stan.format(*given)}`",
                "" if row.smooth else "steps: not for Stan's sampler",
            )
        )
    return table(("function", "in JAGS", "in Stan", "note"), rows)


def aggregates() -> str:
    """Functions of a column's values within a group."""
    from rmm.formula.functions import AGGREGATES

    rows = [
        (f"`{name}({', '.join(['x', *(extra for extra, _, _ in row.extra)])})`",)
        for name, row in AGGREGATES.items()
    ]
    return ", ".join(cell for (cell,) in rows)


def table_functions() -> str:
    """Functions whose constants come from the whole table."""
    from rmm.formula.functions import TABLE_FUNCTIONS

    rows = []
    for name, row in TABLE_FUNCTIONS.items():
        rows.append((f"`{name}(x)`", row.meaning))
        if row.within:
            rows.append((f"`{name}(x, within = g)`", f"{row.meaning} in the rows of the same `g`"))
    return table(("function", "meaning"), rows)


def bases() -> str:
    """Functions that make several columns of a predictor."""
    from rmm.formula.column_bases import BASES

    rows = [(f"`{row.example}`", row.meaning) for row in BASES.values()]
    return table(("function", "meaning"), rows)


def prior_families() -> str:
    """The prior language."""
    from rmm.formula.prior_syntax import PRIOR_FAMILIES

    hidden = ("precision_gamma", "fixed")  # what R's strings become; nobody writes them so
    rows = [
        (
            f"`{name}({', '.join(row.hyper)})`",
            "above 0"
            if row.support == "positive"
            else "lower to upper"
            if row.support == "interval"
            else "correlations"
            if row.support == "correlation"
            else "0 to 1"
            if row.support == "probability"
            else "all numbers",
        )
        for name, row in PRIOR_FAMILIES.items()
        if name not in hidden
    ]
    return table(("prior", "support"), rows)


def estimands() -> str:
    """Ready estimands, with their options."""
    from rmm.posterior.estimands import ESTIMANDS

    rows = []
    for name, row in ESTIMANDS.items():
        options = ", ".join(f"`{option}`" for option in row.options)
        rows.append((f'`fit.estimand("{name}")`', row.shows, options))
    return table(("call", "shows", "options"), rows)


def plots() -> str:
    """Plots of a fit."""
    from rmm.posterior.plots import PLOTS

    calls = {}
    for name, row in PLOTS.items():
        first = next(n for n, r in PLOTS.items() if r.method == row.method)
        calls[name] = f"`fit.{row.method}({'' if name == first else repr(name)})`"
    rows = [(calls[name].replace("'", '"'), row.shows) for name, row in PLOTS.items()]
    return table(("call", "shows"), rows)
