"""Stan: programs compiled to executables, chains as processes, draws read from CSV."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rmm.backends.base import Array, Availability, ProgressListener, Run, Settings
from rmm.backends.stan.adaptation import (
    check_adaptation,
    mean_adaptation,
    metric_json,
    read_adaptation,
)
from rmm.backends.stan.chains import Watch, failure, run_chains, sentences, watched
from rmm.backends.stan.compile import (
    Maker,
    check_syntax,
    compile_program,
    maker,
    message_converter,
    program_key,
    use_executables,
)
from rmm.backends.stan.install import (
    ENGINE_REMEDY,
    TOOLS_REMEDY,
    compiler,
    installed_cmdstan,
    stan_version,
    wheel,
)
from rmm.errors import BackendError, counted, unknown_name

__all__ = [
    "available",
    "check_syntax",
    "compile_program",
    "maker",
    "run",
    "use_executables",
]

# Stan's own columns -> ArviZ's names (``treedepth``: see rmm.backends.base).
_STATISTICS = {
    "lp__": "lp",
    "accept_stat__": "acceptance_rate",
    "stepsize__": "step_size",
    "treedepth__": "treedepth",
    "n_leapfrog__": "n_steps",
    "divergent__": "diverging",
    "energy__": "energy",
}
_DTYPES = {"treedepth": np.int64, "n_steps": np.int64, "diverging": np.bool_}
_METRICS = {"diag": "diag_e", "diag_e": "diag_e", "dense": "dense_e", "dense_e": "dense_e"}
_DIGITS = 12  # significant; the draws' own Monte Carlo error is far above


def available() -> Availability:
    """Whether Stan can run here; looks for files only, starts nothing."""
    try:
        own, package = installed_cmdstan(), wheel()
        if own is None and package is None:
            return Availability(False, "Stan is not installed", ENGINE_REMEDY)
        what = f"CmdStan in {own}"
        if own is None and package is not None:
            carrier = f"httpstan {importlib.metadata.version('httpstan')}"
            what = f"Stan {stan_version(package)} (from the wheel {carrier})"
        return Availability(True, f"{what}, C++ compiler {compiler()}")
    except BackendError as problem:
        return Availability(False, str(problem).splitlines()[0], TOOLS_REMEDY)


# --- options ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """NUTS options that a user may give by keyword."""

    adapt_delta: float = 0.8
    max_treedepth: int = 10
    metric: str = "diag_e"
    step_size: float = 1.0
    adaptation: Mapping[str, Any] | None = None

    def arguments(self) -> list[str]:
        """In CmdStan's command language."""
        start = self.step_size if self.adaptation is None else self.adaptation["step_size"]
        return [
            "algorithm=hmc",
            "engine=nuts",
            f"max_depth={self.max_treedepth}",
            f"metric={_METRICS[self.metric]}",
            *([] if self.adaptation is None else ["metric_file=metric.json"]),
            f"stepsize={start:.17g}",
            "adapt",
            "engaged=1",
            f"delta={self.adapt_delta:.17g}",
        ]

    def facts(self) -> dict[str, Any]:
        """For provenance."""
        fields = {name: getattr(self, name) for name in OPTIONS if name != "adaptation"}
        return fields if self.adaptation is None else {**fields, "adaptation": "given"}


OPTIONS = tuple(Options.__dataclass_fields__)


def check_options(settings: Settings) -> None:
    """Raise `BackendError` for an option that Stan does not have, or a value out of range."""
    _read_options(settings.options)


def _read_options(given: Mapping[str, Any]) -> Options:
    """Check the engine's keyword options.

    Raises
    ------
    BackendError
        For an unknown name or a value out of range; says what is allowed.
    """
    unknown = [name for name in given if name not in OPTIONS]
    if unknown:
        raise BackendError(unknown_name(unknown[0], "an option of Stan", OPTIONS))
    options = Options(**given)
    rules = [
        (
            "adapt_delta",
            _is_number(options.adapt_delta) and 0 < options.adapt_delta < 1,
            "a number above 0 and below 1 (0.8 is usual, 0.95 to 0.99 against divergences)",
        ),
        (
            "max_treedepth",
            isinstance(options.max_treedepth, int | np.integer)
            and 1 <= options.max_treedepth <= 25,
            "a whole number between 1 and 25 (10 is usual)",
        ),
        ("metric", options.metric in _METRICS, "'diag' or 'dense'"),
        ("step_size", _is_number(options.step_size) and options.step_size > 0, "a number above 0"),
    ]
    check_adaptation(options.adaptation)
    for name, right, allowed in rules:
        if not right:
            raise BackendError(
                f"The option `{name}` of Stan must be {allowed}, not {getattr(options, name)!r}."
            )
    return options


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


