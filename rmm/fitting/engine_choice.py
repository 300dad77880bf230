"""`backend="auto"`: laplace if it supports the model and passes its checks; else Stan or JAGS."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rmm.arguments import meant
from rmm.backends import find_backend
from rmm.backends.base import Backend, Settings
from rmm.backends.progress_bar import announce, progress_bar
from rmm.backends.user_program import check_variables, drawn_only, language_of, read_program
from rmm.design.prepare import Model
from rmm.design.priors.group_sizes import reported_draws
from rmm.errors import BackendError, BackendTimeout, ProgramError, close_names
from rmm.posterior.diagnostics.summary import weighing
from rmm.posterior.draws import check_draws
from rmm.posterior.fit import Fit

AUTO = "auto"
ORDER: tuple[str, ...] = ("laplace", "stan", "jags")
_SECONDS = 1.0  # of a time limit, that the next engine has at least


@dataclass(frozen=True)
class Request:
    """A fit that an engine may be asked for.

    Attributes
    ----------
    model : Model
    settings : Settings
    neutral : sequence of mapping
        Initial values of the parameters, one mapping per chain.
    monitor : str or tuple of str
        As `rmm.fit` takes it.
    program : str, path or None
        The user's own.
    progress : bool or None
    options : mapping
        Of the engine.
    """

    model: Model
    settings: Settings
    neutral: Sequence[Mapping[str, Any]]
    monitor: str | tuple[str, ...]
    program: str | Path | None
    progress: bool | None
    options: Mapping[str, Any]


def fit_with(engine: Backend, asked: Request) -> Fit:
    """Program and data to one engine, draws back."""
    model, prepared = asked.model, engine.prepare(asked.model)
    own = asked.program is not None
    text = read_program(asked.program) if own else prepared.program
    needed = {} if own else prepared.options
    settings = replace(
        asked.settings,
        monitor=monitored(prepared.monitored, model, asked.monitor),
        options={**needed, **asked.options},
    )
    _check_monitor(engine, model, text, settings.monitor, own=own)
    values = prepared.data(model.design)
    starts = [prepared.initial(model.design, v) for v in asked.neutral]
    if own and engine.language:
        # It may sample parameters themselves where ours samples standardised ones.
        both = [{**v, **start} for v, start in zip(asked.neutral, starts, strict=True)]
        starts = [drawn_only(text, engine.language, values) for values in both]
    with progress_bar(asked.progress, f"{engine.name}: sampling") as listener:
        run = engine.run(text, values, starts, settings, listener)
    run = replace(run, draws=reported_draws(model.spec, model.design.members, run.draws))
    check_draws(run, model, settings.chains, settings.draws)
    own_program = text != prepared.program
    return Fit(model, run, text, values, engine.name, settings, own_program)


def _check_monitor(
    engine: Backend, model: Model, text: str, names: Sequence[str], *, own: bool
) -> None:
    """Variables of a program are in its text; an engine without text has parameters alone."""
    if engine.language is not None:
        check_variables(text, engine.language, names)
        return
    if own:
        raise ProgramError(
            f"Backend {engine.name!r} does not use a program. Leave out `program`, and name only "
            "parameters in `monitor`."
        )
    known = [p.name for p in model.spec.parameters]
    odd = [name for name in names if name not in known]
    if odd:
        raise BackendError(
            f"`monitor` names `{odd[0]}`, but backend {engine.name!r} can keep only the "
            f"parameters: {', '.join(known)}. For variables of a program use 'stan' or 'jags'."
        )


def monitored(
    names: Sequence[str], model: Model, monitor: str | tuple[str, ...]
) -> tuple[str, ...]:
    """Variables of a program to be kept."""
    extra = () if isinstance(monitor, str) else monitor
    effects = {p.name for p in model.spec.parameters if not p.structural}
    kept = [n for n in names if monitor != "structural" or n not in effects]
    return tuple(dict.fromkeys((*kept, *extra)))


def check_options(options: Mapping[str, Any], engine: Backend, known: Sequence[str]) -> None:
    """Raise `BackendError` for an option that an engine does not have.

    Parameters
    ----------
    options : mapping
    engine : Backend
    known : sequence of str
        Arguments of `rmm.fit`, one of which may have been meant.
    """
    for name in options:
        if name not in engine.options:
            others = [n for n in ORDER if name in find_backend(n).options]
            hint = f" It is an option of {others[0]}." if others else ""
            raise BackendError(
                f"Backend {engine.name!r} has no option `{name}`."
                f"{hint or _meant_option(name, engine, known)} The options of "
                f"{engine.name} are: {', '.join(engine.options) or 'none'}."
            )


def _meant_option(name: str, engine: Backend, known: Sequence[str]) -> str:
    """A sentence with what an unknown option may stand for, maybe an option of another engine."""
    here = [*known, *engine.options]
    closest = next(iter(close_names(name, [*here, *_all_options()])), None)
    for other in ORDER:
        if closest not in here and closest in find_backend(other).options:
            return f" Did you mean `{closest}`, an option of {other}?"
    return meant(name, here)


def engines_for(
    options: Mapping[str, Any], program: str | Path | None, known: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """Engines that what the user has given allows, and why not all of them; best first.

    Raises
    ------
    BackendError
        For an option that no engine has, or options of different engines.
    """
    names, why = ORDER, ""
    if program is not None:
        languages = [found for n in ORDER if (found := find_backend(n).language)]
        language = language_of(program, read_program(program), languages)
        names = tuple(n for n in ORDER if find_backend(n).language is language)
        why = f"`program` is written in {language.title}"
    for option in options:
        having = tuple(n for n in names if option in find_backend(n).options)
        if not having and why and any(option in find_backend(n).options for n in ORDER):
            raise BackendError(
                f"{why}, so backend {names[0]!r} is used, which has no option `{option}`. Its "
                f"options are: {', '.join(find_backend(names[0]).options)}."
            )
        if not having:
            raise BackendError(
                f"rmm.fit() has no argument `{option}`, and no backend has an option with this "
                f"name.{meant(option, [*known, *_all_options()])} The options are: "
                f"{_options_by_engine()}."
            )
        if having != names:
            names, why = having, f"`{option}` is an option of {having[0]}"
    return names, why


def _all_options() -> list[str]:
    return [option for name in ORDER for option in find_backend(name).options]


def _options_by_engine() -> str:
    return "; ".join(f"{n}: {', '.join(find_backend(n).options)}" for n in ORDER)


def fit_by_choice(asked: Request, names: tuple[str, ...], why: str) -> Fit:
    """The fit of the first engine that can run here, supports the model and passes its own checks.

    Parameters
    ----------
    asked : Request
    names, why : tuple of str, str
        As `engines_for` gives them.

    Raises
    ------
    BackendError
        If no engine gives a fit: what each of them says.
    """
    if len(names) == 1:
        return _chosen(fit_with(find_backend(names[0]), asked), why)
    began, doubtful = time.monotonic(), None
    against: list[str] = []
    for name in names:
        engine = find_backend(name)
        try:
            _check_available(engine)
            if against:
                announce(asked.progress, f"{against[-1]}. Next: {name}.")
            fit = fit_with(engine, _with_time_left(asked, began, against))
        except BackendTimeout as error:
            raise BackendTimeout("; ".join([*against, f"{name}: {error}"])) from None
        except (BackendError, ProgramError) as error:
            against.append(f"{name}: {_first_line(error)}")
            continue
        doubt = _doubt(fit)
        if not doubt:
            few = engine.weighted_draws and not fit.converged
            problems = f"other engines had problems. {'; '.join(against)}"
            return _chosen(fit, problems if against else _FEW if few else _GOOD)
        against.append(f"{name}: {doubt}")
        doubtful = fit
    if doubtful is None:
        raise BackendError("No engine could fit this model. " + " ".join(f"{a}." for a in against))
    return _chosen(doubtful, f"no engine passed its checks. {'; '.join(against)}")


_GOOD = "it supports this model, and the fit passed its checks"
_FEW = (
    "it supports this model, and its importance weights passed their checks. You asked for too "
    "few draws, which another engine would not change"
)


def _chosen(fit: Fit, why: str) -> Fit:
    """The fit, with the line that says which engine ran and why."""
    line = f'backend="auto" chose {fit.backend}: {why}'
    return replace(fit, run=replace(fit.run, engine={**fit.run.engine, "chosen": line}))


def _check_available(engine: Backend) -> None:
    found = engine.available()
    if not found.available:
        raise BackendError(f"it is not available here ({found.what})")


def _with_time_left(asked: Request, began: float, against: Sequence[str]) -> Request:
    """The same with what is left of the time limit."""
    limit = asked.settings.timeout
    if limit is None or not against:
        return asked
    left = max(_SECONDS, limit - (time.monotonic() - began))
    return replace(asked, settings=replace(asked.settings, timeout=left))


def _doubt(fit: Fit) -> str:
    """Why another engine ought to be asked; empty where that would change nothing."""
    found = weighing(fit.run)
    return "" if found is None else found.doubt()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
