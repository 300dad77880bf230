"""A multinomial fit in a folder: the conditional logit, the user's table, and the formula."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rmm.design.unordered.choice_model import CategoryModel, prepare_categories
from rmm.errors import DataError, RmmError, SpecificationWarning
from rmm.posterior.fit import Fit
from rmm.posterior.load import load, read_table_of_fit
from rmm.posterior.saved_fits.save import table_bytes, table_kinds
from rmm.tables.memory_limits import memory_limit

_ABOUT, _TABLE, _CHOICES, _FORMAT = "multinomial.json", "table.parquet", "choices.nc", 1
_MOST_BYTES = 1_000_000


def write_folder(model: CategoryModel, choices: Fit, folder: Path) -> Path:
    """Write a multinomial fit into a new folder.

    Parameters
    ----------
    model : CategoryModel
    choices : Fit
    folder : Path

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the folder exists, or cannot be made.
    """
    if folder.exists() or not folder.parent.is_dir():
        what = "exists already" if folder.exists() else "cannot be made"
        raise DataError(f"{folder}: this folder {what}. Give a new folder in an existing one.")
    folder.mkdir()
    choices.save(folder / _CHOICES)
    (folder / _TABLE).write_bytes(table_bytes(model.table))
    reference = model.categories.values[0]
    about = {
        "format": _FORMAT,
        "formula": model.formula,
        "reference": reference.item() if isinstance(reference, np.generic) else reference,
        "priors": [model.choice.base, *(s.text for s in model.choice.statements)],
        "transform": model.base.transform,
        "missing": model.missing,
        "na": model.na,
        "table": table_kinds(model.table),
    }
    # Last: a folder without it is not complete.
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    return folder


def read_folder(folder: Path) -> tuple[CategoryModel, Fit]:
    """Read a folder that `write_folder` wrote.

    Nothing in it is evaluated: the formula and priors are parsed.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    model : CategoryModel
    choices : Fit

    Raises
    ------
    DataError
        If it is no such folder, or a file in it cannot be read.
    """
    about, limit = _read_about(folder), memory_limit()
    choices = load(folder / _CHOICES)
    try:
        table = read_table_of_fit(folder / _TABLE, limit, about["table"])
        with warnings.catch_warnings():  # the fit has given them
            warnings.simplefilter("ignore", SpecificationWarning)
            model = prepare_categories(
                about["formula"],
                table,
                reference=about["reference"],
                priors=about["priors"],
                transform=about["transform"],
                missing=about["missing"],
            )
        na = None if about["na"] is None else tuple(map(str, about["na"]))
        model = replace(model, na=na, base=replace(model.base, na=na))
    except RmmError as error:
        raise DataError(f"{folder}: its files are damaged or have changed. {error}") from error
    except Exception as error:  # whatever a file that another program wrote may cause
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{folder}: its files are damaged or have changed ({why}).") from error
    if choices.model.formula != model.choices or len(choices.model.used) != len(model.rows()):
        raise DataError(f"{folder}: its files do not belong to one fit. Save the fit again.")
    return model, choices


def _read_about(folder: Path) -> dict[str, Any]:
    """`multinomial.json`, checked."""
    file = folder / _ABOUT
    if not file.is_file() or file.stat().st_size > _MOST_BYTES:
        raise DataError(f"{folder}: this is not a folder that `MultinomialFit.save` wrote.")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        texts = all(isinstance(about[name], str) for name in ("formula", "missing"))
        plain = isinstance(about["reference"], str | int)
        known = about["format"] == _FORMAT and isinstance(about["table"], dict)
        valid = texts and plain and known and isinstance(about["priors"], list)
        valid = valid and {"transform", "na"} <= set(about)
    except (ValueError, KeyError, TypeError, RecursionError):
        valid = False
    if not valid:
        raise DataError(f"{file}: this file has changed since it was saved. Save the fit again.")
    return dict(about)
