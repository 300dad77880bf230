"""JSON files that carry a digest of their content: an altered one counts as missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmm.study.files import seeds
from rmm.study.files.parquet import write_text

_DIGEST = "sha256"


def write_record(facts: Mapping[str, Any], path: Path) -> None:
    """Write facts as JSON with their digest; `path` holds all of it or keeps what it had."""
    write_text(json.dumps({**facts, _DIGEST: seeds.digest(facts)}, indent=2) + "\n", path)


def read_record(path: Path) -> dict[str, Any] | None:
    """The facts of `write_record`; None for a file that is missing or was altered."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        kept = facts.pop(_DIGEST)
        return facts if isinstance(facts, dict) and seeds.digest(facts) == kept else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
