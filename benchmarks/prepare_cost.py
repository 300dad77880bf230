"""CPU time of `prepare` in two checkouts, side by side.

    python benchmarks/prepare_cost.py PATH_BEFORE [PATH_AFTER] [--groups 120] [--rounds 5]

Each checkout runs in a process of its own, in turns, so that a busy machine slows both. The least
CPU time of a call counts: it has nothing of other processes but what they take from the caches.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

MODELS = {
    "regression": "y ~ 1 + z + region",
    "known weights": "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)",
    "estimated weights": "y ~ 1 + z + region + mm(id(pid, gid), vars(x + lead),"
    " fn(w ~ 1/(1 + (n - 1)*exp(-(b1*s)))), RE=TRUE) + hm(id=cid)",
}

#: What each process runs: the least CPU milliseconds of each model, a line each.
_MEASURE = """
import sys, time, warnings
root, groups, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.path[:0] = [root, root + "/tests"]
import rmm
assert rmm.__file__.startswith(root), rmm.__file__
from tests.coalitions import made_up_coalitions
from rmm.design.prepare import prepare
warnings.simplefilter("ignore")
table = made_up_coalitions(groups=groups)
for formula in sys.argv[4:]:
    data, times = table if "mm(" in formula else table.drop_duplicates("gid"), []
    for _ in range(repeats):
        start = time.process_time()
        prepare(formula, data)
        times.append(time.process_time() - start)
    print(1000 * min(times))
"""


def measure(root: Path, groups: int, repeats: int) -> list[float]:
    """Least CPU milliseconds of `prepare` for each model, in one checkout."""
    command = [sys.executable, "-c", _MEASURE, str(root), str(groups), str(repeats)]
    run = subprocess.run([*command, *MODELS.values()], capture_output=True, text=True, check=True)
    return [float(line) for line in run.stdout.split()]


def main() -> None:
    """Print a table: model, milliseconds before and after, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?", default=Path(__file__).parents[1])
    parser.add_argument("--groups", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    roots = given.before.resolve(), given.after.resolve()
    least = [[float("inf")] * len(MODELS) for _ in roots]
    for _ in range(given.rounds):
        for i, root in enumerate(roots):
            found = measure(root, given.groups, 15)
            least[i] = [min(a, b) for a, b in zip(least[i], found, strict=True)]
    print(f"{'CPU ms of prepare':20} {'before':>8} {'after':>8} {'ratio':>6}")
    for name, before, after in zip(MODELS, *least, strict=True):
        print(f"{name:20} {before:8.2f} {after:8.2f} {after / before:6.2f}")


if __name__ == "__main__":
    main()
