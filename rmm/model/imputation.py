"""Covariates whose missing values are parameters, `missing="impute"`: names and parameters.

A missing value of a covariate x is normal given the other, complete covariates A of its level,

    x_i ~ normal(b_0 + (A_i - mean of A)' b, sigma),

for observed and missing values alike, together with the model of the outcome given x.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rmm.families import Parameter


@dataclass(frozen=True)
class ImputedColumn:
    """A column with missing values.

    Attributes
    ----------
    column : str
        Of the user's table, and the label of its coefficient.
    name : str
        In names of parameters: the column, with underscores for what names cannot have.
    unit : str
        What has a value each: ``"group"`` (``"row"`` without `mm()`), ``"member"`` or
        ``"membership"``.
    block : int or None
        Place of its `mm()` block in `ModelSpec.members`; None for a covariate of groups.
    predictors : tuple of str
        Labels of the complete covariates that its mean depends on.
    """

    column: str
    name: str
    unit: str
    block: int | None
    predictors: tuple[str, ...]

    @property
    def suffix(self) -> str:
        """Appended to the names of its data in programs."""
        return f"_imputed_{self.name}"

    @property
    def x(self) -> str:
        """Name of its missing values."""
        return f"imputed_{self.name}"

    @property
    def b(self) -> str:
        """Name of the coefficients of its mean: at mean predictors, then of these."""
        return f"b_imputed_{self.name}"

    @property
    def sigma(self) -> str:
        """Name of its residual standard deviation."""
        return f"sigma_imputed_{self.name}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Missing values, and the parameters of their model."""
        return (
            Parameter(self.b, (f"coefficient_imputed_{self.name}",), "real", "imputation"),
            Parameter(self.sigma, (), "positive", "imputation"),
            Parameter(self.x, (f"missing_{self.name}",), "real", "imputed"),
        )


def parameter_names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Names of columns in names of parameters, all different."""
    out: list[str] = []
    for number, column in enumerate(columns, start=1):
        plain = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9]", "_", column)).strip("_")
        name = plain or str(number)
        out.append(f"{name}_{number}" if name in out else name)
    return tuple(out)
