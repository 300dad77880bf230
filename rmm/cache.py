"""Where compiled programs and downloaded data are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """``RMM_CACHE``, else the user's cache folder of `rmm`."""
    chosen = os.environ.get("RMM_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    return Path(platformdirs.user_cache_dir("rmm"))
