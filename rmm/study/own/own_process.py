"""The process that runs a user's Python function: calls come on standard input, answers go out.

It is started by its path and imports nothing of `rmm`. A crash, a time limit or the memory of a
user's code cannot hurt the job that started it, and the end of standard input ends it, whatever
its main thread does at that moment.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import io
import json
import os
import queue
import random
import signal
import struct
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa

_FRAME = struct.Struct(">4sIQ")
_MAGIC = b"rmmo"
#: Exit status where memory did not even suffice to read a call or to send an answer.
NO_MEMORY = 86
#: Rows of the answer of a method; more are a mistake.
_MOST_ROWS = 10_000

Message = tuple[dict[str, Any], dict[str, pd.DataFrame]]


# -- messages: a JSON header and tables as Arrow, never pickle ---------------------------------


def pack(header: Mapping[str, Any], tables: Mapping[str, pd.DataFrame] | None = None) -> bytes:
    """One message: magic and two lengths, a JSON header, then the tables as Arrow streams."""
    tables = tables or {}
    streams = [_stream(table) for table in tables.values()]
    sizes = [len(stream) for stream in streams]
    head = json.dumps({**header, "tables": list(tables), "sizes": sizes}).encode()
    return b"".join((_FRAME.pack(_MAGIC, len(head), sum(sizes)), head, *streams))


def _stream(table: pd.DataFrame) -> bytes:
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    out = io.BytesIO()
    with pa.ipc.new_stream(out, arrow.schema) as writer:
        writer.write_table(arrow)
    return out.getvalue()


def message_length(start: bytes | bytearray) -> int | None:
    """Length of the message that begins with `start`; None while too few bytes are there.

    Raises
    ------
    ValueError
        If `start` is not the beginning of a message.
    """
    if len(start) < _FRAME.size:
        return None
    magic, head, body = _FRAME.unpack(bytes(start[: _FRAME.size]))
    if magic != _MAGIC:
        raise ValueError(f"not a message: {bytes(start[:16])!r}")
    return int(_FRAME.size + head + body)


def unpack(message: bytes) -> Message:
    """Header and tables of one message."""
    _, head, _ = _FRAME.unpack(message[: _FRAME.size])
    place = _FRAME.size + head
    header = json.loads(message[_FRAME.size : place])
    tables = {}
    for name, size in zip(header.pop("tables"), header.pop("sizes"), strict=True):
        tables[name] = pa.ipc.open_stream(message[place : place + size]).read_pandas()
        place += size
    return header, tables


# -- the user's file ---------------------------------------------------------------------------


def load_function(path: Path, name: str, digest: str) -> Callable[..., Any]:
    """The function of a file whose text has this SHA-256.

    Raises
    ------
    ValueError
        If the text is another one than when the study was read.
    """
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise ValueError("the file was changed while the study was running; start it again")
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    function = getattr(module, name)
    if not callable(function):
        raise TypeError(f"{name} is not a function")
    return function


def where(error: BaseException, folder: Path) -> str:
    """``ValueError: no edges (my_data.py, line 12, in draw)``: the last line of the user's own."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).parent == folder]
    place = ""
    if own:
        place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name})"
    elif isinstance(error, SyntaxError) and error.filename:
        place = f" ({Path(error.filename).name}, line {error.lineno})"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {said or 'no message'}{place}"


# -- what a function gets ----------------------------------------------------------------------


def generator(seed: Mapping[str, Any]) -> np.random.Generator:
    """The random generator of an address; the global generators follow from it, too."""
    sequence = np.random.SeedSequence(seed["entropy"], spawn_key=tuple(seed["spawn_key"]))
    first = int(sequence.generate_state(1)[0])
    random.seed(first)
    np.random.seed(first)  # noqa: NPY002  code of users may draw from it
    return np.random.Generator(np.random.Philox(sequence))


def call(function: Callable[..., Any], header: dict[str, Any], tables: Any) -> Message:
    """Call the function as the header says."""
    rng = generator(header["seed"])
    if header["what"] == "data":
        return data_answer(function(rng, **header["arguments"]))
    data = next(iter(tables.values())) if len(tables) == 1 else tables
    scenario = types.SimpleNamespace(**header["scenario"])
    return method_answer(function(data, scenario, rng, **header["arguments"])), {}


