"""Run the arsenal: ``python -m tests.attack [--share 20] [--seed 1] [--only NAME]``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from itertools import islice
from pathlib import Path

from tests.attack import (
    Attack,
    clocks_and_copies,
    damaged_results,
    full_disks,
    hostile_labels,
    hostile_studies,
    links,
    planted_code,
    processes,
    saved_fits,
)

ARSENAL: tuple[Attack, ...] = (
    *damaged_results.ATTACKS,
    *clocks_and_copies.ATTACKS,
    *saved_fits.ATTACKS,
    *full_disks.ATTACKS,
    *hostile_labels.ATTACKS,
    *hostile_studies.ATTACKS,
    *links.ATTACKS,
    *planted_code.ATTACKS,
    *processes.ATTACKS,
)


def broken_cases(attack: Attack, number: int, seed: int, folder: Path) -> list[str]:
    """What broke in some cases of an attack."""
    draw = random.Random(f"{seed} {attack.name}")
    return [broken for broken in islice(attack.cases(draw, folder), number) if broken]


def main() -> int:
    """Print a table of what was tried and what broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--share", type=int, default=1, help="run one case of so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="part of the names of attacks")
    options = parser.parse_args()
    print("| attack | tried | broken |\n|---|---|---|")
    tried = failed = 0
    for attack in (one for one in ARSENAL if options.only in one.name):
        number = max(1, attack.number // options.share)
        with tempfile.TemporaryDirectory() as folder:
            broken = broken_cases(attack, number, options.seed, Path(folder))
        print(f"| {attack.name} | {number:,} | {len(broken)} |", flush=True)
        for text in broken[:5]:
            print(f"{attack.name}: {text[:500]}", file=sys.stderr)
        tried, failed = tried + number, failed + len(broken)
    print(f"| all | {tried:,} | {failed} |")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
