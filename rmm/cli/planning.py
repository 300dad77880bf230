"""`rmm study plan|power|search`: how many replications, and how large a study."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.cli.common import aligned, plain
from rmm.errors import StudyError

if TYPE_CHECKING:
    from rmm.study import Study
    from rmm.study.design.stopping_rule import Target
    from rmm.study.evaluate.power import Point, PowerCurve
    from rmm.study.planning.replications import Need, Pace

PLAN = """\
examples:
  rmm study plan config/studies/quickstart.yaml --cores 8
  rmm study plan config/studies/quickstart.yaml --mcse 0.005 --measure rejection
  rmm study plan config/studies/quickstart.yaml --mcse 0.02 --measure bias --parameter "b_l1[x]"
Targets are those of the file's `stopping`, or what the options say. Times, rates and standard
errors come from the fits that results/NAME already holds. A pilot is the same study with few
replications, 50 say: what it computes is kept.
"""
POWER = """\
examples:
  rmm study power config/studies/power_groups.yaml
  rmm study power config/studies/power_groups.yaml --target 0.9 --json
From results/NAME/performance.parquet: another target needs no fit.
"""
SEARCH = """\
examples:
  rmm study search config/studies/power_groups.yaml --cores 8
Fits at sizes between `power.search.low` and `high`, keeps them in results/NAME, and goes on where
it was ended. The answer is in results/NAME/search.json.
"""


def plan_options(parser: Any) -> None:
    """Options of `rmm study plan`."""
    parser.add_argument("--mcse", type=float, help="target; default: those of the file, or 0.01")
    parser.add_argument(
        "--measure", default="rejection", help="with --mcse: of what; default: %(default)s"
    )
    parser.add_argument("--parameter", metavar="NAME", help="with --mcse; default: all estimands")
    parser.add_argument(
        "--rate",
        type=float,
        default=0.05,
        help="expected rate of rejection or non-coverage; default: %(default)s",
    )
    parser.add_argument("--cores", type=int, default=1, help="default: %(default)s")


def run_plan(study: Study, folder: Path, options: argparse.Namespace) -> int:
    """`rmm study plan`: replications for target errors, and their time, from a pilot."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.planning import replications as planning

    mcse = 0.01 if options.mcse is None else options.mcse
    if not mcse > 0 or not 0 < options.rate < 1 or options.cores < 1:
        raise StudyError("--mcse must be above 0, --rate between 0 and 1, and --cores at least 1.")
    targets = _targets(study, options, mcse)
    pilot = planning.read_pilot(study, folder)
    found = planning.needs(study, pilot, targets)
    number = planning.recommended(found, study.batch)
    methods = [
        _method_facts(study, pace, number, options.cores) for pace in planning.paces(study, pilot)
    ]
    facts = {
        "mcse": mcse,
        "rate": options.rate,
        "cores": options.cores,
        "replications_for_rate": planning.replications_for_rate(mcse, options.rate),
        "worst_case": planning.replications_for_rate(mcse),
        "scenarios": len(study.scenarios),
        "replications": study.replications,
        "recommended": number,
        "needs": [asdict(need) for need in found],
        "methods": methods,
    }
    if options.json:
        print(json.dumps(plain(facts), indent=2))
    else:
        print("\n".join(_plan_lines(facts, study, folder, targets, found)))
    return 0


def _targets(study: Study, options: argparse.Namespace, mcse: float) -> list[Target]:
    # Late: `rmm --help` needs no libraries.
    from rmm.study.design.stopping_rule import Target, check_target
    from rmm.study.files.messages import StudyFileErrors

    if options.mcse is None and study.stopping is not None:
        return list(study.stopping.targets)
    names = tuple(m.name for m in study.methods)
    known = [e.parameter for e in study.estimands]
    wanted = [options.parameter] if options.parameter else known
    for parameter in wanted:
        one = {"measure": options.measure, "parameter": parameter, "methods": []}
        check_target(
            "the options' target", one, study.estimands, names, StudyFileErrors(study.file)
        )
    return [Target(options.measure, parameter, names, mcse) for parameter in wanted]


