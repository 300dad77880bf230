"""Step size and metric of one fit as the start of others, whose warm-up can then be short.

The target is unchanged: a metric from other data makes sampling more or less efficient, not
wrong. Fits that start so adapt their step size only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmm.errors import BackendError, unknown_name

KEYS = ("program", "metric", "step_size", "inverse_metric", "warmup")
_STEP_SIZE = re.compile(r"^# Step size = (\S+)$", re.MULTILINE)
_METRIC = re.compile(
    r"^# (?:Diagonal e|E)lements of inverse mass matrix:\n((?:# [-+.,\de ]+\n)+)", re.MULTILINE
)


def read_adaptation(text: str) -> tuple[float, np.ndarray[Any, Any]] | None:
    """Step size and inverse metric (diagonal, or matrix) in the CSV of a chain, if it has them."""
    step, metric = _STEP_SIZE.search(text), _METRIC.search(text)
    if step is None or metric is None:
        return None
    rows = [row.removeprefix("# ").split(",") for row in metric[1].splitlines()]
    values = np.array(rows, dtype=np.float64)
    return float(step[1]), values[0] if len(values) == 1 else values


def mean_adaptation(
    key: str, metric: str, chains: Sequence[tuple[float, np.ndarray[Any, Any]] | None]
) -> dict[str, Any]:
    """What a fit adapted: means over its chains, by which the option `adaptation` goes.

    Parameters
    ----------
    key : str
        Of the program.
    metric : str
        ``"diag_e"`` or ``"dense_e"``.
    chains : sequence
        As `read_adaptation` returns them; if one is missing, nothing is returned.
    """
    found = [chain for chain in chains if chain is not None]
    if len(found) < len(chains):
        return {}
    return {
        "program": key,
        "metric": metric,
        "step_size": float(np.mean([step for step, _ in found])),
        "inverse_metric": np.mean([values for _, values in found], axis=0).tolist(),
    }


def check_adaptation(given: Any) -> Mapping[str, Any] | None:
    """The option `adaptation`, checked.

    Raises
    ------
    BackendError
        If it is not what `Run.adaptation` of a fit by Stan contains, perhaps with `warmup`.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise BackendError(
            "The option `adaptation` of Stan must be the `run.adaptation` of another fit by Stan, "
            f"not of type {type(given).__name__}."
        )
    odd = [key for key in given if key not in KEYS]
    if odd:
        raise BackendError(unknown_name(odd[0], "a key of `adaptation`", KEYS))
    missing = [key for key in KEYS[:-1] if key not in given]
    if missing:
        raise BackendError(
            f"The option `adaptation` of Stan lacks `{missing[0]}`. Use the `run.adaptation` of "
            "another fit by Stan."
        )
    return given


def metric_json(adaptation: Mapping[str, Any]) -> str:
    """The content of CmdStan's `metric_file`."""
    return json.dumps({"inv_metric": adaptation["inverse_metric"]})
