"""The fast engine of our own: latent vector integrated out, hyperparameters by importance.

`latent_model` lays the model out; `marginal_likelihood` and `latent_draws` integrate and draw (or
`kernels` does, compiled), `importance` proposes and weighs, `sampler` puts them together. Draws are
independent, so that chains are mere shares of them; how good they are say `pareto_k` and the
effective sample size in ``Fit.run.engine``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from rmm._version import __version__
from rmm.backends.base import Availability, ProgressListener, Run, Settings
from rmm.backends.laplace.hyperparameters import to_values
from rmm.backends.laplace.kernels.integrals import compiled_pattern, integrals_of
from rmm.backends.laplace.kernels.library import NUMPY, running
from rmm.backends.laplace.latent_model import LatentModel
from rmm.backends.laplace.marginal_likelihood import Integrand
from rmm.backends.laplace.memory import check_memory, check_time, need, with_factors
from rmm.backends.laplace.sampler import Sampler
from rmm.design.design import at_zero
from rmm.errors import BackendError, BackendTimeout
from rmm.model.correlated_effects import Roles
from rmm.model.spec import MemberPart
from rmm.tables.read import Array

#: Effective draws that are aimed at: Monte Carlo errors of means are 3% of a standard deviation.
ESS = 1000.0
OPTIONS = ("ess",)


def run(
    program: str,
    data: Mapping[str, Any],
    inits: Sequence[Mapping[str, Any]],
    settings: Settings,
    progress: ProgressListener | None = None,
) -> Run:
    """Weighted draws, resampled to ``chains x draws`` of equal weight.

    Raises
    ------
    BackendError
        For a model that is not covered, or whose posterior is not finite anywhere.
    BackendTimeout
    """
    began = time.perf_counter()

    def check() -> None:
        if settings.timeout is not None and time.perf_counter() - began > settings.timeout:
            raise BackendTimeout(
                f"Laplace did not finish within the time limit of {settings.timeout:g} s."
            )

    wanted, total = wanted_draws(settings), settings.chains * settings.draws
    model: LatentModel = data["model"]
    with computing():
        columns = _columns(model, settings.monitor)
        integrand = Integrand(model)
        memory = need(integrand, len(columns), total, wanted)
        check_memory(memory, integrand, len(columns))
        known = compiled_pattern(integrand)
        check_memory(with_factors(memory, integrand, known), integrand, len(columns))
        if known is None:
            check_time(integrand, wanted, settings.timeout)
        compiled = integrals_of(integrand, known)
        sampler = Sampler(integrand, settings.seed, check, columns, compiled)
        sample = sampler.sample(inits, wanted)
        theta, z = sampler.resampled(sample, total)
        draws = _named(model, theta, z, columns)
    shape = (settings.chains, settings.draws)
    if progress is not None:
        progress(total, total)
    return Run(
        draws={
            n: v.reshape(*shape, *v.shape[1:]) for n, v in draws.items() if n in settings.monitor
        },
        sample_stats={},
        seconds=time.perf_counter() - began,
        engine={
            "name": "laplace",
            "version": __version__,
            "kernels": NUMPY if compiled is None else compiled.kernels.build,
            "pareto_k": sample.pareto_k,
            "ess": sample.ess,
            "points": len(sample.theta),
            "inner_variance": sample.inner_variance,
            "integrals": sample.evaluations,
            "messages": [],
        },
        proposals=sampler.found(sample),
    )


#: What linear algebra and its libraries raise where a posterior is beyond what numbers hold.
_NUMERICAL = (np.linalg.LinAlgError, ArithmeticError, ValueError, IndexError, RuntimeError)


@contextmanager
def computing() -> Iterator[None]:
    """One thread, no warnings of numbers, and errors from inside numerical libraries in words."""
    try:
        # Matrices are small: threads would wait for each other longer than they work.
        with np.errstate(all="ignore"), _threads().limit(limits=1):
            yield
    except MemoryError as error:
        raise BackendError(
            f"Backend 'laplace' ran out of memory{f' ({error})' * bool(str(error))}. Keep fewer "
            'draws, set monitor="structural", or use backend="stan" or backend="jags".'
        ) from error
    except _NUMERICAL as error:
        raise BackendError(
            f"Backend 'laplace' could not compute this posterior ({type(error).__name__}: {error})."
            " Perhaps the posterior is flat in some direction, or has no maximum. Use "
            'backend="stan" or backend="jags".'
        ) from error


def wanted_draws(settings: Settings) -> float:
    """The effective sample size to be reached, all chains together.

    Raises
    ------
    BackendError
        For `ess` that is no number of draws.
    """
    wanted = settings.options.get("ess", ESS)
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not 1 <= wanted <= 1e6:
        raise BackendError(
            "`ess` (the number of effective draws of laplace) must be a number from 1 to "
            f"1,000,000, not {wanted!r}."
        )
    return float(wanted)


@cache
def _threads() -> ThreadpoolController:
    """The libraries of linear algebra in this process; looking for them takes 2 ms."""
    return ThreadpoolController()


def _columns(model: LatentModel, monitor: Sequence[str]) -> Array:
    """Places of the latent vector that are looked at: all but effects that nobody asked for."""
    kept = np.ones(model.size, dtype=bool)
    wanted = set(monitor)
    made: dict[str, tuple[str, ...]] = {  # walks of steps
        part.step: (part.u,) for part in model.spec.members
    }
    made |= {part.independent: (part.u,) for part in model.spec.members}
    made |= {part.standard: (part.u, part.u_slope) for part in model.spec.members}
    made |= {roles.standard: roles.effects for roles in model.spec.roles}
    effects = {p.name for p in model.spec.parameters if not p.structural} | set(made)
    for name, (where, _) in model.latent.items():
        kept[where] = name not in effects or not wanted.isdisjoint(made.get(name, (name,)))
    return np.flatnonzero(kept)


def _named(model: LatentModel, theta: Array, z: Array, columns: Array) -> dict[str, Array]:
    """Parameters by name, (draws, *dims), of some places of the latent vector; changes `z`."""
    values = to_values(theta, model.hyper) if model.hyper else {}
    count = len(z)
    x = z
    x *= model.scale[columns]
    scale_of = model.scale_of[columns]
    if model.hyper:
        scalars = np.column_stack([values[h.key][:, h.column] for h in model.hyper])
    ends = np.flatnonzero(np.diff(scale_of, prepend=-2, append=-2))
    for first, last in itertools.pairwise(ends):  # runs of effects with one standard deviation
        if scale_of[first] >= 0:
            x[:, first:last] *= scalars[:, [scale_of[first]]]
    x += model.location[columns]
    location_of = model.location_of[columns]
    sampled = np.flatnonzero(location_of >= 0)
    if len(sampled):
        x[:, sampled] = scalars[:, location_of[sampled]]
    out = {}
    for name, (where, dims) in model.latent.items():
        first, last = np.searchsorted(columns, (where.start, where.stop))
        if last - first == where.stop - where.start:
            out[name] = x[:, first:last].reshape(count, *dims)
    spec = model.spec
    for parameter in spec.sampled:
        if parameter.name in values:
            found = values[parameter.name]
            out[parameter.name] = found if parameter.dims else found[:, 0]
    out |= _made_of_others(model, values, out)
    for own, loadings in zip(spec.correlated, model.loadings, strict=True):
        if own.standard in out:
            factor = loadings.factor(values)
            out |= _correlated(own, np.einsum("smk,slk->sml", out.pop(own.standard), factor))
    return out | at_zero(spec, model.design, out)


def _made_of_others(
    model: LatentModel, values: Mapping[str, Array], out: dict[str, Array]
) -> dict[str, Array]:
    """Effects that are sums of independent ones, which are taken out of `out`."""
    found: dict[str, Array] = {}
    for part, member in zip(model.spec.members, model.design.members, strict=True):
        if member.walk is not None and part.step in out:
            found[part.u] = _walks(out.pop(part.step), member.walk)
        if member.root is not None and part.independent in out:
            found[part.u] = out.pop(part.independent) @ member.root.T
        if member.series is not None and part.independent in out:
            series = next(one for one in model.series if one.rho == part.rho)
            e = out.pop(part.independent)
            found[part.u] = member.series.effects(e, series.correlations(values, len(e)))
    return found


def _correlated(part: MemberPart | Roles, effects: Array) -> dict[str, Array]:
    """Intercepts and slopes, or effects in each role, of (S, members, K) effects."""
    if isinstance(part, Roles):
        return {name: effects[:, :, k] for k, name in enumerate(part.effects)}
    first = int(part.random)
    own = {part.u: effects[:, :, 0]} if part.random else {}
    return own | {part.u_slope: effects[:, :, first:]}


def _walks(steps: Array, walk: Any) -> Array:
    """Effects that are sums of their member's steps so far."""
    sums = np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)
    out = np.empty_like(steps)
    out[:, walk.effect] = sums[:, walk.place + 1] - sums[:, walk.begin]
    return out


def available() -> Availability:
    """It needs nothing beyond SciPy; without compiled kernels it is slower."""
    found = running()
    how = (
        "computes in NumPy, which is slower (no compiled kernels for this machine)"
        if found == NUMPY
        else f"compiled kernels ({found})"
    )
    return Availability(True, f"laplace, part of rmm; {how}")
