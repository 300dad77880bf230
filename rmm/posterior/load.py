"""A fit in one NetCDF file: draws for any ArviZ, and what is needed to be a `Fit` again."""

from __future__ import annotations

import io
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import pandas as pd
import xarray

from rmm.arguments import readable
from rmm.backends import find_backend
from rmm.backends.base import Run, Settings
from rmm.design.prepare import prepare
from rmm.errors import DataError, RmmError, SpecificationWarning
from rmm.families import find_family
from rmm.posterior.fit import Fit
from rmm.posterior.save import _replaced

if TYPE_CHECKING:
    from rmm.posterior.fit import Fit

#: Bytes in memory per byte of a file, and those that any file may take: a limit for `load`.
_UNPACKED, _SMALL = 20, 100_000_000
_DEEPEST = 4


def _table_types(table: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame:
    """The table that `_parquet_types` was given."""
    changed: dict[str, Any] = {}
    for name in about.get("large", []):
        changed[name] = table[name].astype(object).map(int, na_action="ignore").astype(object)
    for name, kind in about.get("categories", {}).items():
        dtype = pd.CategoricalDtype(kind["levels"], ordered=kind["ordered"])
        changed[name] = pd.Categorical.from_codes(table[name].to_numpy(), dtype=dtype)
    return _replaced(table, changed)


@readable(DataError)
def load(path: str | Path) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Nothing in the file is evaluated: the formula and priors are parsed, the program is text until
    it is fitted again.

    Parameters
    ----------
    path : path

    Returns
    -------
    Fit

    Raises
    ------
    DataError
        If the file is not there or is not a saved fit.

    Examples
    --------
    >>> import rmm
    >>> data = {"y": [1.0, 2.0, 3.0, 4.0, 6.0], "x": [0.0, 1.0, 2.0, 3.0, 4.0]}
    >>> fit = rmm.fit("y ~ 1 + x", data, backend="laplace", seed=1)
    >>> path = fit.save("fit.nc")
    >>> rmm.load(path).summary().equals(fit.summary())
    True
    """
    if not isinstance(path, str | os.PathLike):
        raise DataError(f"`path` must be the path of a file that `Fit.save` wrote, not {path!r}.")
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError(f"{path}: this file does not exist.")
    try:
        return _read(path)
    except RmmError as error:
        raise DataError(f"{path}: this file is not a fit that rmm saved. {error}") from error
    except Exception as error:  # whatever a file that another program wrote may cause
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: this file is not a fit that rmm saved ({why}).") from error


def _read(path: Path) -> Fit:
    _check_contents(path)
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        stored = tree["rmm"].to_dataset().load()
        stats = tree["sample_stats"].to_dataset().load()
    about = json.loads(stored.attrs["about"])
    table = pd.read_parquet(io.BytesIO(stored["table"].to_numpy().tobytes()))
    table = _table_types(table, about)
    family = find_family(about["family"], about.get("family_options"))
    with warnings.catch_warnings():  # the fit has given them
        warnings.simplefilter("ignore", SpecificationWarning)
        model = prepare(
            about["formula"],
            table,
            family,
            priors=about["priors"],
            transform=about["transform"],
            missing=about.get("missing", "error"),
        )
    na = about.get("na")
    model = replace(model, na=None if na is None else tuple(na))
    sample_stats = {str(k): v.to_numpy() for k, v in stats.data_vars.items()}
    if "diverging" in sample_stats:
        sample_stats["diverging"] = sample_stats["diverging"].astype(bool)
    draws = {
        str(k).removeprefix("draws_"): v.to_numpy()
        for k, v in stored.data_vars.items()
        if str(k).startswith("draws_")
    }
    prepared = find_backend(about["backend"]).prepare(model)
    settings = {**about["settings"], "monitor": tuple(about["settings"]["monitor"])}
    fit = Fit(
        model=model,
        run=Run(draws, sample_stats, about["seconds"], about["engine"]),
        program=about["program"],
        program_data=prepared.data(model.design),
        backend=about["backend"],
        settings=Settings(**settings),
        own_program=about["program"] != prepared.program,
    )
    _ = fit.draws  # of the model's shapes, or an error
    return fit


def _check_contents(path: Path) -> None:
    """No links, nothing that lies in other files, nothing larger in memory than the file explains.

    An HDF5 file of a kilobyte may declare an array of any size, and name other files to be read.
    """
    most = _UNPACKED * path.stat().st_size + _SMALL
    total = 0

    def visit(group: Any, depth: int) -> None:
        nonlocal total
        if depth > _DEEPEST:
            raise DataError("Its groups are nested too deeply.")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise DataError(f"In it, `{name}` is a link.")
            item = group[name]
            if isinstance(item, h5py.Group):
                visit(item, depth + 1)
                continue
            if not isinstance(item, h5py.Dataset):
                continue
            if item.external or item.is_virtual:
                raise DataError(f"In it, `{name}` is stored in another file.")
            total += int(item.size or 0) * item.dtype.itemsize
            if total > most:
                raise DataError(f"It would need more than {most:,} bytes of memory.")

    with h5py.File(path, "r") as file:
        visit(file, 0)
