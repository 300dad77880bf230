"""Which functions a piece of code calls, in order, wherever their names are bound."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def recorded(
    functions: Mapping[str, Callable[..., Any]],
) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Calls of `functions` in the block: names, in order, with the arguments of each call."""
    codes = {inspect.unwrap(function).__code__: name for name, function in functions.items()}
    calls: list[tuple[str, dict[str, Any]]] = []

    def listen(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code in codes:
            count = frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount
            names = frame.f_code.co_varnames[:count]
            calls.append((codes[frame.f_code], {n: frame.f_locals[n] for n in names}))

    before = sys.getprofile()
    sys.setprofile(listen)
    try:
        yield calls
    finally:
        sys.setprofile(before)
