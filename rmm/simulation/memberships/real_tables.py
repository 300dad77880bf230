"""Real tables that a simulation starts from."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from rmm.errors import DataError
from rmm.simulation.recipe_errors import RecipeError, check_name

if TYPE_CHECKING:
    import pandas as pd


def read_file(key: str, file: str, root: Path, ids: Collection[str] = ()) -> pd.DataFrame:
    """The table in a file.

    Parameters
    ----------
    key : str
        Path of the key that names the file, for error messages.
    file : str
        A file that `rmm.fit` reads; relative to `root`.
    ids : collection of str
        Its columns of ids.

    Raises
    ------
    RecipeError
    """
    # Late: reading a study file needs no libraries of fits.
    from rmm.tables.plain_columns import simplify_columns
    from rmm.tables.read import read_table  # pandas, which synthetic memberships do without

    path = root / file
    if not os.path.isfile(path):  # False, too, for what cannot be a path
        raise RecipeError(
            key,
            f"The file {file!r} does not exist.",
            f"Searched in: {root}. Paths are relative to the project root.",
        )
    try:
        return simplify_columns(read_table(path, ids=ids), ids, ids)
    except DataError as error:
        raise RecipeError(key, str(error)) from error


def id_column(key: str, role: str, column: str, frame: pd.DataFrame) -> str:
    """The name of an id column: it must be there, without missing values.

    Raises
    ------
    RecipeError
    """
    check_name(f"{key}.{role}", "a column of the table", column, list(frame.columns))
    if frame[column].isna().any():
        raise RecipeError(f"{key}.{role}", f"The column {column!r} has missing values.")
    return column
