"""The process that runs JAGS: reads jobs from standard input, answers on standard output.

JAGS lives in a process of its own, so that a crash, a time limit or Ctrl-C in it cannot hurt the
caller. One worker serves many fits: starting Python and loading JAGS costs half a second, a small
fit less than that. It runs one chain per job, each as its own JAGS model, so that a chain's draws
cannot depend on how chains are spread over workers.

It is started by its path and imports nothing of `rmm`: it needs NumPy and the compiled console of
pyjags alone. Whatever happens to the parent, the end of standard input ends the worker, even in
the middle of sampling.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import queue
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray[Any, Any]

# The order matters: the module loaded last is asked first for a sampler, and only `glm` samples
# all linear coefficients and random effects in one block.
MODULES = ("basemod", "bugs", "lecuyer", "glm")

_FRAME = struct.Struct(">4sIQ")
_MAGIC = b"rmm1"
_PARENT_POLL = 2.0
_REPORT_EVERY = 0.2
#: Exit status where memory did not even suffice to read a job or to send a message.
NO_MEMORY = 86


# ---- frames: a JSON header and NumPy arrays, never pickle -----------------------------------


def pack(header: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> bytes:
    """One message: magic and two lengths, a JSON header, then each array in .npy format."""
    arrays = arrays or {}
    body = io.BytesIO()
    for array in arrays.values():
        np.lib.format.write_array(body, np.asarray(array), allow_pickle=False)
    head = json.dumps({**header, "arrays": list(arrays)}).encode()
    return b"".join((_FRAME.pack(_MAGIC, len(head), body.tell()), head, body.getvalue()))


def frame_length(start: bytes | bytearray) -> int | None:
    """Length of the message that begins with `start`; None while too few bytes are there.

    Raises
    ------
    ValueError
        If `start` is not the beginning of a message.
    """
    if len(start) < _FRAME.size:
        return None
    magic, head, body = _FRAME.unpack(bytes(start[: _FRAME.size]))
    if magic != _MAGIC:
        raise ValueError(f"not a message of the JAGS worker: {bytes(start[:16])!r}")
    return int(_FRAME.size + head + body)


def unpack(frame: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Header and arrays of one message."""
    _, length, _ = _FRAME.unpack(frame[: _FRAME.size])
    stop = _FRAME.size + length
    header = json.loads(frame[_FRAME.size : stop])
    body = io.BytesIO(frame[stop:])
    names = header.pop("arrays")
    return header, {n: np.lib.format.read_array(body, allow_pickle=False) for n in names}


# ---- the engine ------------------------------------------------------------------------------


class Refusal(Exception):
    """JAGS refused something; `stage` says at what, the message is JAGS's own."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


def load_engine() -> types.ModuleType:
    """The compiled console of pyjags, with the modules loaded in the order of `MODULES`.

    The `__init__` of pyjags imports ArviZ, which costs ten times as much as JAGS itself; a bare
    package object in its place lets its two needed submodules be imported alone.
    """
    spec = importlib.util.find_spec("pyjags")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("No module named 'pyjags'")
    package = types.ModuleType("pyjags")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["pyjags"] = package
    console = importlib.import_module("pyjags.console")
    modules = importlib.import_module("pyjags.modules")
    for name in MODULES:
        modules.load_module(name)
    return console


def describe(engine: types.ModuleType) -> dict[str, Any]:
    """Versions and modules, in the order in which they were loaded."""
    return {
        "version": engine.Console.version(),
        "pyjags": importlib.metadata.version("pyjags"),
        "numpy": np.__version__,
        "modules": [m for m in engine.Console.listModules() if m in MODULES],
    }


@contextlib.contextmanager
def _stage(name: str, engine: types.ModuleType) -> Iterator[None]:
    try:
        yield
    except (engine.JagsError, RuntimeError, ValueError, MemoryError) as error:
        raise Refusal(name, str(error) or type(error).__name__) from error


def _check_model(console: Any, program: str) -> None:
    with tempfile.NamedTemporaryFile(suffix=".jags") as file:
        file.write(program.encode())
        file.flush()
        console.checkModel(file.name)


def _to_jags(arrays: Mapping[str, Array], prefix: str, na: float) -> dict[str, Array]:
    """Arrays under `prefix`: doubles of one dimension or more, NaN as JAGS's NA, none empty."""
    out = {}
    for key, array in arrays.items():
        kind, _, name = key.partition(":")
        if kind == prefix and array.size:
            values = np.atleast_1d(np.array(array, dtype=np.float64))
            values[np.isnan(values)] = na
            out[name] = values
    return out


