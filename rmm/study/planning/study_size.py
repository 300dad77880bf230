"""What a large study needs besides its fits: files, time and memory.

The rates are those that `benchmarks/scale.md` measures, with batches of 100 fits by two methods
and one estimand; they serve to tell a study that fits a laptop from one that does not, not as a
forecast to the second. `tests/study/test_study_size.py` compares them with that table.
"""

from __future__ import annotations

from rmm.tables.memory_limits import available_memory, bytes_text

#: Per batch: files on disk, seconds and bytes of Snakemake's graph at each start.
FILES, START_SECONDS, START_BYTES = 3, 0.00104, 14_500
#: Per fit: seconds to collect, score and report, and bytes of the report, which takes most.
END_SECONDS, END_BYTES = 7.2e-5, 1390
#: What starting, and a report of few fits, take.
LEAST_SECONDS, LEAST_BYTES = 1.5, 250_000_000
#: Studies below both need no word about their size.
MANY_BATCHES, MANY_FITS = 5_000, 500_000
#: Above, Snakemake's graph takes minutes at each start.
TOO_MANY_BATCHES = 100_000


def size_notes(batches: int, fits: int) -> list[str]:
    """What a study needs besides its fits, and what to do if that is too much; empty if little.

    Parameters
    ----------
    batches, fits : int
        Numbers of the whole study.

    Returns
    -------
    list of str
        Sentences.
    """
    if batches < MANY_BATCHES and fits < MANY_FITS:
        return []
    end = LEAST_BYTES + END_BYTES * fits
    start = LEAST_BYTES + START_BYTES * batches
    notes = [
        f"This study is large. Besides its fits it needs about {FILES * batches:,} files; each "
        f"start takes about {_time(LEAST_SECONDS + START_SECONDS * batches)} and "
        f"{bytes_text(start)} of memory, and its end (collecting, scoring, the report) about "
        f"{_time(LEAST_SECONDS + END_SECONDS * fits)} and {bytes_text(end)}."
    ]
    if batches > TOO_MANY_BATCHES:
        times = -(-batches // TOO_MANY_BATCHES)
        notes.append(
            f"That are many batches: with a `batch` {times} times as large, there are "
            f"{-(-batches // times):,}. Numbers do not depend on it."
        )
    free = available_memory()
    if free is not None and max(start, end) > free:
        notes.append(
            f"This machine has {bytes_text(free)} of memory free, which is not enough. Put "
            "scenarios into several study files, with the same `seed`: each scenario has the same "
            "numbers in any of them."
        )
    return notes


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
