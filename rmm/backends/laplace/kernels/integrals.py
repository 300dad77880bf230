"""Integrals and draws by the compiled kernels, in the words of the sampler."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmm.backends.laplace.hyperparameters import to_values
from rmm.backends.laplace.kernels.library import (
    WIDEST,
    BatchArrays,
    DrawingArrays,
    library,
    pointer,
)
from rmm.backends.laplace.kernels.model_arrays import (
    KernelModel,
    Symbolic,
    source_count,
    symbolic,
)
from rmm.backends.laplace.latent_draws import (
    ANGLE,
    FARTHEST,
    LEAPS,
    SHIFT_DRAWS,
    VARIES,
    WIDER,
    Effort,
)
from rmm.backends.laplace.marginal_likelihood import Integrand, Start
from rmm.tables.read import Array

_SHIFT_PAIRS = SHIFT_DRAWS // 2  # of opposite noise
_NUMBERS_AT_ONCE = 2_000_000  # of noise, or of sources
_NOTHING = -1e290  # logs of weights that are not above it are those of a density of 0
Draws = tuple[Array, Array]
_MOST_ROWS = 700  # of z, beyond which dense factors are faster by LAPACK


@dataclass(frozen=True, eq=False)
class Integrals:
    """Of S hyperparameter values.

    Attributes
    ----------
    value : (S,)
        log p(y | theta), by Laplace; -inf where no mode was found.
    prior : (S,)
        Log prior density of theta.
    mode, scale : (S, P)
        Of z, and what multiplies it.
    """

    value: Array
    prior: Array
    mode: Array
    scale: Array


@dataclass(frozen=True, eq=False)
class Motion:
    """What moves C chains in some steps of Hamiltonian Monte Carlo.

    Attributes
    ----------
    speed : (C, steps, P)
        Standard normal.
    log_uniform : (C, steps)
    angle : (steps,)
        Of each of the `leaps` rotations of a step.
    leaps : int
    shift_noise : (pairs, P)
        Standard normal: by which the mean of the normal approximation is found.
    """

    speed: Array
    log_uniform: Array
    angle: Array
    leaps: int
    shift_noise: Array


class CompiledIntegrals:
    """The integrals of one model by the compiled kernels.

    Attributes
    ----------
    integrand : Integrand
        The same in NumPy; it computes what the kernels do not: some weights, features.
    """

    def __init__(
        self, integrand: Integrand, kernels: ctypes.CDLL, known: Symbolic | None = None
    ) -> None:
        """`known` is what `symbolic` returns for this integrand."""
        self.integrand = integrand
        self.kernels = kernels
        self.model = KernelModel(integrand, known)

    def _batch(self, theta: Array, start: Start | None, *, python: bool) -> BatchArrays:
        """Points (S, d) for the kernels; with `python`, weights are computed by NumPy."""
        integrand = self.integrand
        sources = None
        if python or not self.model.weighs:
            values = to_values(theta, integrand.model.hyper)
            sources = integrand.sources(values, len(theta))
            sources = np.broadcast_to(sources, (len(theta), sources.shape[1]))
        mode, scale, stride = None, None, 0
        if start is not None and not integrand.exact:
            mode, scale = (a[..., self.model.elimination] for a in start)
            stride = 0 if mode.ndim == 1 else integrand.size
        return BatchArrays(
            {
                "count": len(theta),
                "theta": theta,
                "sources": sources,
                "start_stride": stride,
                "mode": mode,
                "scale": scale,
            }
        )

    def integrals(
        self, theta: Array, start: Start | None, gain: float, *, modes: bool = True
    ) -> Integrals:
        """As `Integrand.inner`, and the log prior; `modes` says whether modes are wanted."""
        found = self._integrals(theta, start, gain, modes=modes, python=False)
        bad = found[-1]
        if bad.any():
            again = self._integrals(theta[bad], _of(start, bad), gain, modes=modes, python=True)
            for whole, part in zip(found[:-1], again[:-1], strict=True):
                if len(whole):
                    whole[bad] = part
        value, prior, mode, scale, _ = found
        value[~np.isfinite(value)] = -np.inf
        place = self.model.pattern.place
        if not self.model.pattern.dense and modes:
            mode, scale = mode[:, place], scale[:, place]
        return Integrals(value, prior, mode, scale)

    def _integrals(
        self, theta: Array, start: Start | None, gain: float, *, modes: bool, python: bool
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Values, priors, modes, scales, and where weights were not finite."""
        count = len(theta)
        value, prior = np.empty(count), np.empty(count)
        bad = np.zeros(count, dtype=bool)
        shape = (count if modes else 0, self.integrand.size)
        mode, scale = np.empty(shape), np.empty(shape)
        batch = self._batch(theta, start, python=python)
        self.kernels.rmm_integrals(
            self.model.address,
            ctypes.addressof(batch),
            gain,
            pointer(value),
            pointer(prior),
            pointer(mode) if modes else None,
            pointer(scale) if modes else None,
            pointer(bad),
        )
        return value, prior, mode, scale, bad

    def draws(
        self,
        theta: Array,
        start: Start | None,
        gain: float,
        rng: np.random.Generator,
        effort: Effort,
    ) -> Draws:
        """As `latent_draws`, with log priors: (S, M, P) draws of z, (S, M) logs of weights."""
        noise = self._noise(len(theta), rng, effort)
        return self._all_draws(theta, start, gain, noise, self._how(effort))

    def draws_of(
        self, theta: Array, start: Start | None, gain: float, noise: Array, shift_noise: Array
    ) -> Draws:
        """As `draws`, of noise (S, M, P) that is given, as `chains` has it.

        The normal approximation is moved to the mean once, with noise (pairs, P) for all.
        """
        how = self._how(Effort(noise.shape[1], shifts=1)) | _same_shifts(shift_noise)
        return self._all_draws(theta, start, gain, {"noise": noise}, how)

    def _all_draws(
        self,
        theta: Array,
        start: Start | None,
        gain: float,
        noise: dict[str, Array],
        how: dict[str, Any],
    ) -> Draws:
        """The draws, those whose weights the kernels do not compute by NumPy's."""
        latent, weight, bad = self._draws(theta, start, gain, how | noise, python=False)
        if bad.any():
            part = how | {n: a if n == "angle" else a[bad] for n, a in noise.items()}
            again = self._draws(theta[bad], _of(start, bad), gain, part, python=True)
            latent[bad], weight[bad] = again[:2]
        weight = np.where(weight > _NOTHING, weight, -np.inf)
        if not self.model.pattern.dense:
            latent = latent[:, :, self.model.pattern.place]
        return latent, weight

    def _noise(self, count: int, rng: np.random.Generator, effort: Effort) -> dict[str, Array]:
        P, M, steps = self.integrand.size, effort.draws, effort.steps
        noise = {"noise": rng.standard_normal((count, M // 2, steps, P))}
        if self.integrand.exact:
            return noise
        return noise | {
            "shift_noise": rng.standard_normal((count, effort.shifts, _SHIFT_PAIRS, P)),
            "log_uniform": np.log(rng.random((count, M, steps))),
            "angle": ANGLE * rng.uniform(1 - VARIES, 1 + VARIES, steps),
        }

    def _how(self, effort: Effort) -> dict[str, Any]:
        return {
            "draws": effort.draws,
            "shifts": effort.shifts,
            "pairs": _SHIFT_PAIRS,
            "shift_stride": effort.shifts * _SHIFT_PAIRS * self.integrand.size,
            "steps": effort.steps,
            "leaps": LEAPS,
            "opposite": 2,
            "wider": 1.0 + np.sqrt(WIDER / max(self.integrand.size, 1)),
            "farthest": FARTHEST,
        }

    def _draws(
        self, theta: Array, start: Start | None, gain: float, how: dict[str, Any], *, python: bool
    ) -> tuple[Array, Array, Array]:
        P, M, count = self.integrand.size, how["draws"], len(theta)
        if M % how["opposite"]:  # the kernels would read beyond the noise
            raise ValueError(f"Latent draws come in pairs; {M} is an odd number of them.")
        drawing = DrawingArrays(how)
        batch = self._batch(theta, start, python=python)
        latent, weight = np.empty((count, M, P)), np.empty((count, M))
        bad = np.zeros(count, dtype=bool)
        self.kernels.rmm_draws(
            self.model.address,
            ctypes.addressof(batch),
            gain,
            ctypes.addressof(drawing),
            pointer(latent),
            pointer(weight),
            pointer(bad),
        )
        return latent, weight, bad

    def chains(
        self, theta: Array, start: Start | None, gain: float, state: Array, motion: Motion
    ) -> tuple[Array, Array, float]:
        """Steps of chains of z at one hyperparameter value (d,).

        Parameters
        ----------
        state : (C, P)
            Where they are, as noise of which the normal approximation makes z: standard normal if
            the posterior is.
        motion : Motion

        Returns
        -------
        states : (C, steps, P)
        ratios : (C, steps)
            log p(y, z | theta) - log q(z | theta), without the prior of theta.
        float
            The share of steps that moved.
        """
        count, steps, P = motion.speed.shape
        how = self._how(Effort(1, shifts=1, steps=steps))
        how |= _same_shifts(motion.shift_noise) | {"leaps": motion.leaps, "noise": motion.speed}
        how |= {"log_uniform": motion.log_uniform, "angle": motion.angle}
        drawing = DrawingArrays(how)
        batch = self._batch(np.repeat(theta[None], count, axis=0), start, python=False)
        states, ratios = np.empty((count, steps, P)), np.empty((count, steps))
        moves, state = np.zeros(count, dtype=np.int64), np.ascontiguousarray(state)
        self.kernels.rmm_chains(
            self.model.address,
            ctypes.addressof(batch),
            gain,
            ctypes.addressof(drawing),
            pointer(state),
            pointer(states),
            pointer(ratios),
            pointer(moves),
        )
        return states, ratios, float(moves.sum()) / (count * steps)

    def private_draws(self, theta: Array, z: Array, rng: np.random.Generator) -> Array:
        """As `Integrand.private_draws`, for (S, M, P) draws of z: (S, M, n)."""
        private = self.integrand.private
        normals = len(private) + len(np.unique(private.row))
        noise = rng.standard_normal((*z.shape[:2], normals))
        found, bad = self._private_draws(theta, z, noise, python=False)
        if bad.any():
            found[bad] = self._private_draws(theta[bad], z[bad], noise[bad], python=True)[0]
        return found

    def _private_draws(
        self, theta: Array, z: Array, noise: Array, *, python: bool
    ) -> tuple[Array, Array]:
        batch = self._batch(theta, None, python=python)
        ordered = np.ascontiguousarray(z[:, :, self.model.elimination])
        found = np.empty((*z.shape[:2], len(self.integrand.private)))
        bad = np.zeros(len(theta), dtype=bool)
        self.kernels.rmm_private_draws(
            self.model.address,
            ctypes.addressof(batch),
            z.shape[1],
            pointer(ordered),
            pointer(noise),
            pointer(found),
            pointer(bad),
        )
        return found, bad

    def at_once(self, numbers: int) -> int:
        """Hyperparameter values whose noise and draws, and sources if Python makes them, fit into
        memory; `numbers` are those of a value for each element of z.
        """
        most = max(numbers * self.integrand.size, source_count(self.integrand), 1)
        return max(WIDEST, _NUMBERS_AT_ONCE // most)


def _same_shifts(noise: Array) -> dict[str, Any]:
    """One shift, with noise (pairs, P) for all hyperparameter values, and draws with their own."""
    return {"opposite": 1, "pairs": len(noise), "shift_stride": 0, "shift_noise": noise}


def _of(start: Start | None, rows: Array) -> Start | None:
    """Where the searches of some rows start."""
    if start is None or start[0].ndim == 1:
        return start
    return start[0][rows], start[1][rows]


def compiled_pattern(integrand: Integrand) -> Symbolic | None:
    """The symbolic factorisation of a model that the kernels compute; None where NumPy does, which
    is faster for dense factors of many rows.
    """
    if library() is None or integrand.model.family.kernel is None:
        return None
    if not integrand.size or not len(integrand.row):
        return None
    known = symbolic(integrand)
    return None if known.sparse is None and integrand.size > _MOST_ROWS else known


def integrals_of(integrand: Integrand, known: Symbolic | None) -> CompiledIntegrals | None:
    """The compiled integrals of a model; None where NumPy computes them.

    Parameters
    ----------
    integrand : Integrand
    known : Symbolic or None
        By `compiled_pattern`.
    """
    if known is None:
        return None
    cells = integrand.size * (integrand.size + 1) // 2
    if known.sparse is not None:
        cells = len(known.sparse.row)
    kernels = library(cells + len(integrand.row))
    if kernels is None:
        return None
    return CompiledIntegrals(integrand, kernels, known)
