"""A fit as one NetCDF file: draws for any ArviZ, and what `load` needs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray

from rmm.errors import DataError
from rmm.posterior.saved_fits.contents import MATRIX, seal
from rmm.tables.memory_limits import bytes_text

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables


FORMAT = 1
LABELS = "label"  # column of the members of a covariance matrix
LARGE_LABELS = "large"  # in its place: as texts, whole numbers that Parquet may not have
#: Bytes of a file besides the values of its variables, at most.
_OVERHEAD = 200_000


def check_folder(path: Path) -> None:
    """Raise `DataError` where a file cannot be kept, if possible before a fit is computed."""
    if path.is_dir():
        raise DataError(f"{path} is a folder. Give the path of a file in it, such as fit.nc.")
    if not path.parent.is_dir():
        raise DataError(f"{path}: the folder {path.parent} does not exist. Create it first.")


def save(fit: FitTables, path: Path) -> Path:
    """Write a fit; the file appears whole or not at all.

    Groups: those of `Fit.draws`, and ``rmm`` with the formula, priors, settings, program, engine,
    the used columns of the table and known covariance matrices (as Parquet bytes).
    """
    check_folder(path)
    table = table_bytes(fit.model.used)
    program_arrays = {
        f"draws_{k}": ([f"{k}_{i}" for i in range(v.ndim)], v) for k, v in fit.run.draws.items()
    }
    matrices = {
        f"{MATRIX}{name}": (f"byte_{name}", _matrix_bytes(one.frame()))
        for name, one in fit.model.covariances.items()
    }
    about = xarray.Dataset(
        {
            "table": ("byte", np.frombuffer(table, dtype=np.uint8)),
            **matrices,
            **program_arrays,
        },
        attrs={"format": FORMAT, "about": json.dumps(_about(fit), default=_plain)},
    )
    tree = xarray.DataTree.from_dict(
        {**{k: v.to_dataset() for k, v in fit.draws.children.items()}, "rmm": about}
    )
    for group in ("sample_stats", "posterior"):
        for name, values in tree[group].to_dataset().data_vars.items():
            if values.dtype == bool:
                tree[group][str(name)] = values.astype(np.int8)
    _check_room(path, sum(node.nbytes for node in tree.subtree))
    temporary = path.with_name(path.name + f".{os.getpid()}.part")
    try:
        tree.to_netcdf(temporary, engine="h5netcdf")
        seal(temporary)
        os.replace(temporary, path)
    except OSError as problem:
        raise _unwritable(path, problem) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _matrix_bytes(matrix: pd.DataFrame) -> Any:
    """A covariance matrix as Parquet: its labels, then its columns by their numbers."""
    labels = pd.Series(list(matrix.index), name=LABELS)
    if _large_columns(labels.to_frame()):
        labels = labels.map(str).rename(LARGE_LABELS)
    columns = pd.DataFrame(matrix.to_numpy(), columns=[str(k) for k in range(len(labels))])
    buffer = io.BytesIO()
    pd.concat([labels, columns], axis=1).to_parquet(buffer)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def _check_room(path: Path, size: int) -> None:
    """Raise `DataError` if a file of some bytes does not fit: HDF5 ends badly on a full disk."""
    free = shutil.disk_usage(path.parent).free
    if size + _OVERHEAD > free:
        raise DataError(
            f"{path} cannot be written: the fit needs {bytes_text(size + _OVERHEAD)}, but "
            f"{bytes_text(free)} are free. Make room on the disk, or give a file on another one."
        )


def _unwritable(path: Path, problem: OSError) -> DataError:
    why = os.strerror(problem.errno) if problem.errno else str(problem)
    return DataError(
        f"{path} cannot be written: {why}. Give a file in a folder that you can write to, on a "
        "disk with enough room."
    )


def table_bytes(table: pd.DataFrame) -> bytes:
    """A table as Parquet; `table_kinds` says which of its columns have other types there."""
    buffer = io.BytesIO()
    _parquet_types(table).to_parquet(buffer)
    return buffer.getvalue()


def table_kinds(table: pd.DataFrame) -> dict[str, Any]:
    """Columns of `table_bytes` that were categories, or whole numbers beyond 64 bits."""
    return {"large": _large_columns(table), "categories": _categories(table)}


def _large_columns(table: pd.DataFrame) -> list[str]:
    """Columns of whole numbers beyond 64 bits, which Parquet does not have."""
    objects = [name for name in table.columns if table[name].dtype == object]
    return [
        name
        for name in objects
        if table[name].notna().any()
        and all(isinstance(v, int) and not isinstance(v, bool) for v in table[name].dropna())
    ]


def _categories(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Levels of each categorical column: Parquet keeps those that are text only."""
    columns = {name: table[name] for name in table.columns}
    return {
        str(name): {"levels": list(c.cat.categories), "ordered": bool(c.cat.ordered)}
        for name, c in columns.items()
        if isinstance(c.dtype, pd.CategoricalDtype)
    }


def _parquet_types(table: pd.DataFrame) -> pd.DataFrame:
    """The table with codes for categories, and whole numbers beyond 64 bits as text."""
    text = {name: table[name].map(str, na_action="ignore") for name in _large_columns(table)}
    codes = {name: table[name].cat.codes for name in _categories(table)}
    return _replaced(table, {**text, **codes})


def _replaced(table: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    out = table.copy(deep=False)
    for name, values in columns.items():
        out[name] = values
    return out


def _about(fit: FitTables) -> dict[str, Any]:
    settings = asdict(fit.settings)
    return {
        "formula": fit.model.formula,
        "family": fit.model.spec.family.name,
        "family_options": dict(fit.model.spec.family.options),
        "priors": [fit.model.choice.base, *(s.text for s in fit.model.choice.statements)],
        "transform": fit.model.transform,
        "missing": fit.model.missing,
        "na": fit.model.na,
        **table_kinds(fit.model.used),
        "backend": fit.backend,
        "program": fit.program,
        "settings": settings,
        "engine": dict(fit.run.engine),
        "seconds": fit.run.seconds,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple | set | np.ndarray) else str(value)