# --- a fit --------------------------------------------------------------------------------------


def run(
    program: str,
    data: Mapping[str, Any],
    inits: Sequence[Mapping[str, Any]],
    settings: Settings,
    progress: ProgressListener | None = None,
) -> Run:
    """Sample from a Stan program with NUTS; compiles it first unless the cache has it.

    Parameters
    ----------
    program : str
        Stan program.
    data : mapping
        Names of its data block -> int, float or array in C order.
    inits : sequence of mapping
        Per chain, values on the constrained scale for some or all parameters; the others start
        uniform in (-2, 2) on the unconstrained scale. May be empty.
    settings : Settings
        Its `monitor` limits the draws to these variables; empty: all.
    progress : callable, optional
        Called with iterations done and in all.

    Returns
    -------
    Run
        Draws of shape (chain, draw, *dims), to 12 significant digits.

    Raises
    ------
    ProgramError
        If Stan's compiler refuses the program.
    BackendError, BackendTimeout
        If tools are missing, sampling fails, takes too long, or draws are not finite.
    """
    options = _read_options(settings.options)
    if inits and len(inits) != settings.chains:
        raise BackendError(
            f"`inits` has initial values for {counted(len(inits), 'chain')}, but there are "
            f"{settings.chains} chains."
        )
    executable = compile_program(program)
    made_by = maker(executable)
    options, settings = _start(options, settings, program, made_by)
    with tempfile.TemporaryDirectory(prefix="rmm-stan-") as name:
        folder = Path(name)
        commands = _commands(folder, executable, made_by, data, inits, settings, options, progress)
        iterations = settings.warmup + settings.draws * settings.thin
        watch = Watch(settings.chains * iterations, settings.timeout, progress)
        convert = message_converter(executable, program)
        said = run_chains(commands, folder, settings.cores, watch, convert)
        seconds = watch.elapsed()
        tables = [
            _read_chain(folder / f"chain-{k + 1}.csv", k, settings, said[k])
            for k in range(settings.chains)
        ]
    engine = _provenance(tables, options, made_by, said)
    draws, statistics = _arrays(tables, program, settings.monitor)
    adapted = [table.adaptation for table in tables]
    adaptation = mean_adaptation(program_key(program), _METRICS[options.metric], adapted)
    return Run(draws, statistics, seconds, engine, adaptation)


def _start(
    options: Options, settings: Settings, program: str, made_by: Maker
) -> tuple[Options, Settings]:
    """Without an adaptation of another program or metric: then warm-up is as long as it says."""
    given = options.adaptation
    if given is None:
        return options, settings
    if not made_by.built:
        raise BackendError(
            "The option `adaptation` needs the Stan of the package httpstan, but the CmdStan in "
            "CMDSTAN or ~/.cmdstan is used. Leave the option out, or unset CMDSTAN."
        )
    if (given["program"], given["metric"]) == (program_key(program), _METRICS[options.metric]):
        return options, settings
    warmup = int(given.get("warmup", settings.warmup))
    return replace(options, adaptation=None), replace(settings, warmup=warmup)


def _commands(
    folder: Path,
    executable: Path,
    made_by: Maker,
    data: Mapping[str, Any],
    inits: Sequence[Mapping[str, Any]],
    settings: Settings,
    options: Options,
    progress: ProgressListener | None,
) -> list[list[str]]:
    """Write data and initial values; the command of each chain."""
    (folder / "data.json").write_text(as_json(data))
    given = options.adaptation
    arguments = options.arguments()
    if given is not None:
        (folder / "metric.json").write_text(metric_json(given))
        arguments.append(f"unmatched_warmup={given.get('warmup', settings.warmup)}")
    iterations = settings.warmup + settings.draws * settings.thin
    commands = []
    for k in range(settings.chains):
        command = [str(executable), f"id={k + 1}", "random", f"seed={settings.seed}"]
        command += ["data", "file=data.json"]
        if inits and inits[k]:
            (folder / f"init-{k + 1}.json").write_text(as_json(inits[k]))
            command += [f"init=init-{k + 1}.json"]
        command += ["output", f"file=chain-{k + 1}.csv", f"sig_figs={_DIGITS}"]
        command += [f"refresh={min(100, max(1, iterations // 40)) if progress else 0}"]
        if made_by.built and settings.monitor:
            command += ["variables=" + ",".join(settings.monitor)]
        command += ["method=sample", f"num_samples={settings.draws * settings.thin}"]
        command += [f"num_warmup={settings.warmup}", f"thin={settings.thin}"]
        commands.append(watched(command + arguments, made_by.built))
    return commands


