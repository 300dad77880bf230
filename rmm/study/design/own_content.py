"""Own data in a study file: `data` in the place of `membership`, `covariates` and `truth`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmm.simulation.schema import schema
from rmm.study.files.checked_yaml import with_defaults, without_defaults
from rmm.study.files.messages import StudyFileErrors
from rmm.study.own.named_code import read_function
from rmm.study.own.own_data import OwnData

_SIMULATED = ("membership", "covariates", "truth")
_NEEDED = ("membership", "truth")
_WHY = "The data come from the function under `data`."


def collect_missing(config: Mapping[str, Any], file_errors: StudyFileErrors) -> None:
    """Without `data`, a study file describes what is simulated; errors are collected."""
    for name in _NEEDED:
        with file_errors.collecting():
            if name not in config and "data" not in config:
                meaning = schema()["$defs"][name]["description"]
                raise file_errors.about(name, f"`{name}` is missing.", f"It is: {meaning}")


def check_parts(config: Mapping[str, Any], file_errors: StudyFileErrors) -> None:
    """What cannot be used with `data`; errors are collected."""
    if "data" not in config:
        return
    for name in _SIMULATED:
        with file_errors.collecting():
            if name in config:
                raise file_errors.about(name, f"`{name}` cannot be used with `data`.", _WHY)
    with file_errors.collecting():
        if not config.get("estimands"):
            raise file_errors.about(
                "estimands",
                "`estimands` is missing.",
                "With `data`, list what is measured; the function returns the true values.",
            )
    for index, one in enumerate(config.get("estimands", [])):
        with file_errors.collecting():
            if "estimand" in one:
                raise file_errors.about(
                    f"estimands[{index}].estimand",
                    "Ready estimands cannot be used with `data`: their true values are computed "
                    "from a simulated model.",
                    "Give a `parameter`, whose true value the function returns.",
                )
    for index, one in enumerate(config.get("reference", [])):
        with file_errors.collecting():
            if "closed_form" in one:
                raise file_errors.about(
                    f"reference[{index}].closed_form", "Closed forms cannot be used with `data`."
                )


def own_content(data: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a scenario with own data; `truth` is the model that methods derive theirs from."""
    whole = with_defaults(dict(data), schema()["properties"]["data"])
    model = {"formula": whole.get("formula", ""), "family": whole["family"], "parameters": {}}
    return {"membership": {}, "covariates": {}, "truth": model, "data": whole}


def own_data(
    data: Mapping[str, Any],
    config: Mapping[str, Any],
    allow_code: bool,
    file_errors: StudyFileErrors,
) -> OwnData:
    """The data function of a scenario.

    Raises
    ------
    StudyError
        If there is no such file or function.
    """
    code = read_function("data", data, file_errors.file.parent, allow_code, file_errors)
    needed = [
        str(one.get("truth") or one.get("parameter"))
        for one in config.get("estimands", [])
        if not isinstance(one.get("truth"), int | float)
    ]
    return OwnData(code, tuple(dict.fromkeys(needed)))


def own_address(data: Mapping[str, Any], own: OwnData) -> dict[str, Any]:
    """What the data depend on: the keys without defaults, and the text of the function's file."""
    said = without_defaults(dict(data), schema()["properties"]["data"])
    said.pop("timeout", None)
    return {"data": {**said, "sha256": own.code.sha256}}
