"""One fit by a user's R script: data as CSV in, estimates as CSV out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.errors import BackendError, BackendTimeout, DataError
from rmm.study.own.named_code import NamedCode, environment
from rmm.study.own.output_tail import Tail

if TYPE_CHECKING:
    import pandas as pd

PROGRAM = "Rscript"
#: Names of files and arguments: nothing else of a study file comes near a command line.
_NAME = re.compile(r"[A-Za-z_]\w*")


def installed() -> bool:
    """Whether there is an Rscript."""
    return shutil.which(PROGRAM) is not None


def run_script(
    code: NamedCode, tables: Mapping[str, pd.DataFrame], seed: int
) -> list[dict[str, Any]]:
    """Rows that an R script wrote for one data set.

    It is called as ``Rscript --vanilla FILE data.csv answers.csv SEED NAME=VALUE ...``, without a
    shell. Further tables are beside ``data.csv``.

    Parameters
    ----------
    code : NamedCode
    tables : mapping
        Name -> table; `data` is the one whose path it gets.
    seed : int
        0 <= seed < 2**31, for `set.seed()`.

    Raises
    ------
    StudyError
        If the code may not run.
    BackendTimeout, BackendError
        If it takes too long, fails, or writes no table.
    """
    code.check_allowed()
    program = shutil.which(PROGRAM)
    if program is None:
        raise BackendError("Rscript is not installed. It comes with R (r-base-core in Debian).")
    with tempfile.TemporaryDirectory(prefix="rmm-r-") as name:
        folder = Path(name)
        for table, frame in tables.items():
            if not _NAME.fullmatch(table):
                raise BackendError(f"The table {table!r} cannot be the name of a file.")
            frame.to_csv(folder / f"{table}.csv", index=False, na_rep="NA")
        answers = folder / "answers.csv"
        words = [f"{key}={_word(value)}" for key, value in code.arguments.items()]
        files = [str(code.path), str(folder / "data.csv"), str(answers), str(seed)]
        _run(code, [os.path.abspath(program), "--vanilla", *files, *words])
        return _read(code, answers)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _run(code: NamedCode, command: list[str]) -> None:
    """Run a command to its end, or to the time limit."""
    # Late: reading a study file needs no engines.
    from rmm.backends.child_processes import end_group, ending, start_group

    process = start_group(command, code.path.parent, environment())
    said = Tail(process.stdout)
    try:
        status = process.wait(timeout=code.timeout)
    except subprocess.TimeoutExpired:
        end_group(process)
        raise BackendTimeout(
            f"{code.written} did not finish within {code.timeout:g} s; its process has been ended."
        ) from None
    except BaseException:
        end_group(process)
        raise
    text = said.text()
    end_group(process)  # what it may have started
    if status != 0:
        raise BackendError(f"{code.written} ended with {ending(status)}: {text or 'no output'}")


def _read(code: NamedCode, answers: Path) -> list[dict[str, Any]]:
    # Late: reading a study file needs no pandas.
    from rmm.tables.read import read_table

    if not answers.is_file():
        raise BackendError(
            f"{code.written} wrote no estimates. Their file is the second argument: "
            "commandArgs(TRUE)[2]."
        )
    try:
        table = read_table(answers, text=("parameter", "status", "message"))
    except DataError as error:
        raise BackendError(f"{code.written} wrote a table that cannot be read: {error}") from None
    if "parameter" not in table:
        known = ", ".join(table.columns)
        raise BackendError(f"{code.written} wrote no column `parameter`. Columns: {known}.")
    return [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    return None if value != value else value