def _method_facts(study: Study, pace: Pace, number: int | None, cores: int) -> dict[str, Any]:
    """Time of one method: with its own cap, where that is below the recommended number."""
    cap = study.method(pace.method).replications
    wanted = study.replications if number is None else number
    each = min(wanted, cap or wanted)
    hours, uncertain = pace.hours(each * len(study.scenarios), cores)
    return {
        "method": pace.method,
        "pilot_fits": pace.fits,
        "seconds_per_fit": pace.seconds,
        "replications": each,
        "capped": each < wanted,
        "hours": hours,
        "uncertain": uncertain / hours if hours > 0 else math.nan,
    }


def _plan_lines(
    facts: dict[str, Any],
    study: Study,
    folder: Path,
    targets: Sequence[Target],
    found: Sequence[Need],
) -> list[str]:
    lines = []
    if not study.stopping or facts["mcse"] != 0.01:
        lines += [
            f"A rate near {facts['rate']:g} within {facts['mcse']:g} (Monte Carlo error) "
            f"needs {facts['replications_for_rate']:,} replications, any rate at most "
            f"{facts['worst_case']:,}."
        ]
    if not found:
        return [
            *lines,
            f"No fits in {folder} yet. A pilot: set `replications: 50` in "
            f"{study.file}, run it, and ask again; its fits are kept.",
        ]
    lines += ["", "Replications per scenario, of the scenario that needs most:"]
    lines += aligned(
        [
            _HEAD,
            *(
                _need_cells(target, method, found, study)
                for target in targets
                for method in target.methods
            ),
        ],
        "lrlrrrr",
    )
    number = facts["recommended"]
    lines += [""]
    if number is None:
        lines += ["A target has no usable fit in the pilot: nothing is recommended."]
    else:
        more = "enough" if study.replications >= number else "too few"
        lines += [
            f"Recommended: {number:,} replications, the pilot's uncertainty allowed for "
            f"(the file says {study.replications:,}: {more})."
        ]
    lines += [
        "",
        f"Time for them in all {len(study.scenarios):,} scenarios on {facts['cores']} core(s):",
    ]
    return lines + _time_lines(facts["methods"])


_HEAD = ("target", "mcse", "method", "pilot", "needed", "up to", "worst case")


def _need_cells(
    target: Target, method: str, found: Sequence[Need], study: Study
) -> tuple[str, ...]:
    same = (target.measure, target.parameter, target.mcse, method)
    mine = [n for n in found if (n.measure, n.parameter, n.target, n.method) == same]
    most = max(mine, key=lambda n: n.needed or 0, default=None)
    numbers = [None] * 4 if most is None else [most.pilot, most.needed, most.up_to, most.worst]
    cap = study.method(method).replications
    needed = most.needed if most is not None else None
    name = f"{method} (fits {cap:,})" if cap and needed and needed > cap else method
    return (
        f"{target.measure} of {target.parameter}",
        f"{target.mcse:g}",
        name,
        *("-" if n is None else f"{n:,}" for n in numbers),
    )


def _time_lines(methods: Sequence[dict[str, Any]]) -> list[str]:
    # Late: `rmm --help` needs no libraries.
    from rmm.study.run.progress import words

    rows = [("method", "replications", "s per fit", "pilot fits", "time", "uncertain")]
    for one in methods:
        timed = one["pilot_fits"] > 0
        rows.append(
            (
                one["method"],
                f"{one['replications']:,}",
                f"{one['seconds_per_fit']:.3g}" if timed else "-",
                f"{one['pilot_fits']:,}",
                words(3600 * one["hours"]) if timed else "not timed",
                f"±{one['uncertain']:.0%}" if math.isfinite(one["uncertain"]) else "-",
            )
        )
    known = [one for one in methods if one["pilot_fits"]]
    total = sum(one["hours"] for one in known)
    spread = math.sqrt(sum((one["hours"] * one["uncertain"]) ** 2 for one in known))
    share = f"±{spread / total:.0%}" if total and math.isfinite(spread) else "-"
    rows.append(("all that are timed", "", "", "", words(3600 * total), share))
    return aligned(rows, " rrrrr")


