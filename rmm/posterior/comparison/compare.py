"""Fits of the same outcomes, compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import arviz_stats
import pandas as pd

from rmm.arguments import readable
from rmm.errors import DataError
from rmm.posterior.fit import Fit
from rmm.posterior.prediction.cross_validation import check_comparable

if TYPE_CHECKING:
    from typing import Any

METHODS = ("stacking", "BB-pseudo-BMA", "pseudo-BMA")


@readable(DataError)
def compare(
    fits: Mapping[str, Fit], *, method: str = "stacking", refit: bool = False
) -> pd.DataFrame:
    """Compare fits by leave-one-out cross-validation.

    elpd is a sum over units (groups, or strata) of natural logs; differences are to the best fit,
    with errors of paired units (Vehtari, Gelman and Gabry 2017, Statistics and Computing 27,
    1413-1432, section 5).

    Parameters
    ----------
    fits : mapping of str to Fit
        Two or more, of the same outcomes of the same groups.
    method : str
        How weights are found: ``"stacking"`` (Yao et al. 2018), ``"BB-pseudo-BMA"`` or
        ``"pseudo-BMA"``; see `arviz_stats.compare`.
    refit : bool
        As for `Fit.loo`.

    Returns
    -------
    pandas.DataFrame
        One row per fit, best first: rank, elpd, p, elpd_diff, weight, se, dse and diagnostics.

    Raises
    ------
    DataError
        If the fits are not of the same outcomes.

    Examples
    --------
    >>> import rmm
    >>> data = {"y": [1.1, 1.9, 3.2, 3.8, 5.1, 6.0, 6.9, 8.2], "x": [1.0, 2, 3, 4, 5, 6, 7, 8]}
    >>> fits = {f: rmm.fit(f, data, backend="laplace", seed=1) for f in ("y ~ 1", "y ~ 1 + x")}
    >>> rmm.compare(fits)["rank"]
    y ~ 1 + x    0
    y ~ 1        1
    Name: rank, dtype: int64
    """
    _check(fits, method, refit)
    check_comparable({name: fit.model for name, fit in fits.items()})
    results = {name: fit.loo(refit=refit) for name, fit in fits.items()}
    return pd.DataFrame(arviz_stats.compare(results, method=method, round_to="none"))


def _check(fits: Any, method: Any, refit: Any) -> None:
    """Raise `DataError` for what is no fit by name, no way of weighing, or no flag."""
    if not isinstance(fits, Mapping):
        raise DataError(
            f"`fits` must map names to fits, as in {{'one': fit1, 'two': fit2}}, not be of type "
            f"{type(fits).__name__}."
        )
    odd = [name for name, fit in fits.items() if not isinstance(fit, Fit)]
    if odd:
        raise DataError(
            f"`fits` must contain only fits, but {odd[0]!r} is of type "
            f"{type(fits[odd[0]]).__name__}."
        )
    if not isinstance(method, str) or method not in METHODS:
        raise DataError(f"`method` must be one of {', '.join(METHODS)}, not {method!r}.")
    if not isinstance(refit, bool):
        raise DataError(f"`refit` must be True or False, not {refit!r}.")
