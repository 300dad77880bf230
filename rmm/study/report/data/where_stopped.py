"""Where the scenarios of a study with `stopping` ended, as facts of the report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rmm.errors import counted
from rmm.study.files.parquet import read_table


def stopping_facts(folder: Path, most: int = 12) -> list[tuple[str, str]]:
    """(what, how much) of ``stopping.parquet``; nothing for a study without `stopping`.

    Scenarios that ended alike are one line; of more than `most` lines the rest is counted.
    """
    path = folder / "stopping.parquet"
    if not path.is_file():
        return []
    rows = read_table(path, ["scenario", "words"]).to_pandas().drop_duplicates()
    alike = Counter(rows["words"])
    lines = [f"{n:,} scenario{'s' * (n != 1)} {words}" for words, n in alike.most_common(most)]
    left = sum(alike.values()) - sum(n for _, n in alike.most_common(most))
    lines += [f"and {counted(left, 'more scenario')} (stopping.parquet)"] if left else []
    return [("Stopping", "; ".join(lines))]