def accepts(function: Callable[..., Any], header: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the function takes what it would be called with."""
    given = ("rng",) if header["what"] == "data" else ("data", "scenario", "rng")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of compiled code: the first call tells
        return {"kind": "accepts"}
    try:
        signature.bind(*given, **header["arguments"])
    except TypeError as error:
        return {"kind": "error", "message": f"its arguments are {signature}: {error}"}
    return {"kind": "accepts"}


# -- what a function returns -------------------------------------------------------------------


def method_answer(found: Any) -> dict[str, Any]:
    """Estimates of a method as plain rows: ``[{"parameter": ..., "estimate": ..., ...}, ...]``.

    Raises
    ------
    TypeError
        For anything else than a mapping, a Series or a table of estimates, with or without a
        mapping of `status` and `message` after it.
    """
    said: Mapping[str, Any] = {}
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping):
        found, said = found
    if isinstance(found, pd.DataFrame):
        rows = _rows_of_table(found)
    elif isinstance(found, pd.Series | Mapping):
        rows = [_row(name, value) for name, value in found.items()]
    else:
        raise TypeError(
            f"the function returned {_kind(found)}; it must return a dict such as "
            "{'b_l1[x]': {'estimate': 1.0, 'se': 0.2}}, or a DataFrame with a column `parameter`"
        )
    if len(rows) > _MOST_ROWS:
        raise ValueError(f"the function returned {len(rows):,} estimates; at most {_MOST_ROWS:,}")
    return {"kind": "answer", "rows": rows, "said": {k: str(v) for k, v in said.items()}}


def _rows_of_table(table: pd.DataFrame) -> list[dict[str, Any]]:
    if "parameter" not in table:
        table = table.rename_axis("parameter").reset_index()
    return [{str(k): plain(v) for k, v in row.items()} for row in table.to_dict("records")]


def _row(name: Any, value: Any) -> dict[str, Any]:
    fields = dict(value) if isinstance(value, pd.Series | Mapping) else {"estimate": value}
    return {"parameter": str(name), **{str(k): plain(v) for k, v in fields.items()}}


def plain(value: Any) -> float | str | None:
    """A number or text of an answer.

    Raises
    ------
    TypeError
        For a value that is neither.
    """
    if value is None or value is pd.NA:
        return None
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"the function returned {_kind(value)} where a number is needed")
    return value if isinstance(value, str) else float(value)


def _kind(value: Any) -> str:
    return "nothing (None)" if value is None else f"a value of type {type(value).__name__}"


def data_answer(found: Any) -> Message:
    """Tables and true values of a data function.

    Raises
    ------
    TypeError
        For anything else than a table, or a mapping of tables, with or without a mapping of true
        values after it.
    """
    truth: Mapping[str, Any] = {}
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], pd.Series | Mapping):
        found, truth = found
    if isinstance(found, Mapping) and all(isinstance(t, pd.DataFrame) for t in found.values()):
        tables = {str(name): table for name, table in found.items()}
    elif isinstance(found, pd.DataFrame):
        tables = {"data": found}
    else:
        raise TypeError(
            f"the function returned {_kind(found)}; it must return a DataFrame, or a dict of "
            "them, and a dict of true values: `return frame, {'b_l1[x]': 1.0}`"
        )
    if "data" not in tables:
        raise ValueError(
            f"one of several tables must be called 'data'; they are called {', '.join(tables)}"
        )
    true = {str(name): plain(value) for name, value in truth.items()}
    return {"kind": "answer", "truth": true}, tables


# -- the loop ----------------------------------------------------------------------------------


def _read_messages(source: BinaryIO, calls: queue.SimpleQueue[bytes]) -> None:
    """Hand over calls; the end of input is the end of this process and of all it started."""
    try:
        _hand_over(source, calls)
    except MemoryError:
        os._exit(NO_MEMORY)


def _hand_over(source: BinaryIO, calls: queue.SimpleQueue[bytes]) -> None:
    while True:
        start = source.read(_FRAME.size)
        length = message_length(start) if start else None
        rest = source.read(length - _FRAME.size) if length else b""
        if length is None or len(start) + len(rest) < length:
            with contextlib.suppress(OSError):
                os.killpg(os.getpgrp(), signal.SIGKILL)
            os._exit(0)
        calls.put(start + rest)


def _answered(act: Callable[[], Message | dict[str, Any]], folder: Path) -> bytes:
    """An answer as bytes; whatever the user's code raises is an answer, too."""
    try:
        found = act()
        return pack(*found) if isinstance(found, tuple) else pack(found)
    except BaseException as error:  # noqa: BLE001  SystemExit of the user's code as well
        return pack({"kind": "error", "message": where(error, folder)})


def main(arguments: Sequence[str]) -> None:
    """Load a function, say so, and answer calls until the input ends."""
    path, name, digest = Path(arguments[0]), arguments[1], arguments[2]
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the code prints is no answer
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_messages, args=(source, calls), daemon=True).start()
    functions: list[Callable[..., Any]] = []

    def load() -> dict[str, Any]:
        functions.append(load_function(path, name, digest))
        return {"kind": "ready"}

    answers.write(_answered(load, path.parent))
    answers.flush()
    while functions:
        header, tables = unpack(calls.get())
        asked, _, what = header["what"].rpartition(" ")
        header["what"] = what
        if asked:
            act: Any = functools.partial(accepts, functions[0], header)
        else:
            act = functools.partial(call, functions[0], header, tables)
        answers.write(_answered(act, path.parent))
        answers.flush()


def _run() -> None:
    """`main`, then the end without Python's own shutdown: it may abort, as a thread still reads."""
    status = 0
    try:
        main(sys.argv[1:])
    except MemoryError:
        status = NO_MEMORY
    except BaseException:  # noqa: BLE001  whatever it was, the parent reads it
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _run()