def _build(
    console: Any, engine: types.ModuleType, job: Mapping[str, Any], arrays: Mapping[str, Array]
) -> list[str]:
    """Compile and initialise one chain; names of the data that the program does not use."""
    na = engine.Console.na()
    data, inits = _to_jags(arrays, "data", na), _to_jags(arrays, "init", na)
    with _stage("program", engine):
        _check_model(console, job["program"])
    known = set(console.variableNames())
    _refuse_unknown("unknown_init", inits, known)
    _refuse_unknown("unknown_monitor", job["monitor"], known)
    unused = sorted(set(data) - known)
    with _stage("compile", engine):
        console.compile({k: v for k, v in data.items() if k in known}, 1, True)
    with _stage("init", engine):
        console.setRNGname(job["rng"], 1)
        console.setParameters({**inits, ".RNG.seed": np.array([job["seed"]])}, 1)
        console.initialize()
    return unused


def _refuse_unknown(what: str, names: Any, known: set[str]) -> None:
    unknown = sorted(set(names) - known)
    if unknown:
        raise Refusal(what, ", ".join(unknown))


def _advance(console: Any, iterations: int, report: Callable[[int], None]) -> None:
    """Run `iterations` in blocks of 0.1 to 0.4 s, so that progress can be told."""
    block = 8
    while iterations > 0:
        steps = min(block, iterations)
        began = time.monotonic()
        console.update(steps)
        took = time.monotonic() - began
        iterations -= steps
        report(steps)
        if took < 0.1:
            block *= 2
        elif took > 0.4:
            block = max(1, block // 2)


def _adapt(console: Any, steps: int, report: Callable[[int], None]) -> bool:
    """Adapt for `steps` iterations and end adaptation; whether the samplers were ready."""
    if not console.isAdapting():
        _advance(console, steps, report)
        return True
    _advance(console, steps, report)
    ready = bool(steps) and bool(console.checkAdaptation())
    console.adaptOff()
    return ready


def _samplers(console: Any, wanted: list[str]) -> dict[str, Any]:
    """How many nodes each sampler has, and which of the required nodes no glm block holds.

    And the other variables that one holds.
    """
    counts: dict[str, int] = {}
    outside: list[str] = []
    held: set[str] = set()
    required = 0
    for method, *nodes in console.dumpSamplers():
        counts[method] = counts.get(method, 0) + len(nodes)
        found = [n for n in nodes if n in wanted or n.split("[")[0] in wanted]
        required += len(found)
        if not method.startswith("glm::"):
            outside += found
        else:
            held |= {n.split("[")[0] for n in nodes if n not in found}
    facts = {"samplers": counts, "outside": sorted(outside), "required": required}
    return {**facts, "held": sorted(held)}


def _collect(console: Any, names: list[str], na: float) -> dict[str, Array]:
    """Monitored draws as (draw, *dims); a scalar has dims (1,), JAGS does not know better."""
    traces = console.dumpMonitors("trace", False)
    out = {}
    for name in names:
        draws = np.ascontiguousarray(np.moveaxis(traces[name][..., 0], -1, 0))
        draws[draws == na] = np.nan
        out[name] = draws
    return out


def run_chain(
    engine: types.ModuleType,
    job: Mapping[str, Any],
    arrays: Mapping[str, Array],
    report: Callable[[int], None],
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Compile, adapt, warm up and sample one chain.

    Parameters
    ----------
    engine : module
        From `load_engine`.
    job : mapping
        `program`, `monitor`, `rng`, `seed`, `adapt`, `warmup`, `draws`, `thin`, `require_block`.
    arrays : mapping
        Data as ``data:NAME``, initial values as ``init:NAME``.
    report : callable
        Called with the iterations done so far.

    Raises
    ------
    Refusal
        With JAGS's own message.
    """
    console = engine.Console()
    began = time.monotonic()
    unused = _build(console, engine, job, arrays)
    compiled, cpu = time.monotonic(), time.process_time()
    done = 0

    def count(steps: int) -> None:
        nonlocal done
        done += steps
        report(done)

    with _stage("sample", engine):
        try:
            ready = _adapt(console, job["adapt"], count)
            _advance(console, job["warmup"] - job["adapt"], count)
            for name in job["monitor"]:
                console.setMonitor(name, job["thin"], "trace")
            _advance(console, job["draws"] * job["thin"], count)
        except engine.JagsError as error:
            raise Refusal("sample", f"{error}\n(after iteration {done})") from error
        seconds, cpu = time.monotonic() - compiled, time.process_time() - cpu
        draws = _collect(console, job["monitor"], engine.Console.na())
        facts = _samplers(console, job["require_block"])
        console.clearModel()
    facts |= {"adapted": ready, "unused": unused, "seconds": seconds, "cpu": cpu}
    facts["compile"] = compiled - began
    return facts, draws


# ---- the loop --------------------------------------------------------------------------------


def _read_exactly(stream: BinaryIO, count: int) -> bytes | None:
    data = stream.read(count)
    return data if len(data) == count else None


def _listen(stream: BinaryIO, jobs: queue.SimpleQueue[bytes]) -> None:
    """Queue the jobs; end the process, busy or not, when the parent is gone."""
    try:
        _queue_jobs(stream, jobs)
    except MemoryError:
        os._exit(NO_MEMORY)


def _queue_jobs(stream: BinaryIO, jobs: queue.SimpleQueue[bytes]) -> None:
    while True:
        start = _read_exactly(stream, _FRAME.size)
        length = frame_length(start) if start else None
        rest = _read_exactly(stream, length - _FRAME.size) if start and length else None
        if start is None or rest is None:
            os._exit(0)
        jobs.put(start + rest)


def _watch_parent(parent: int) -> None:
    """End when the parent has gone: a fork of it may hold our standard input open for ever."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL)
    os._exit(0)


def _serve(
    engine: types.ModuleType, jobs: queue.SimpleQueue[bytes], send: Callable[..., None]
) -> None:
    while True:
        frame = jobs.get()
        last = time.monotonic()

        def report(done: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _REPORT_EVERY:
                last = time.monotonic()
                send({"kind": "progress", "done": done})

        # Reading the job and packing the answer can fail for want of memory as JAGS itself can.
        try:
            send(*_answer(engine, frame, report))
        except Refusal as refusal:
            send({"kind": "error", "stage": refusal.stage, "message": str(refusal)})
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - else a bug here would have no message
            message = f"{type(error).__name__}: {error}"
            send({"kind": "error", "stage": "worker", "message": message})


def _answer(
    engine: types.ModuleType, frame: bytes, report: Callable[[int], None]
) -> tuple[dict[str, Any], dict[str, Array]]:
    job, arrays = unpack(frame)
    facts, draws = run_chain(engine, job, arrays, report)
    return {"kind": "result", **facts}, draws


def main() -> None:
    """Serve jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    # JAGS may print: keep the protocol's pipe apart from what C++ thinks is standard output.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, jobs), daemon=True).start()
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()

    def send(header: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
        out.write(pack(header, arrays))
        out.flush()

    try:
        engine = load_engine()
        hello = describe(engine)
    except (ImportError, OSError, RuntimeError) as error:
        send({"kind": "unavailable", "message": str(error)})
        return
    send({"kind": "hello", **hello})
    with contextlib.suppress(BrokenPipeError):
        _serve(engine, jobs, send)


def _run() -> None:
    """`main`, then the end of the process without Python's own shutdown.

    A thread that reads standard input holds a lock that the shutdown wants: it would abort, and
    the abort would be all that the parent hears of the reason.
    """
    status = 0
    try:
        main()
    except MemoryError:
        status = NO_MEMORY
    except BaseException:  # noqa: BLE001 - whatever it was, the parent reads it
        traceback.print_exc()
        sys.stderr.flush()
        status = 1
    os._exit(status)


if __name__ == "__main__":
    _run()
