"""Simulation-based calibration of the Gaussian model with estimated weights.

Draw the truth from the prior, data from the truth, fit; then the rank of the truth among
(nearly independent) posterior draws is uniform if simulator, program, engine and priors all say
the same: Cook, Gelman & Rubin (2006); Talts et al. (2018). Run it with::

    python -m rmm.study.calibration --backend jags --datasets 200

Every finished data set is a file, so a run that was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import rmm
from rmm.errors import RmmError, StudyError
from rmm.simulation import simulate
from rmm.study import addresses
from rmm.study.fitting import parameter_draws
from rmm.study.results import write_text

Array = np.ndarray[Any, Any]

FORMULA = (
    "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*power)))), RE = TRUE)"
)
#: Explicit and proper; half-normal for standard deviations. Location, scale.
PRIORS: dict[str, tuple[str, float, float]] = {
    "b_l2[Intercept]": ("normal", 0.0, 1.0),
    "b_l2[z]": ("normal", 0.0, 1.0),
    "b_l1[x]": ("normal", 0.0, 1.0),
    "b_w[b1]": ("normal", 0.0, 1.0),
    "sigma_l1": ("half_normal", 0.0, 1.0),
    "sigma_l2": ("half_normal", 0.0, 1.0),
}
MEMBERSHIP: dict[str, Any] = {
    "kind": "synthetic",
    "groups": 80,
    "members": 25,
    "size": {"distribution": "uniform", "low": 1, "high": 5},
    "overlap": 0.8,
}
COVARIATES: dict[str, dict[str, Any]] = {
    "x": {"level": "member"},
    "z": {"level": "group"},
    "power": {"level": "membership"},
}
KEPT = 99  # draws among which the truth is ranked: 100 possible ranks
_BINS = 20
_NULL_SETS = 4000  # simulated uniform rank sets for the ECDF test


@dataclass(frozen=True)
class Plan:
    """What is run; data set i depends on seed and i alone."""

    backend: str
    seed: int = 1
    chains: int = 4
    warmup: int = 500
    draws: int = 1000

    @property
    def address(self) -> str:
        """Digest of everything that ranks depend on."""
        model = [FORMULA, {k: list(v) for k, v in PRIORS.items()}, MEMBERSHIP, COVARIATES, KEPT]
        # The program belongs to the address: ranks of an older one are not those of this one.
        return addresses.digest([model, vars(self), rmm.program(FORMULA, backend=self.backend)])


def prior_statements() -> dict[str, str]:
    """`PRIORS` in the language of `rmm.fit`."""
    return {
        name: f"half_normal({scale:g})"
        if family == "half_normal"
        else f"normal({location:g}, {scale:g})"
        for name, (family, location, scale) in PRIORS.items()
    }


def draw_truth(rng: np.random.Generator) -> dict[str, float]:
    """One truth from the prior."""
    out = {}
    for name, (family, location, scale) in PRIORS.items():
        value = location + scale * float(rng.standard_normal())
        out[name] = abs(value) if family == "half_normal" else value
    return out


def rank_one(plan: Plan, number: int) -> dict[str, Any]:
    """Simulate and fit one data set.

    Returns
    -------
    dict
        number, address, truth, ranks (parameter -> 0..KEPT), max_rhat, converged, seconds.
    """
    rng = addresses.generator(plan.seed, addresses.digest("calibration"), number)
    truth = draw_truth(rng)
    simulated = simulate(
        FORMULA,
        truth,
        membership=MEMBERSHIP,
        covariates=COVARIATES,
        seed=int(rng.integers(2**31)),
    )
    with warnings.catch_warnings():
        # A fit is ranked whether or not it converged: leaving some out would bias the ranks.
        warnings.simplefilter("ignore")
        fit = rmm.fit(
            FORMULA,
            simulated.data,
            backend=plan.backend,
            priors=prior_statements(),
            chains=plan.chains,
            warmup=plan.warmup,
            draws=plan.draws,
            seed=int(rng.integers(2**31)),
            cores=1,
            monitor="structural",
            progress=False,
        )
    draws = parameter_draws(fit, {})
    diagnostics = fit.diagnostics()
    return {
        "number": number,
        "address": plan.address,
        "truth": truth,
        "ranks": {name: rank(draws[name], value) for name, value in truth.items()},
        "max_rhat": float(diagnostics["max_rhat"]),
        "converged": bool(fit.converged),
        "seconds": float(diagnostics["seconds"]),
    }


def rank(draws: Array, truth: float) -> int:
    """How many of `KEPT` evenly spaced draws are below the truth."""
    kept = draws[np.linspace(0, len(draws) - 1, KEPT).round().astype(int)]
    return int(np.sum(kept < truth))


# -- running ---------------------------------------------------------------------------------


def run(plan: Plan, datasets: int, folder: Path, *, cores: int = 1) -> list[dict[str, Any]]:
    """Rank `datasets` data sets; those with a file in `folder` are not fitted again.

    Raises
    ------
    StudyError
        If a file there was made with other settings.
    """
    done = read(folder, plan)
    todo = [number for number in range(1, datasets + 1) if number not in done]
    tasks = [(plan, number, folder) for number in todo]
    # Each process saves what it has finished: nothing waits for a slower neighbour.
    if cores == 1:
        results = map(_rank_and_save, tasks)
        _gather(results, done, datasets)
    else:
        with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
            _gather(pool.map(_rank_and_save, tasks), done, datasets)
    return [done[number] for number in sorted(done) if number <= datasets]


def _gather(
    results: Iterable[dict[str, Any]], done: dict[int, dict[str, Any]], datasets: int
) -> None:
    for found in results:
        done[int(found["number"])] = found
        print(f"data set {found['number']} of {datasets}", file=sys.stderr, flush=True)


def _rank_and_save(task: tuple[Plan, int, Path]) -> dict[str, Any]:
    plan, number, folder = task
    found = rank_one(plan, number)
    write_text(json.dumps(found), folder / f"{number:06d}.json")
    return found


def read(folder: Path, plan: Plan) -> dict[int, dict[str, Any]]:
    """Finished data sets of a folder, by number."""
    out: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("[0-9]*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["address"] != plan.address:
            raise StudyError(
                f"{path} was made with other settings (backend, seed, chains, draws, model).\n"
                "  Give another --folder, or delete this one."
            )
        out[int(found["number"])] = found
    return out


# -- uniformity ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Uniformity:
    """Tests of one parameter's ranks: p values, and what the ranks look like."""

    parameter: str
    chi_square: float
    ecdf: float
    mean_rank: float
    sd_ratio: float


