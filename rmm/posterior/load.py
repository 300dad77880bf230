"""A fit in one NetCDF file: draws for any ArviZ, and what is needed to be a `Fit` again."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from rmm.arguments import readable
from rmm.backends import find_backend
from rmm.backends.base import Run, Settings
from rmm.design.prepare import prepare
from rmm.errors import DataError, RmmError, SpecificationWarning, counted
from rmm.families import find_family
from rmm.posterior.draws import check_draws
from rmm.posterior.fit import Fit
from rmm.posterior.saved_fits.contents import read_contents
from rmm.posterior.saved_fits.save import LABELS, LARGE_LABELS, _replaced
from rmm.tables.memory_limits import memory_limit
from rmm.tables.parquet_limits import read_bounded

if TYPE_CHECKING:
    from rmm.posterior.fit import Fit


def _table_types(table: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame:
    """The table that `_parquet_types` was given."""
    changed: dict[str, Any] = {}
    for name in about.get("large", []):
        changed[name] = table[name].astype(object).map(int, na_action="ignore").astype(object)
    for name, kind in about.get("categories", {}).items():
        dtype = pd.CategoricalDtype(kind["levels"], ordered=kind["ordered"])
        changed[name] = pd.Categorical.from_codes(table[name].to_numpy(), dtype=dtype)
    return _replaced(table, changed)


def read_table_of_fit(content: Path | bytes, limit: int, about: dict[str, Any]) -> pd.DataFrame:
    """The table that `rmm.posterior.saved_fits.save.table_bytes` wrote.

    Parameters
    ----------
    content : path or bytes
    limit : int
        Bytes that it may take in memory.
    about : dict
        Of `table_kinds`.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    DataError
        If it would need more memory.
    """
    return _table_types(_plain_text(read_bounded(content, limit)), about)


@readable(DataError)
def load(path: str | Path, *, max_memory: int | None = None) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Nothing in the file is evaluated: the formula and priors are parsed, the program is text until
    it is fitted again.

    Parameters
    ----------
    path : path
    max_memory : int, optional
        Bytes that draws and table may take in memory. They are counted before they are unpacked.
        Default: half of the memory that is free.

    Returns
    -------
    Fit

    Raises
    ------
    DataError
        If the file is not there or is not a saved fit, has changed since it was saved, or would
        need more memory.

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
    limit = memory_limit(max_memory)
    try:
        return _read(path, limit)
    except RmmError as error:
        raise DataError(
            f"{path}: this file is not a fit that rmm saved, or is damaged or too large. {error}"
        ) from error
    except Exception as error:  # whatever a file that another program wrote may cause
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: this file is not a fit that rmm saved ({why}).") from error


def _read(path: Path, limit: int) -> Fit:
    stored = read_contents(path, limit)
    about = json.loads(stored.about)
    used = sum(v.nbytes for v in [*stored.draws.values(), *stored.sample_stats.values()])
    table = read_table_of_fit(stored.table, limit - used, about)
    left = limit - used - int(table.memory_usage(deep=True).sum())
    matrices = {k: _matrix(read_bounded(v, left)) for k, v in stored.matrices.items()}
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
            cov=matrices,
        )
    na = about.get("na")
    model = replace(model, na=None if na is None else tuple(na))
    sample_stats = dict(stored.sample_stats)
    if "diverging" in sample_stats:
        sample_stats["diverging"] = sample_stats["diverging"].astype(bool)
    prepared = find_backend(about["backend"]).prepare(model)
    settings = Settings(**{**about["settings"], "monitor": tuple(about["settings"]["monitor"])})
    run = Run(dict(stored.draws), sample_stats, about["seconds"], about["engine"])
    _check_shapes(run, settings)
    check_draws(run, model, settings.chains, settings.draws)
    fit = Fit(
        model=model,
        run=run,
        program=about["program"],
        program_data=prepared.data(model.design),
        backend=about["backend"],
        settings=settings,
        own_program=about["program"] != prepared.program,
    )
    _ = fit.draws  # of the model's shapes, or an error
    return fit


def _matrix(table: pa.Table) -> pd.DataFrame:
    """The covariance matrix that `_matrix_bytes` was given."""
    frame = _plain_text(table)
    large = LARGE_LABELS in frame
    labels = list(map(int, frame.pop(LARGE_LABELS)) if large else frame.pop(LABELS))
    return frame.set_axis(labels, axis=0).set_axis(labels, axis=1)


def _plain_text(table: pa.Table) -> pd.DataFrame:
    """The table with text as objects; those that are equal take memory once."""
    frame: pd.DataFrame = table.to_pandas()
    texts = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
    return _replaced(frame, {name: frame[name].astype(object) for name in texts})


def _check_shapes(run: Run, settings: Settings) -> None:
    """Refuse settings that are not those of the draws."""
    for name in ("chains", "warmup", "draws", "thin"):
        value = getattr(settings, name)
        if not isinstance(value, int) or value < 0:
            raise DataError(f"Its setting {name} is {value!r}.")
    wanted = settings.chains, settings.draws
    for name, values in {**run.draws, **run.sample_stats}.items():
        if values.shape[:2] != wanted:
            raise DataError(
                f"Its settings say {counted(wanted[0], 'chain')} of {wanted[1]:,} draws, but "
                f"{name} has the shape {values.shape}."
            )
