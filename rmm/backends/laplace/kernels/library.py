"""The compiled kernels: which build of them this processor runs, and their C structures.

This folder has the source, of which a build exists for each width of vectors. Without a build
(there was no C++ compiler) `library` is None and the engine computes in NumPy: the same numbers up
to rounding, slower.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from ctypes import c_double, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rmm.backends.laplace.hyperparameters import PRIOR_ROW
from rmm.errors import BackendError
from rmm.tables.read import Array

_FOLDER = Path(__file__).parent
#: Lanes of any build. Fewer values at once take as long, and draws are the same by all builds.
WIDEST = 8
_CACHE = 16e6  # bytes that a processor's own cache may hold
_INTERFACE = 15  # `rmm_interface` of the source that this file belongs to
#: Which build to take: its name, ``numpy`` for none; by default the widest that the processor has.
VARIABLE = "RMM_LAPLACE_KERNELS"
NUMPY = "numpy"
#: Builds from the widest vectors down, with what NumPy calls the processors that run them.
_PROCESSORS = {
    "avx512": {"AVX512_SKX", "X86_V4"},
    "avx2": {"AVX2", "X86_V3"},
    "base": set[str](),
}


class Arrays(ctypes.Structure):
    """A C structure made from arrays and numbers by name; it keeps the arrays alive."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.kept: list[Array] = []
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                array = np.ascontiguousarray(value, dtype=_TYPES.get(name, np.float64))
                self.kept.append(array)
                setattr(self, name, array.ctypes.data)
            else:
                setattr(self, name, value)


_TYPES: dict[str, Any] = {
    "hyper": PRIOR_ROW,
    **dict.fromkeys(("start", "terms", "shift_start", "private_start", "private_terms"), np.int64),
    **dict.fromkeys(("factor_start", "common_start", "stratum_start", "order"), np.int64),
    "merged_start": np.int64,
    **dict.fromkeys(("entry_start", "entry_order", "entry_step", "last_step"), np.int64),
    **dict.fromkeys(("weights", "scalar"), np.int64),
    **dict.fromkeys(("column", "source", "shift_source", "shift_scalar", "scale_of"), np.int32),
    **dict.fromkeys(("private_source", "private_scale_of", "factor_row", "place"), np.int32),
    **dict.fromkeys(("target", "common", "common_place", "code"), np.int32),
}


class ModelArrays(Arrays):
    """`Model` of latent_model.hpp, field by field."""

    _fields_ = (
        *((n, c_int64) for n in ("groups", "size", "sources", "scalars", "family")),
        ("hyper", c_void_p),
        ("own", c_int64),
        ("own_value", c_double),
        ("sds", c_int64),
        ("sd_scalar", c_int64),
        ("sd_columns", c_void_p),
        ("zero", c_int64),
        ("zero_value", c_double),
        ("categories", c_int64),
        ("blocks", c_int64),
        ("weights", c_void_p),
        *((n, c_void_p) for n in ("start", "column", "terms", "source", "factor", "offset")),
        *((f"shift_{n}", c_void_p) for n in ("start", "source", "factor", "scalar")),
        *((n, c_void_p) for n in ("scale", "scale_of", "private_start", "private_terms")),
        *((f"private_{n}", c_void_p) for n in ("source", "factor", "scale", "scale_of")),
        ("dense", c_int64),
        *((n, c_void_p) for n in ("factor_start", "factor_row", "place", "target", "y", "known")),
        ("constant", c_double),
        *((n, c_void_p) for n in ("common_start", "common", "common_place")),
        ("strata", c_int64),
        *((n, c_void_p) for n in ("stratum_start", "order", "shape")),
        ("rate", c_double),
        ("merged", c_int64),
        ("merged_start", c_void_p),
        *((n, c_void_p) for n in ("entry", "entry_start", "entry_order", "entry_step")),
        ("last_step", c_void_p),
    )


class BatchArrays(Arrays):
    """`Batch` of latent_model.hpp."""

    _fields_ = (
        ("count", c_int64),
        ("theta", c_void_p),
        ("sources", c_void_p),
        ("start_stride", c_int64),
        ("mode", c_void_p),
        ("scale", c_void_p),
    )


class DrawingArrays(Arrays):
    """`Drawing` of latent_model.hpp."""

    _fields_ = (
        *((n, c_int64) for n in ("draws", "shifts", "pairs", "steps", "leaps", "opposite")),
        ("shift_stride", c_int64),
        *((n, c_double) for n in ("wider", "farthest")),
        *((n, c_void_p) for n in ("shift_noise", "noise", "log_uniform", "angle")),
    )


@cache
def builds() -> dict[str, Path]:
    """The builds that exist and run on this processor, the widest first."""
    found = {}
    for name, processors in _PROCESSORS.items():
        file = _FOLDER / f"kernels_{name}.native"
        if file.exists() and (not processors or processors & _features()):
            found[name] = file
    return found


@cache
def _features() -> frozenset[str]:
    """What NumPy has found out about this processor, its baseline included."""
    known = np.show_config(mode="dicts")["SIMD Extensions"]
    return frozenset([*known.get("found", ()), *known.get("baseline", ())])


@cache
def load(name: str) -> ctypes.CDLL | None:
    """A build by its name; None for ``numpy``, and for one of another system or source.

    Raises
    ------
    BackendError
        For a name that is not among `builds`.
    """
    if name == NUMPY:
        return None
    known = builds()
    if name not in known:
        raise BackendError(
            f"{VARIABLE} is {name!r}, but the builds of the compiled kernels that exist here are "
            f"{', '.join([*known, NUMPY])}. Choose one of these, or unset the variable."
        )
    try:
        found = ctypes.CDLL(str(known[name]))
    except OSError:  # built for another system
        return None
    found.build = name  # type: ignore[attr-defined]
    found.rmm_interface.restype = c_int64
    if found.rmm_interface() != _INTERFACE:
        return None
    pointers = [c_void_p] * 2
    found.rmm_integrals.argtypes = [*pointers, c_double, *[c_void_p] * 5]
    found.rmm_draws.argtypes = [*pointers, c_double, *[c_void_p] * 4]
    found.rmm_chains.argtypes = [*pointers, c_double, *[c_void_p] * 5]
    found.rmm_private_draws.argtypes = [*pointers, c_int64, *[c_void_p] * 4]
    for name in ("integrals", "draws", "chains", "private_draws"):
        getattr(found, f"rmm_{name}").restype = None
    return found


def chosen() -> str:
    """The build that fits take now: a name of `builds`, or ``numpy``."""
    asked = os.environ.get(VARIABLE)
    return asked or next(iter(builds()), NUMPY)


def running() -> str:
    """The build that computes: `chosen`, or ``numpy`` where it cannot be loaded."""
    return chosen() if library() is not None else NUMPY


def library(numbers: int = 0) -> ctypes.CDLL | None:
    """The compiled kernels, or None: then the engine computes in NumPy.

    Large models wait for memory, not for the processor: one whose `numbers` per lane do not fit
    into its cache in eight lanes is computed in four, unless a build is asked for. All builds give
    the same numbers.
    """
    large = WIDEST * numbers * 8 > _CACHE
    if large and not os.environ.get(VARIABLE) and "avx2" in builds():
        return load("avx2") or load(chosen())
    return load(chosen())


def pointer(array: Array) -> int:
    """The address of an array that stays alive during the call."""
    return array.ctypes.data
