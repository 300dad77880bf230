"""`rmm study plan|power|search`: how many replications, and how large a study."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.cli.common import plain
from rmm.errors import StudyError, counted
from rmm.tables.printed_table import table_lines

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
  rmm study plan config/studies/quickstart.yaml --target coverage "b_l1[x]" 0.01 \
      --target bias "b_l1[x]" 0.02
If you give --target, these are the targets. If you give --mcse, or if the study file has no key
`stopping`, the options --mcse, --measure and --parameter set the target. Otherwise, the targets are
those under `stopping`, and --measure and --parameter are not used.
Times, rates and standard errors are estimated from the finished fits of the study.
With several targets (--target, or `stopping`), the command prints the replications that each
scenario needs by its hardest target, and which target that is. With these targets under `stopping`,
a run ends each scenario there by itself.
To get such fits, set `replications: 50` in the study file and run the study (a pilot). When you
increase the number later, the finished fits are used again.
"""
POWER = """\
examples:
  rmm study power config/studies/power_groups.yaml
  rmm study power config/studies/power_groups.yaml --target 0.9 --json
The command reads results/NAME/performance.parquet, which the study has written. It runs no fits, so
it takes little time to try several targets. The key `power.size` of the study file names what
counts as the sample size. This is one of the settings that the study varies (the key `vary`), such
as the number of groups.
"""
SEARCH = """\
examples:
  rmm study search config/studies/power_groups.yaml --cores 8
The command uses these keys of the study file:
  power.target         the target power
  power.size           what counts as the sample size: a setting that the study varies (a key under
                       `vary`), such as the number of groups
  power.search.low     the smallest size that the command tries
  power.search.high    the largest size that the command tries
At each size that the command tries, it simulates and fits data sets. Fits are saved in
results/NAME: if you stop the command and run it again, it continues where it stopped. The result is
also written to results/NAME/search.json.
"""


def plan_options(parser: Any) -> None:
    """Options of `rmm study plan`."""
    parser.add_argument(
        "--mcse",
        type=float,
        metavar="ERROR",
        help="Monte Carlo standard error to reach; default: the targets in the study file, or 0.01 "
        "if it has none",
    )
    parser.add_argument(
        "--measure",
        default="rejection",
        metavar="NAME",
        help="performance measure to which --mcse applies; default: %(default)s",
    )
    parser.add_argument(
        "--parameter",
        metavar="NAME",
        help="parameter to which --mcse applies; default: all estimands of the study file",
    )
    parser.add_argument(
        "--target",
        nargs=3,
        action="append",
        metavar=("MEASURE", "PARAMETER", "ERROR"),
        help="a measure, a parameter, and their Monte Carlo standard error to reach; can be given "
        "several times; default: the targets in the study file, or --mcse",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=0.05,
        metavar="RATE",
        help="rejection rate that you expect. It changes only the first line of the output: the "
        "number of replications that are needed to estimate this rate with the target error; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--cores",
        type=int,
        default=1,
        metavar="N",
        help="cores that the study will use, to estimate its time; default: %(default)s",
    )


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
    places = {scenario.id: place for place, scenario in enumerate(study.scenarios)}
    each = planning.by_scenario(found, study.batch)
    each.sort(key=lambda one: places[one.scenario])
    paces = planning.paces(study, pilot)
    alike = {scenario.id: number or scenario.replications for scenario in study.scenarios}
    own = alike | {one.scenario: one.number for one in each if one.number is not None}
    methods = [_method_facts(study, pace, alike, options.cores) for pace in paces]
    apart = [_method_facts(study, pace, own, options.cores) for pace in paces]
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
        "by_scenario": [asdict(one) for one in each],
        "methods": methods,
        "methods_by_scenario": apart,
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

    if options.target:
        return [_target(study, one) for one in options.target]
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


