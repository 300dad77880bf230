"""A user's own methods of a study file, checked without running anything of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rmm.simulation.schema import schema
from rmm.study.design.scenarios import Scenario
from rmm.study.files.messages import StudyFileErrors
from rmm.study.methods.layouts import LAYOUTS
from rmm.study.methods.method import Method
from rmm.study.own.estimates_file import digest_of
from rmm.study.own.named_code import NamedCode, path_inside, read_function, read_script

#: Layout of the data as they are.
AS_DRAWN = "members"


class Source(NamedTuple):
    """What fits an own method: code, or a table of estimates; and the SHA-256 of its file."""

    code: NamedCode | None
    table: Path | None
    sha256: str


def read_source(
    key: str, config: Mapping[str, Any], file_errors: StudyFileErrors, allow_code: bool
) -> Source:
    """What an own method names.

    Raises
    ------
    StudyError
        If there is no such file or function.
    """
    folder = file_errors.file.parent
    if config["kind"] == "external":
        table = path_inside(f"{key}.estimates", config["estimates"], folder, file_errors)
        return Source(None, table, digest_of(table))
    read = read_function if config["kind"] == "python" else read_script
    code = read(key, config, folder, allow_code, file_errors)
    return Source(code, None, code.sha256)


def meaning_of(name: str) -> str:
    """What a key of a method is, in a sentence."""
    return f"It is: {schema()['$defs']['method']['properties'][name]['description']}"


def check_own_method(
    key: str, method: Method, scenarios: list[Scenario], file_errors: StudyFileErrors
) -> None:
    """Check the layout and the arguments of an own method in every scenario.

    Raises
    ------
    StudyError
    """
    layout = method.config["layout"]
    if layout not in (AS_DRAWN, *LAYOUTS):
        raise file_errors.name(f"{key}.layout", "a layout", layout, [AS_DRAWN, *LAYOUTS])
    for scenario in scenarios:
        own = scenario.own is not None
        if own and layout != AS_DRAWN and not scenario.recipe.truth.formula.members:
            raise file_errors.about(
                f"{key}.layout",
                f"The layout {layout!r} needs groups and members, but `data.formula` has no mm().",
                f"Give `data` such a formula, or leave `layout` out ({AS_DRAWN}).",
            )
    for name, value in method.config["arguments"].items():
        if method.kind.name == "rscript" and not isinstance(value, str | int | float):
            raise file_errors.value(
                f"{key}.arguments.{name}", value, "text, a number, true or false"
            )
