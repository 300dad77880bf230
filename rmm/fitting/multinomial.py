"""`rmm.multinomial`: outcomes in unordered categories, fitted as a conditional logit.

A multinomial logit is a conditional logit whose strata are the groups and whose alternatives are
the categories (`rmm.design.unordered.choice_model`). So all engines, and all that they have been
checked with, fit it without a likelihood of several linear predictors.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from rmm.arguments import readable
from rmm.design.unordered.choice_model import CategoryModel, prepare_categories
from rmm.design.unordered.choice_warnings import category_warnings
from rmm.errors import BackendError, ConvergenceWarning, PriorError, SpecificationWarning
from rmm.fitting.pipeline import fit
from rmm.posterior.comparison.multinomial_fit import MultinomialFit, renamed
from rmm.posterior.fit import Fit

#: Options of `rmm.fit` that name parameters of a program.
_REFUSED = {
    "cov": "Member effects are independent here.",
    "inits": "Initial values are chosen by the package.",
    "program": "The program is that of a conditional logit: see fit.program.",
    "family": "rmm.multinomial() has one family.",
}


@readable(BackendError)
def multinomial(
    formula: str,
    data: Any,
    *,
    reference: Any = None,
    priors: Any = "weakly_informative",
    transform: str | None = None,
    missing: str = "error",
    na: Sequence[str] | None = None,
    **options: Any,
) -> MultinomialFit:
    """Fit a multinomial logit model: an outcome of groups in unordered categories.

    Each category k but the reference has its own coefficients, ``b_l2[k:Intercept]``,
    ``b_l2[k:z]``, ``b_l1[k:x]``, and its own member effects, independent between categories, with
    the standard deviation ``sigma_l1[k]``. Weights of members are the same for all categories.
    Coefficients change the log of the odds of category k against the reference.

    Parameters
    ----------
    formula : str
        As for `rmm.fit`, such as ``"y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE =
        TRUE)"``, with one `mm()` block at most, and without `hm()`. The outcome is a column of
        text, categories or whole numbers.
    data : frame, table, mapping or path
        As for `rmm.fit`.
    reference : object, optional
        The category that the others are compared with. Default: the first level, as for
        predictors: the first category of a categorical column, else the first text of the
        alphabet or the least number.
    priors : str, mapping or list
        As for `rmm.fit`, by the names of the parameters: ``["b_l2[left:z] ~ normal(0, 1)",
        "sigma_l1 ~ half_normal(1)"]``. By default each category has the priors of a binomial
        model.
    transform : {"center", "std", "std2"}, optional
    missing : {"error", "drop"}
    na : sequence of str, optional
        As for `rmm.fit`.
    **options
        Others of `rmm.fit`: ``backend``, ``seed``, ``draws``, ``chains``, ...

    Returns
    -------
    MultinomialFit

    Raises
    ------
    FormulaError
        For parts of a formula that are not available here.
    DataError
        For an outcome with one category, more than 20, or categories that no group has.
    BackendError
        For options that are not available here, such as `inits`.
    RmmError
        What `rmm.fit` raises.

    Warns
    -----
    ConvergenceWarning, PriorError, SpecificationWarning
        As `rmm.fit`.

    Examples
    --------
    >>> import numpy as np, rmm
    >>> rng = np.random.default_rng(1)
    >>> z = rng.normal(size=300)
    >>> utility = np.column_stack([0 * z, z, -z]) + rng.gumbel(size=(300, 3))
    >>> data = {"z": z, "party": np.array(["left", "green", "right"])[utility.argmax(axis=1)]}
    >>> fit = rmm.multinomial("party ~ 1 + z", data, reference="left", backend="laplace", seed=1)
    >>> list(fit.summary().index)
    ['b_l2[green:Intercept]', 'b_l2[right:Intercept]', 'b_l2[green:z]', 'b_l2[right:z]']
    >>> fit.predict({"z": [2.0]})["mean"].idxmax()[1]
    'green'
    """
    for name, why in _REFUSED.items():
        if name in options:
            raise BackendError(f"`{name}` is not available in rmm.multinomial(). {why}")
    model = prepare_categories(
        formula,
        data,
        reference=reference,
        priors=priors,
        transform=transform,
        missing=missing,
        na=na,
    )
    choices = _fit_choices(model, options)
    _warn(model, choices)
    return MultinomialFit(model, choices)


def _fit_choices(model: CategoryModel, options: dict[str, Any]) -> Fit:
    """The conditional logit; warnings of its table and design say nothing to the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecificationWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        priors = model.priors.of_choices()
        try:
            return fit(model.choices, model.rows(), "condlogit", priors=priors, **options)
        except PriorError as error:
            raise PriorError(renamed(str(error), model)) from None


def _warn(model: CategoryModel, choices: Fit) -> None:
    """Warnings of the model and of the draws, by the names of this model's parameters."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for text in category_warnings(model, choices.model):
            warnings.warn(text, SpecificationWarning, stacklevel=1)
        choices.warn()
    for one in found:
        warnings.warn(renamed(str(one.message), model), one.category, stacklevel=4)