def as_json(values: Mapping[str, Any]) -> str:
    """Data or initial values in Stan's JSON; arrays row by row, booleans as 0 and 1."""

    def plain(value: Any) -> Any:
        array = np.asarray(value)
        return (array.astype(int) if array.dtype == bool else array).tolist()

    return json.dumps({name: plain(value) for name, value in values.items()})


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """The CSV of one chain: columns, values (draw, column), seconds by phase, adaptation."""

    columns: tuple[str, ...]
    values: Array
    seconds: Mapping[str, float]
    adaptation: tuple[float, Array] | None


def _read_chain(path: Path, index: int, settings: Settings, said: Sequence[str]) -> Table:
    """Read the columns that are wanted.

    Raises
    ------
    BackendError
        If draws are missing, quoting what Stan said.
    """
    text = path.read_text() if path.is_file() else ""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line and not line.startswith("#")), None)
    rows = [] if start is None else [x for x in lines[start + 1 :] if x and not x.startswith("#")]
    if start is None or len(rows) != settings.draws:
        how = f"it wrote {len(rows)} of {settings.draws} draws"
        raise BackendError(failure(index, how, said))
    names = lines[start].split(",")
    monitored = set(settings.monitor)
    wanted = [
        i
        for i, name in enumerate(names)
        if name in _STATISTICS or not monitored or name.partition(".")[0] in monitored
    ]
    values = np.loadtxt(rows, delimiter=",", ndmin=2, usecols=wanted)
    seconds = re.findall(r"([\d.]+) seconds \((Warm-up|Sampling)\)", "\n".join(lines[-8:]))
    columns = tuple(names[i] for i in wanted)
    return Table(columns, values, {k: float(v) for v, k in seconds}, read_adaptation(text))


def _provenance(
    tables: Sequence[Table], options: Options, made_by: Maker, said: Sequence[Sequence[str]]
) -> dict[str, Any]:
    return {
        "name": "stan",
        "version": made_by.version,
        "source": "httpstan wheel" if made_by.built else "installed CmdStan",
        "options": options.facts(),
        "warmup_seconds": [table.seconds.get("Warm-up") for table in tables],
        "sampling_seconds": [table.seconds.get("Sampling") for table in tables],
        "messages": sentences([line for lines in said for line in lines]),
    }


def _arrays(
    tables: Sequence[Table], program: str, monitor: Sequence[str]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Draws and sampler statistics of all chains, checked."""
    values = np.stack([table.values for table in tables])  # chain, draw, column
    columns = tables[0].columns
    statistics: dict[str, Array] = {
        _STATISTICS[name]: values[:, :, i].astype(_DTYPES.get(_STATISTICS[name], np.float64))
        for i, name in enumerate(columns)
        if name in _STATISTICS
    }
    draws = _variables(columns, values)
    for name in monitor:
        if name not in draws:
            draws[name] = _without_elements(name, program, values)
    _check_finite(draws)
    return draws, statistics


def _variables(columns: Sequence[str], values: Array) -> dict[str, Array]:
    """Columns ``b.1.2`` gathered into arrays (chain, draw, *dims), placed by their indices."""
    places: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
    for column, full in enumerate(columns):
        if full not in _STATISTICS:
            name, *indices = full.split(".")
            place = tuple(int(index) - 1 for index in indices)
            places.setdefault(name, []).append((column, place))
    draws = {}
    for name, cells in places.items():
        index = np.array([place for _, place in cells], dtype=np.int64)
        if index.shape[1] == 0:
            draws[name] = values[:, :, cells[0][0]]
            continue
        draws[name] = np.empty((*values.shape[:2], *(index.max(axis=0) + 1)))
        where = (slice(None), slice(None), *index.T)
        draws[name][where] = values[:, :, [column for column, _ in cells]]
    return draws


def _without_elements(name: str, program: str, values: Array) -> Array:
    """Draws of a declared variable that has no column, because its size is 0."""
    if not re.search(rf"\b{re.escape(name)}\b", program):
        raise BackendError(
            f"`monitor` contains {name!r}, but the Stan program has no such variable."
        )
    return np.empty((*values.shape[:2], 0))


def _check_finite(draws: Mapping[str, Array]) -> None:
    for name, array in draws.items():
        finite = np.isfinite(array)
        if not finite.all():
            chain, draw, *place = (int(i) for i in np.argwhere(~finite)[0])
            element = name + (f"[{','.join(str(i + 1) for i in place)}]" if place else "")
            raise BackendError(
                f"Stan returned draws of {name!r} that are not finite. For example, {element} is "
                f"{array[(chain, draw, *place)]} in chain {chain + 1}, draw {draw + 1} "
                f"({int((~finite).sum())} of {array.size} values)."
            )