def chi_square_p(ranks: Array, bins: int = _BINS) -> float:
    """P value of the chi-square test of equal counts in `bins` bins of ranks 0..KEPT."""
    counts = np.bincount(np.asarray(ranks) * bins // (KEPT + 1), minlength=bins)
    return float(stats.chisquare(counts).pvalue)


def ecdf_p(ranks: Array, null: Array | None = None) -> float:
    """P value of the largest deviation of the ranks' ECDF from the uniform one.

    The deviation at each rank is measured by its binomial tail probability, so that all ranks
    count alike; the distribution of the smallest such probability is simulated: Saeilynoja,
    Buerkner & Vehtari (2022), Statistics and Computing 32, section 2.

    Parameters
    ----------
    ranks : (N,) int array
    null : (S,) array, optional
        `ecdf_null(N)`, where several parameters share it.
    """
    null = ecdf_null(len(ranks)) if null is None else null
    smallest = _smallest_tail(np.asarray(ranks)[None, :])[0]
    # Tail probabilities of counts have ties; a hair of room makes equal ones equal.
    return float((1 + np.sum(null <= smallest * (1 + 1e-9))) / (1 + len(null)))


def ecdf_null(count: int) -> Array:
    """(S,) smallest tail probabilities of `count` uniform ranks; always the same numbers."""
    rng = np.random.default_rng(20220401)
    return _smallest_tail(rng.integers(0, KEPT + 1, size=(_NULL_SETS, count)))


def _smallest_tail(ranks: Array) -> Array:
    sets, count = ranks.shape
    at = np.arange(KEPT)
    flat = ranks + (KEPT + 1) * np.arange(sets)[:, None]
    counts = np.bincount(flat.ravel(), minlength=sets * (KEPT + 1)).reshape(sets, KEPT + 1)
    below = np.cumsum(counts, axis=1)[:, :KEPT]
    chance = (at + 1) / (KEPT + 1)
    low = stats.binom.cdf(below, count, chance)
    high = stats.binom.sf(below - 1, count, chance)
    return np.asarray(np.minimum(low, high).min(axis=1))


def judge(found: Sequence[Mapping[str, Any]]) -> list[Uniformity]:
    """Both tests for every parameter."""
    null = ecdf_null(len(found))
    uniform_sd = np.sqrt(((KEPT + 1) ** 2 - 1) / 12)
    out = []
    for name in PRIORS:
        ranks = np.array([one["ranks"][name] for one in found])
        out.append(
            Uniformity(
                parameter=name,
                chi_square=chi_square_p(ranks),
                ecdf=ecdf_p(ranks, null),
                mean_rank=float(ranks.mean() / KEPT),
                sd_ratio=float(ranks.std() / uniform_sd),
            )
        )
    return out


def threshold(false_alarm: float) -> float:
    """Smallest p value that passes: Bonferroni over two tests of every parameter."""
    return false_alarm / (2 * len(PRIORS))


def report(found: Sequence[Mapping[str, Any]], false_alarm: float) -> tuple[str, bool]:
    """A table for people, and whether every test passes."""
    limit = threshold(false_alarm)
    rows = judge(found)
    passed = all(min(row.chi_square, row.ecdf) >= limit for row in rows)
    converged = sum(bool(one["converged"]) for one in found)
    lines = [
        f"{len(found)} data sets, {converged} fits converged (all are ranked)",
        f"{'parameter':18}{'chi-square p':>14}{'ECDF p':>10}{'mean rank':>11}{'sd ratio':>10}",
    ]
    for row in rows:
        flag = "" if min(row.chi_square, row.ecdf) >= limit else "  NOT UNIFORM"
        lines.append(
            f"{row.parameter:18}{row.chi_square:14.4f}{row.ecdf:10.4f}{row.mean_rank:11.3f}"
            f"{row.sd_ratio:10.3f}{flag}"
        )
    lines.append(
        f"{'Calibrated' if passed else 'NOT CALIBRATED'}: every p at least {limit:.2g} is wanted; "
        f"a calibrated engine fails this in at most {100 * false_alarm:g}% of runs."
    )
    return "\n".join(lines), passed


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 0 calibrated, 1 not, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m rmm.study.calibration", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--backend", default="jags", help="jags or stan")
    parser.add_argument("--datasets", type=int, default=200, help="data sets, at least 40")
    parser.add_argument("--folder", type=Path, help="default: results/calibration/BACKEND")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=1, help="fits at the same time")
    parser.add_argument(
        "--false-alarm",
        type=float,
        default=0.01,
        help="chance that a calibrated engine fails (all tests together)",
    )
    options = parser.parse_args(arguments)
    if options.datasets < 2 * _BINS:
        parser.error(f"--datasets must be at least {2 * _BINS}: the chi-square has {_BINS} bins")
    folder = options.folder or Path("results") / "calibration" / options.backend
    plan = Plan(options.backend, seed=options.seed)
    try:
        found = run(plan, options.datasets, folder, cores=options.cores)
    except RmmError as error:
        print(error, file=sys.stderr)
        return 2
    text, passed = report(found, options.false_alarm)
    print(text)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
