"""Data sets to learn and to test with: simulated coalitions, and published ones on request.

>>> import rmm
>>> rmm.datasets.names()
['coalgov', 'coalgov_rmm', 'coalitions', 'schoolnets_edges', 'schoolnets_nodes', 'wage1']
>>> rmm.datasets.load("coalitions").shape
(2130, 10)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rmm.arguments import readable
from rmm.datasets.coalitions import coalitions
from rmm.datasets.fetching import read_source
from rmm.datasets.sources import SOURCES
from rmm.errors import DataError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

SIMULATED = "coalitions"


def names() -> list[str]:
    """The data sets that `load` knows.

    Returns
    -------
    list of str
        ``"coalitions"`` is simulated; the others are fetched.
    """
    return sorted([SIMULATED, *SOURCES])


@readable(DataError)
def load(name: str) -> pd.DataFrame:
    """A data set by name, one row per membership, pupil or nomination.

    A published data set is fetched when it is first asked for, from the repository of its authors
    at one commit, and kept in the folder ``datasets`` of the cache: ``RMM_CACHE``, else the user's
    cache folder of rmm. A file that was put there by hand is taken as it is. It is R's file, which
    is parsed and not run (extra ``rda``).

    What is checked is the table, not the file: its rows and values must be those that were
    published. The checksums were made from the tables of the R packages as they were installed,
    and R packs the same table into different bytes (compression, version of its format), so that
    a file's checksum would say less.

    Parameters
    ----------
    name : str
        ``"coalitions"``: simulated governments, without network. ``"coalgov"``: parties in
        coalition governments of 29 countries, 1944 to 2014 (R package bml). ``"coalgov_rmm"``: an
        earlier version with simulated outcomes (R package rmm). ``"schoolnets_nodes"`` and
        ``"schoolnets_edges"``: pupils and whom they nominate as friends (R package rmm).
        ``"wage1"``: office workers and the companies that they worked for in a year, one row per
        worker (R package R2MLwiN).

    Returns
    -------
    pandas.DataFrame
        A new table with a plain 0..M-1 index.

    Raises
    ------
    DataError
        If there is no such data set, or it cannot be fetched or read, or holds other values.
    """
    if not isinstance(name, str):
        raise DataError(unknown_name(name, "the name of a data set", names()))
    if name == SIMULATED:
        return coalitions()
    if name not in SOURCES:
        raise DataError(unknown_name(name, "the name of a data set", names()))
    return read_source(SOURCES[name])


__all__ = ["load", "names"]
