"""Seeds are addresses: every random number follows from what it is for, never from the order.

Data of replication r of a scenario depend on (study seed, content of the scenario, r) alone;
the chains of a method on that and the content of the method. So cores, batch size, order, more
replications, a new scenario or a new method change nothing that exists.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

_WORDS = 4  # 4 x 32 bits of a content's hash go into the entropy


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no blanks, whole floats as integers (1.0 is 1)."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, as hexadecimal text."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def text_digest(text: str) -> str:
    """16 hexadecimal digits of the SHA-256 of a text: to see whether a line was altered."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def short_id(prefix: str, value: Any) -> str:
    """`prefix` and 10 hexadecimal digits: the name of a content."""
    return prefix + digest(value)[:10]


def generator(seed: int, content: str, *keys: int | str) -> np.random.Generator:
    """Random generator of an address.

    Parameters
    ----------
    seed : int
        The study's.
    content : str
        `digest` of what is drawn.
    *keys : int or str
        Replication, or the name of a part that is drawn once.
    """
    sequence = np.random.SeedSequence(**words(seed, content, *keys))
    return np.random.Generator(np.random.Philox(sequence))


def words(seed: int, content: str, *keys: int | str) -> dict[str, Any]:
    """``entropy`` and ``spawn_key`` of the `numpy.random.SeedSequence` of `generator`."""
    return {"entropy": _entropy(seed, content), "spawn_key": _spawn(keys)}


def chain_seed(seed: int, scenario: str, replication: int | str, method: str) -> int:
    """Seed, 0 <= seed < 2**31, of the chains of one fit; `scenario` and `method` are digests."""
    address = f"{seed}/{scenario}/{replication}/{method}"
    return int.from_bytes(hashlib.sha256(address.encode()).digest()[:4]) >> 1


def _entropy(seed: int, content: str) -> list[int]:
    words = [int(content[8 * i : 8 * i + 8], 16) for i in range(_WORDS)]
    return [seed, *words]


def _spawn(keys: tuple[int | str, ...]) -> tuple[int, ...]:
    return tuple(
        k if isinstance(k, int) else int.from_bytes(hashlib.sha256(k.encode()).digest()[:4])
        for k in keys
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes: an address does not depend on where a file lies."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
