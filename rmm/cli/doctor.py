"""What is installed, which engines run here, which one `auto` uses, how to fix the others."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd

from rmm.backends import BACKENDS, HIDDEN, find_backend
from rmm.errors import RmmError
from rmm.fitting.engine_choice import ORDER
from rmm.fitting.pipeline import fit

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "xarray",
    "arviz",
    "pyjags",
    "cmdstanpy",
    "httpstan",
    "polars",
    "statsmodels",
    "snakemake",
    "matplotlib",
)


#: What the packages that rmm does not always need are for.
_ONLY_FOR = {
    "pyjags": 'backend="jags"',
    "cmdstanpy": 'backend="stan"',
    "httpstan": 'backend="stan"',
    "polars": "tables of polars",
    "statsmodels": "studies with regressions",
    "snakemake": "studies",
    "matplotlib": "figures",
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report: `state` is ``"ok"``, ``"missing"`` or ``"broken"``."""

    subject: str
    state: str
    what: str
    remedy: str = ""


def diagnose(
    *, prove: bool = True, announce: Callable[[str], None] = lambda text: None
) -> list[Finding]:
    """Look at Python, packages and backends; test each backend with a tiny fit.

    Parameters
    ----------
    prove : bool
        Whether to run the fits (Stan compiles its first program: about a minute, once).
    announce : callable
        Called with a sentence before anything slow.
    """
    findings = [Finding("Python", "ok", f"{platform.python_version()} on {platform.platform()}")]
    findings += [_package(name) for name in PACKAGES]
    for name in BACKENDS:
        if name not in HIDDEN:
            findings.append(_backend(name, prove, announce))
    running = {f.subject.removeprefix("backend ") for f in findings if f.state == "ok"}
    return [*findings, _choice([name for name in ORDER if name in running])]


def _choice(running: Sequence[str]) -> Finding:
    """The engine that backend="auto", the default of `rmm.fit`, uses on this computer."""
    if not running:
        return Finding("auto", "missing", "no engine works on this computer")
    first, *others = running
    if not others:
        return Finding("auto", "ok", f"uses {first}: no other engine works on this computer")
    what = f"uses {first} if it supports the model and the fit passes its checks"
    return Finding("auto", "ok", "; otherwise ".join([what, *others]))


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        use = f", needed only for {_ONLY_FOR[name]}" if name in _ONLY_FOR else ""
        return Finding(name, "missing", f"not installed{use}", f"pip install {name}")


def _backend(name: str, prove: bool, announce: Callable[[str], None]) -> Finding:
    subject = f"backend {name}"
    try:
        found = find_backend(name).available()
    except RmmError as error:
        return Finding(subject, "broken", str(error))
    if not found.available:
        return Finding(subject, "missing", found.what, found.remedy)
    if not prove:
        return Finding(subject, "ok", found.what)
    announce(f"Testing backend {name} with a tiny fit ...")
    began = time.perf_counter()
    try:
        mean = _tiny_fit(name)
    except RmmError as error:
        return Finding(subject, "broken", str(error), found.remedy)
    seconds = time.perf_counter() - began
    if abs(mean - 2.0) > 0.5:
        return Finding(subject, "broken", f"a tiny fit estimated {mean:.2f}; the true value is 2")
    return Finding(subject, "ok", f"{found.what}; a tiny fit took {seconds:.1f} s")


def _tiny_fit(backend: str) -> float:
    """Posterior mean of a mean that is 2 within 0.1 (40 groups of two, residual sd 0.3)."""
    rng = np.random.default_rng(7)
    y = 2 + 0.3 * rng.standard_normal(40)
    table = pd.DataFrame({"g": np.repeat(np.arange(40), 2), "y": np.repeat(y - y.mean() + 2, 2)})
    table["m"] = np.arange(80) % 13
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fit(
            "y ~ 1 + mm(id(m, g), RE=TRUE)",
            table,
            backend=backend,
            seed=1,
            chains=2,
            warmup=300,
            draws=300,
            cores=1,
            progress=False,
        )
    return float(result.summary()["mean"].loc["b_l2[Intercept]"])