def _target(study: Study, words: Sequence[str]) -> Target:
    """A target of the option --target."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.design.stopping_rule import Target, check_target
    from rmm.study.files.messages import StudyFileErrors

    measure, parameter, error = words
    try:
        mcse = float(error)
    except ValueError:
        mcse = math.nan
    if not mcse > 0:
        raise StudyError(f"--target: the error must be a number above 0, not {error!r}.")
    names = tuple(m.name for m in study.methods)
    one = {"measure": measure, "parameter": parameter, "methods": []}
    check_target("--target", one, study.estimands, names, StudyFileErrors(study.file))
    return Target(measure, parameter, names, mcse)


def _method_facts(
    study: Study, pace: Pace, numbers: Mapping[str, int], cores: int
) -> dict[str, Any]:
    """Time of one method with some replications of each scenario, or its own cap if that is less.

    Fits that scenarios share are counted once.
    """
    cap = study.method(pace.method).replications
    asked: dict[str, int] = {}
    for scenario in study.scenarios:
        place = study.fitted_in(scenario, pace.method).id
        asked[place] = max(numbers[scenario.id], asked.get(place, 0))
    wanted = list(asked.values())
    sizes = [min(count, cap or count) for count in wanted]
    hours, uncertain = pace.hours(sum(sizes), cores)
    return {
        "method": pace.method,
        "pilot_fits": pace.fits,
        "seconds_per_fit": pace.seconds,
        "replications": max(sizes),
        "fits": sum(sizes),
        "capped": sizes != wanted,
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
            f"For a Monte Carlo error of {facts['mcse']:g}, a rate near {facts['rate']:g} needs "
            f"{facts['replications_for_rate']:,} replications. A rate of 0.5 needs the most: "
            f"{facts['worst_case']:,}."
        ]
    if not found:
        return [
            *lines,
            f"{folder} has no finished fits. For an estimate of the time, set `replications: 50` "
            f"in {study.file}, run the study (a pilot), and run this command again. When you "
            "increase the number later, the fits of the pilot are used again.",
        ]
    lines += ["", "Replications that each target needs, in the scenario that needs most:"]
    lines += table_lines(
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
        lines += ["For one target the pilot has no usable fit, so no number can be recommended."]
    else:
        more = "enough" if study.replications >= number else "too few"
        lines += [
            f"Recommended: {counted(number, 'replication')} per scenario, including a margin for "
            f"the uncertainty of the pilot. The study file has {study.replications:,}: {more}."
        ]
    lines += _missing_lines(study, found)
    lines += _scenario_lines(facts, study)
    lines += [
        "",
        f"Time for these replications (scenarios: {len(study.scenarios):,}, cores: "
        f"{facts['cores']}):",
    ]
    return lines + _time_lines(facts["methods"])


def _missing_lines(study: Study, found: Sequence[Need]) -> list[str]:
    """Methods that fit fewer replications of a scenario than a target needs there."""
    scenarios = {scenario.id: scenario for scenario in study.scenarios}
    worst: dict[str, tuple[Need, int]] = {}
    for need in found:
        fits = study.replications_of(scenarios[need.scenario], study.method(need.method))
        known = worst.get(need.method)
        if need.needed is None or need.needed <= fits:
            continue
        if known is None or need.needed > (known[0].needed or 0):
            worst[need.method] = (need, fits)
    if not worst:
        return ["With the replications of the study file, every method reaches every target."]
    lines = ["With the replications of the study file, these methods miss a target:"]
    for need, fits in worst.values():
        lines += [
            f"    {need.method}: {fits:,} of {need.needed:,} replications for {need.measure} of "
            f"{need.parameter} (scenario {need.scenario})"
        ]
    return lines


#: Scenarios that are printed; --json has all.
_MOST_SCENARIOS = 40


def _scenario_lines(facts: dict[str, Any], study: Study) -> list[str]:
    """Replications by scenario, which target decides, and what that saves."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.run.progress import words

    each = facts["by_scenario"]
    if len(each) < 2:
        return []
    labels = {scenario.id: scenario.label for scenario in study.scenarios}
    rows = [("scenario", ", ".join(study.factors), "replications", "decided by")]
    for one in each[:_MOST_SCENARIOS]:
        need = one["deciding"]
        target = f"{need['measure']} of {need['parameter']}, mcse {need['target']:g}"
        number = "no pilot" if one["number"] is None else f"{one['number']:,}"
        rows.append(
            (one["scenario"], labels[one["scenario"]], number, f"{target}: {need['method']}")
        )
    lines = ["", "Replications that each scenario needs, by its hardest target:"]
    lines += table_lines(rows, "llrl")
    if len(each) > _MOST_SCENARIOS:
        lines += [
            f"    and {counted(len(each) - _MOST_SCENARIOS, 'more scenario')} (all with --json)"
        ]
    same, apart = (facts[name] for name in ("methods", "methods_by_scenario"))
    if all(one["pilot_fits"] for one in same) and facts["recommended"] is not None:
        fits, hours = (
            [sum(one[name] for one in every) for every in (apart, same)]
            for name in ("fits", "hours")
        )
        lines += [
            f"With these numbers: {counted(fits[0], 'fit')}, {words(3600 * hours[0])}; with the "
            f"largest number in every scenario: {counted(fits[1], 'fit')}, "
            f"{words(3600 * hours[1])}."
        ]
    if study.stopping is None:
        lines += ["To run them so, give the targets under `stopping` in the study file."]
    return lines


_HEAD = ("target", "mcse", "method", "pilot fits", "needed", "upper limit", "worst case")


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

    rows = [("method", "replications", "fits", "s per fit", "pilot fits", "time", "uncertainty")]
    for one in methods:
        timed = one["pilot_fits"] > 0
        rows.append(
            (
                one["method"],
                f"{one['replications']:,}",
                f"{one['fits']:,}",
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
    name = "total" if len(known) == len(methods) else "total of timed methods"
    fits = sum(one["fits"] for one in known)
    rows.append((name, "", f"{fits:,}", "", "", words(3600 * total), share))
    return table_lines(rows, " rrrrrr")


# -- power -----------------------------------------------------------------------------------


def run_power(study: Study, folder: Path, options: argparse.Namespace) -> int:
    """`rmm study power`: curves and the size for a target power."""
    # Late: `rmm --help` needs no libraries.
    from rmm.study.evaluate.power import power_curves, power_of
    from rmm.study.files.parquet import PERFORMANCE, read_table

    power = power_of(study)
    target = power.target if options.target is None else options.target
    if not 0 < target < 1:
        raise StudyError(f"--target must be between 0 and 1, not {target:g}.")
    path = folder / "performance.parquet"
    if not path.is_file():
        raise StudyError(f"{path} does not exist. Run the study first: {study.run_command}")
    curves = power_curves(study, read_table(path, schema=PERFORMANCE).to_pandas())
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
        f"Power of the test of {power.parameter} at level {power.alpha:g}, by {power.size}. Column "
        f"`size`: {power.size} that reach a power of {target:g}, with a 95% interval.\n"
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
    return table_lines(rows, "  " + "r" * len(sizes))


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
    print("\n".join(table_lines(rows, "   r")))
    return 0
