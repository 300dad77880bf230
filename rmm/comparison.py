"""Fits of the same outcomes, compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from rmm.crossvalidation import check_comparable
from rmm.fitted import Fit

if TYPE_CHECKING:
    from typing import Any


def compare(fits: Mapping[str, Fit], *, method: str = "stacking", refit: bool = False) -> Any:
    """Compare fits by leave-one-out cross-validation.

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
    """
    import arviz_stats

    check_comparable({name: fit.model for name, fit in fits.items()})
    results = {name: fit.loo(refit=refit) for name, fit in fits.items()}
    return pd.DataFrame(arviz_stats.compare(results, method=method, round_to="none"))
