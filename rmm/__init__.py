"""Bayesian multiple-membership multilevel models with estimated weights::

    fit = rmm.fit("y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE=TRUE)", data)
    fit.summary()

No engine and no plotting library is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rmm._version import __version__ as __version__
from rmm.errors import (
    BackendError,
    ConvergenceWarning,
    DataError,
    FormulaError,
    PlotError,
    PriorError,
    ProgramError,
    RmmError,
    SpecificationWarning,
    StudyError,
)

if TYPE_CHECKING:
    from rmm import datasets as datasets
    from rmm.design.members.neighbour_covariance import car
    from rmm.fitting.compare_weights import compare_weights
    from rmm.fitting.competing_risks import competing_risks
    from rmm.fitting.multinomial import multinomial
    from rmm.fitting.pipeline import fit, program, program_data
    from rmm.fitting.table_look.look import TableLook, look
    from rmm.posterior.comparison.averaging import AverageFit, average
    from rmm.posterior.comparison.bayes_factors import bayes_factor
    from rmm.posterior.comparison.cause_specific import CompetingRisks
    from rmm.posterior.comparison.compare import compare
    from rmm.posterior.comparison.multinomial_fit import MultinomialFit
    from rmm.posterior.comparison.pooling import PooledFit, pool
    from rmm.posterior.comparison.scaled_priors import evidence_curve
    from rmm.posterior.fit import Fit
    from rmm.posterior.load import load
    from rmm.posterior.prior_draws import PriorPredictive, prior_predictive
    from rmm.simulation import SimulatedData, simulate
    from rmm.tables.wide_to_long import to_long

# Public name -> module that has it, and its name there; None for the module itself.
_LAZY: dict[str, tuple[str, str | None]] = {
    "fit": ("rmm.fitting.pipeline", "fit"),
    "Fit": ("rmm.posterior.fit", "Fit"),
    "program": ("rmm.fitting.pipeline", "program"),
    "program_data": ("rmm.fitting.pipeline", "program_data"),
    "car": ("rmm.design.members.neighbour_covariance", "car"),
    "prior_predictive": ("rmm.posterior.prior_draws", "prior_predictive"),
    "PriorPredictive": ("rmm.posterior.prior_draws", "PriorPredictive"),
    "compare": ("rmm.posterior.comparison.compare", "compare"),
    "compare_weights": ("rmm.fitting.compare_weights", "compare_weights"),
    "competing_risks": ("rmm.fitting.competing_risks", "competing_risks"),
    "CompetingRisks": ("rmm.posterior.comparison.cause_specific", "CompetingRisks"),
    "multinomial": ("rmm.fitting.multinomial", "multinomial"),
    "MultinomialFit": ("rmm.posterior.comparison.multinomial_fit", "MultinomialFit"),
    "bayes_factor": ("rmm.posterior.comparison.bayes_factors", "bayes_factor"),
    "evidence_curve": ("rmm.posterior.comparison.scaled_priors", "evidence_curve"),
    "average": ("rmm.posterior.comparison.averaging", "average"),
    "AverageFit": ("rmm.posterior.comparison.averaging", "AverageFit"),
    "pool": ("rmm.posterior.comparison.pooling", "pool"),
    "PooledFit": ("rmm.posterior.comparison.pooling", "PooledFit"),
    "load": ("rmm.posterior.load", "load"),
    "look": ("rmm.fitting.table_look.look", "look"),
    "TableLook": ("rmm.fitting.table_look.look", "TableLook"),
    "simulate": ("rmm.simulation", "simulate"),
    "SimulatedData": ("rmm.simulation", "SimulatedData"),
    "to_long": ("rmm.tables.wide_to_long", "to_long"),
    "datasets": ("rmm.datasets", None),
}


if not TYPE_CHECKING:  # type checkers must report a name that is not there

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module 'rmm' has no attribute {name!r}")
        path, attribute = _LAZY[name]
        module = import_module(path)
        return module if attribute is None else getattr(module, attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "AverageFit",
    "BackendError",
    "CompetingRisks",
    "ConvergenceWarning",
    "DataError",
    "Fit",
    "FormulaError",
    "MultinomialFit",
    "PlotError",
    "PooledFit",
    "PriorError",
    "PriorPredictive",
    "ProgramError",
    "RmmError",
    "SimulatedData",
    "SpecificationWarning",
    "StudyError",
    "TableLook",
    "average",
    "bayes_factor",
    "car",
    "compare",
    "compare_weights",
    "competing_risks",
    "datasets",
    "evidence_curve",
    "fit",
    "load",
    "look",
    "multinomial",
    "pool",
    "prior_predictive",
    "program",
    "program_data",
    "simulate",
    "to_long",
]
