"""The last words of a process, for the message about its end."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any

_READ = 1 << 16
_KEPT = 600  # bytes


class Tail:
    """The last bytes of a stream, read as they come: a full pipe would block who writes.

    Parameters
    ----------
    stream : file
        The end of a pipe that is read.
    """

    def __init__(self, stream: Any) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._follow, args=(stream,), daemon=True)
        self._thread.start()

    def _follow(self, stream: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(stream.fileno(), _READ):
                self._kept = (self._kept + data)[-_KEPT:]

    def text(self) -> str:
        """What was written last, once the writer has ended."""
        self._thread.join(timeout=2)
        return self._kept.decode(errors="replace").strip()