# -- power -----------------------------------------------------------------------------------


def run_power(study: Study, folder: Path, options: argparse.Namespace) -> int:
    """`rmm study power`: curves and the size for a target power."""
    # Late: `rmm --help` needs no libraries.
    import pandas as pd

    # Late: `rmm --help` needs no libraries.
    from rmm.study.evaluate.power import power_curves, power_of

    power = power_of(study)
    target = power.target if options.target is None else options.target
    if not 0 < target < 1:
        raise StudyError(f"--target must be between 0 and 1, not {target:g}.")
    path = folder / "performance.parquet"
    if not path.is_file():
        raise StudyError(
            f"{path} does not exist. Run the study first: snakemake --cores N --config "
            f"study={study.file}"
        )
    curves = power_curves(study, pd.read_parquet(path))
    if options.json:
        facts = {
            "parameter": power.parameter,
            "alpha": power.alpha,
            "target": target,
            "size": power.size,
            "curves": [_curve_facts(c, target) for c in curves],
        }
        print(json.dumps(plain(facts), indent=2))
        return 0
    print(
        f"Power of the test of {power.parameter} at alpha {power.alpha:g}, by {power.size}; "
        f"{power.size} for a power of {target:g}, with 95% intervals.\n"
    )
    print("\n".join(_power_lines(curves, target)))
    return 0


def _curve_facts(found: PowerCurve, target: float) -> dict[str, Any]:
    size = found.size(target)
    points = [{**asdict(p), "power": p.power, "mcse": p.mcse} for p in found.points]
    return {
        "method": found.method,
        "setting": dict(found.setting),
        "points": points,
        "size": size.value,
        "low": size.low,
        "high": size.high,
        "words": size.words(),
        "p_fit": found.curve.p_fit if found.curve else None,
        "note": found.note(),
    }


def _power_lines(curves: Sequence[PowerCurve], target: float) -> list[str]:
    sizes = sorted({point.size for found in curves for point in found.points})
    rows = [("method", "setting", *(f"{n:,}" for n in sizes), "size", "note")]
    for found in curves:
        at = {point.size: _power_words(point) for point in found.points}
        rows.append(
            (
                found.method,
                found.label,
                *(at.get(n, "-") for n in sizes),
                found.size(target).words(),
                found.note(),
            )
        )
    return aligned(rows, "  " + "r" * len(sizes))


def _power_words(point: Point) -> str:
    """Power with its Monte Carlo error, or with its interval where none or all reject."""
    if not point.n:
        return "no fits"
    if point.hits in (0, point.n):
        return f"{point.power:.3f} [{', '.join(f'{end:.3f}' for end in point.interval)}]"
    return f"{point.power:.3f} ({point.mcse:.3f})"


def run_search(study: Study, folder: Path, options: argparse.Namespace) -> int:
    """`rmm study search`: the size for the target power, by simulation where it is."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.planning.size_search_fits import search_study

    if options.cores < 1:
        raise StudyError(f"--cores must be at least 1, not {options.cores}.")

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    facts = search_study(study, folder, cores=options.cores, say=say)
    if options.json:
        print(json.dumps(plain(facts), indent=2))
        return 0
    rows = [("method", "setting", str(facts["size"]), "fits", "ended")]
    for one in facts["results"]:
        setting = ", ".join(f"{k} {v}" for k, v in one["setting"].items())
        rows.append((one["method"], setting, one["words"], f"{one['fits']:,}", one["reason"]))
    print("\n".join(aligned(rows, "   r")))
    return 0
