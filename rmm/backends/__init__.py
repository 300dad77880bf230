"""Engines, one package each; a new one is a package and a row here. Imported when asked for."""

from __future__ import annotations

from importlib import import_module

from rmm.backends.base import (
    Availability,
    Backend,
    Compiler,
    Language,
    PreparedModel,
    ProgressListener,
    Run,
    Settings,
)
from rmm.errors import BackendError, unknown_name

BACKENDS: dict[str, str] = {  # name -> module that holds its BACKEND
    "jags": "rmm.backends.jags.backend",
    "stan": "rmm.backends.stan.backend",
    "laplace": "rmm.backends.laplace.backend",
    "fake": "rmm.backends.fake",
}
HIDDEN = ("fake",)  # for tests of studies: draws that look like draws


def find_backend(name: str) -> Backend:
    """The backend of a name.

    Parameters
    ----------
    name : str

    Returns
    -------
    Backend

    Raises
    ------
    BackendError
        For an unknown name; it lists the known ones.
    """
    if not isinstance(name, str) or name not in BACKENDS:
        known = [n for n in BACKENDS if n not in HIDDEN]
        raise BackendError(unknown_name(name, "a backend", known) + ' For rmm.fit(), also "auto".')
    backend: Backend = import_module(BACKENDS[name]).BACKEND
    return backend


__all__ = [
    "BACKENDS",
    "Availability",
    "Backend",
    "Compiler",
    "Language",
    "PreparedModel",
    "ProgressListener",
    "Run",
    "Settings",
    "find_backend",
]
