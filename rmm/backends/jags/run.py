"""JAGS as a backend, through pyjags in worker processes."""

from __future__ import annotations

import hashlib
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rmm.backends.base import Array, Availability, ProgressListener, Run, Settings
from rmm.backends.jags import worker_pool as jags_pool
from rmm.backends.jags.worker_pool import Message
from rmm.backends.program_data import standard_name
from rmm.errors import BackendError, ConvergenceWarning, ProgramError, counted, unknown_name

RNG = "base::Mersenne-Twister"
OPTIONS = ("adapt", "require_block", "multiplied")
_PROGRESS_EVERY = 0.25


def run(
    program: str,
    data: Mapping[str, Any],
    inits: Sequence[Mapping[str, Any]],
    settings: Settings,
    progress: ProgressListener | None = None,
) -> Run:
    """Sample a JAGS program.

    Parameters
    ----------
    program : str
    data : mapping
        Name -> number or array, in the program's shapes. NaN is JAGS's NA; names that the
        program does not use are left out, and named in ``Run.engine["messages"]``.
    inits : sequence of mappings
        One per chain; a NaN element is left to JAGS.
    settings : Settings
        `options`: ``adapt`` (iterations of warm-up in which samplers are tuned, default half of
        it); ``require_block`` (tuple of variables, ``"b_l1"``, or single elements, ``"b_l1[2]"``,
        which ought to be sampled in a block of the glm module); ``multiplied`` (mapping of such a
        variable to one that the predictor multiplies it by, which may have the block instead).
    progress : callable, optional

    Returns
    -------
    Run
        The same bit for bit for the same `settings.seed`, whatever `settings.cores`.

    Raises
    ------
    ProgramError
        If JAGS refuses the program; the line is shown.
    BackendError
        If it cannot start or go on, crashes, or draws something that is not finite.
    BackendTimeout
        After `settings.timeout` seconds, compilation included.
    """
    _check_settings(settings, inits)
    jobs = _jobs(program, data, inits, settings)
    listen = _listener(progress, settings)
    results, worker_of, hello = jags_pool.run_jobs(jobs, settings.cores, settings.timeout, listen)
    if results[0][0]["kind"] == "error":
        raise _translated(results[0][0], program, settings)
    draws = _stacked(results, program, settings)
    facts = [header for header, _ in results]
    messages = _warn(facts, settings)
    seconds: dict[int, float] = {}
    for number, fact in zip(worker_of, facts, strict=True):
        seconds[number] = seconds.get(number, 0.0) + fact["seconds"]
    engine = {
        "name": "jags",
        **hello,
        "rng": RNG,
        "chain_seeds": [job["seed"] for job, _ in jobs],
        "adapt": jobs[0][0]["adapt"],
        "adapted": [fact["adapted"] for fact in facts],
        "samplers": facts[0]["samplers"],
        "seconds_cpu": sum(fact["cpu"] for fact in facts),
        "seconds_compile": sum(fact["compile"] for fact in facts),
        "messages": messages,
    }
    return Run(draws=draws, sample_stats={}, seconds=max(seconds.values()), engine=engine)


def available() -> Availability:
    """Whether JAGS runs here: one worker is started, and kept for the first fit."""
    try:
        workers = jags_pool.acquire(1)
    except BackendError as error:
        return Availability(False, str(error).split("\n")[0], jags_pool.REMEDY)
    hello = workers[0].hello
    jags_pool.release(workers)
    return Availability(True, f"JAGS {hello['version']} (pyjags {hello['pyjags']})")


# ---- what the workers are asked --------------------------------------------------------------


def chain_seed(seed: int, chain: int) -> int:
    """Seed of a chain's random number generator, 1 <= seed < 2**31, from the fit's seed."""
    digest = hashlib.sha256(f"rmm/jags/{seed}/{chain}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (2**31 - 1) + 1


def _check_settings(settings: Settings, inits: Sequence[Mapping[str, Any]]) -> None:
    unknown = sorted(set(settings.options) - set(OPTIONS))
    if unknown:
        raise BackendError(unknown_name(unknown[0], "an option of JAGS", OPTIONS))
    if len(inits) != settings.chains:
        raise BackendError(
            f"`inits` has initial values for {counted(len(inits), 'chain')}, but there are "
            f"{settings.chains} chains.\nGive one mapping per chain. A mapping can be empty."
        )
    if not settings.monitor:
        raise BackendError("`Settings.monitor` is empty. Name at least one variable.")
    if min(settings.chains, settings.draws, settings.thin) < 1 or settings.warmup < 0:
        raise BackendError("chains, draws and thin must be at least 1, warmup at least 0.")
    check_adapt(settings)


def check_adapt(settings: Settings) -> None:
    """Raise `BackendError` where `adapt` is no part of warm-up."""
    adapt = settings.options.get("adapt", 0)
    if not isinstance(adapt, int) or not 0 <= adapt <= settings.warmup:
        raise BackendError(
            f"`adapt` must be a whole number between 0 and `warmup` ({settings.warmup}), but is "
            f"{adapt!r}."
        )


def _jobs(
    program: str,
    data: Mapping[str, Any],
    inits: Sequence[Mapping[str, Any]],
    settings: Settings,
) -> list[Message]:
    shared = {f"data:{name}": _numbers("data", name, value) for name, value in data.items()}
    header = {
        "program": program,
        "monitor": list(dict.fromkeys(settings.monitor)),
        "rng": RNG,
        "adapt": int(settings.options.get("adapt", settings.warmup // 2)),
        "warmup": settings.warmup,
        "draws": settings.draws,
        "thin": settings.thin,
        "iterations": settings.warmup + settings.draws * settings.thin,
        "require_block": list(settings.options.get("require_block", ())),
    }
    jobs = []
    for chain, values in enumerate(inits):
        own = {f"init:{name}": _numbers("inits", name, value) for name, value in values.items()}
        jobs.append(({**header, "seed": chain_seed(settings.seed, chain)}, {**shared, **own}))
    return jobs


def _numbers(where: str, name: str, value: Any) -> Array:
    try:
        array: Array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise BackendError(f"{where}: {name!r} must contain only numbers.") from None
    if np.isinf(array).any():
        raise BackendError(f"{where}: {name!r} has infinite values, which JAGS cannot use.")
    return array


def _listener(progress: ProgressListener | None, settings: Settings) -> Callable[[int], None]:
    """Tell `progress` a few times a second, and at the end."""
    total = settings.chains * (settings.warmup + settings.draws * settings.thin)
    last = -_PROGRESS_EVERY

    def listen(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if progress is not None and (done == total or now - last >= _PROGRESS_EVERY):
            last = now
            progress(done, total)

    return listen


# ---- what they answered ----------------------------------------------------------------------


def _stacked(results: Sequence[Message], program: str, settings: Settings) -> dict[str, Array]:
    """Draws as (chain, draw, *dims), checked."""
    arrays = _array_names(program)
    out = {}
    for name in dict.fromkeys(settings.monitor):
        draws = np.stack([found[name] for _, found in results])
        if name not in arrays and draws.shape[2:] == (1,):
            draws = draws[:, :, 0]
        if draws.shape[:2] != (settings.chains, settings.draws):
            raise BackendError(
                f"JAGS returned draws of {name!r} with shape {draws.shape}, but there should be "
                f"{counted(settings.chains, 'chain')} of {settings.draws} draws."
            )
        finite = np.isfinite(draws)
        if not finite.all():
            chain, draw = (int(i[0]) for i in np.nonzero(~finite)[:2])
            raise BackendError(
                f"Draws of {name!r} are not finite numbers ({(~finite).sum():,} in all). The first "
                f"is draw {draw + 1} of chain {chain + 1}.\n"
                f"Either an element of {name!r} has no value in the program, or its values become "
                "too large. Then use tighter priors, or rescale the predictors."
            )
        out[name] = draws
    return out


def _array_names(program: str) -> set[str]:
    """Variables that the program writes with an index: they keep their dims, even (1,)."""
    code = re.sub(r"#[^\n]*|/\*.*?\*/", " ", program, flags=re.DOTALL)
    return set(re.findall(r"([A-Za-z][\w.]*)\s*\[", code))


def _warn(facts: Sequence[Mapping[str, Any]], settings: Settings) -> list[str]:
    """Warn of samplers that were not ready; all that is worth keeping, as sentences."""
    messages = []
    slow = [i + 1 for i, fact in enumerate(facts) if not fact["adapted"]]
    if slow:
        messages.append(
            f"The samplers of JAGS were still adapting when sampling began (chains: "
            f"{', '.join(map(str, slow))}). Increase `warmup` (now {settings.warmup}) or `adapt`."
        )
    outside = facts[0]["outside"]
    if outside and facts[0]["required"] > 1:  # one node alone needs no block
        if len(outside) == facts[0]["required"] and not _has_glm(facts[0]["samplers"]):
            raise BackendError(
                f"JAGS samples {_some(outside)} one by one, without a block sampler of its glm "
                "module. Such chains do not converge.\nPerhaps the glm module is not loaded. The "
                f"samplers in use are {', '.join(facts[0]['samplers'])}."
            )
        messages.append(
            f"JAGS samples {_some(outside)} outside its glm block, so the chains converge slowly. "
            + _why(outside, facts[0]["held"], settings.options.get("multiplied", {}))
        )
    for message in messages:
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    if facts[0]["unused"]:
        messages.append(f"Data not used by the program: {', '.join(facts[0]['unused'])}.")
    return messages


def _why(outside: Sequence[str], held: Sequence[str], multiplied: Mapping[str, str]) -> str:
    """Why nodes are outside: the block holds their factors, or it is not known."""
    variables = dict.fromkeys(node.split("[")[0] for node in outside)
    factors = [multiplied.get(name, "") for name in variables]
    if not {standard_name(factor) for factor in factors} <= set(held):
        return (
            "The glm block can contain only parameters that have a normal prior and enter the "
            "linear predictor linearly."
        )
    products = ", ".join(f"{a}*{b}" for a, b in zip(factors, variables, strict=True))
    return (
        f"The linear predictor contains the product {products}. The block can contain only one "
        f"factor of a product, here {_some(list(dict.fromkeys(factors)))}. The reason is that the "
        "weights are estimated without a constraint; the priors are not the reason. Normalise the "
        'weights (c = TRUE or 2), or try backend="stan".'
    )


def _has_glm(samplers: Mapping[str, int]) -> bool:
    return any(name.startswith("glm::") for name in samplers)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


# ---- what they refused -----------------------------------------------------------------------


def _translated(header: Mapping[str, Any], program: str, settings: Settings) -> Exception:
    """The error that says in our words what JAGS said, and quotes it."""
    said, stage = _sentence(header["message"]), header["stage"]
    chain = header["job"] + 1
    if re.search(jags_pool.NO_MEMORY_WORDS, said):
        return BackendError(
            f"JAGS ran out of memory in chain {chain}. Its message: {said}\n{jags_pool.LESS_MEMORY}"
        )
    if stage in ("program", "compile"):
        return ProgramError(_refused(said, program))
    if stage == "init":
        node = re.search(r"[Ee]rror in node (\S+)", said)
        where = f" at node {node[1]}" if node else ""
        return BackendError(
            f"JAGS cannot start chain {chain}{where}. Its message: {said}\n"
            "The initial values, the priors and the data contradict each other. Give other "
            "`inits`, and check the limits of priors and the values of the outcome."
        )
    if stage == "sample":
        return BackendError(
            f"JAGS stopped in chain {chain}. Its message: {said}\n"
            "Try tighter priors, other `inits`, or backend='stan'."
        )
    if stage == "unknown_init":
        return BackendError(f"`inits` contains {said}, but the program has no such variable.")
    if stage == "unknown_monitor":
        return BackendError(f"`monitor` contains {said}, but the program has no such variable.")
    return BackendError(f"The JAGS process failed in chain {chain}: {said}")


def _sentence(message: str) -> str:
    """JAGS's message on one line, without its headline and file names."""
    lines = [line.strip() for line in message.splitlines()]
    headlines = ("RUNTIME ERROR:", "Error parsing model file:", "LOGIC ERROR:")
    return " ".join(line for line in lines if line and line not in headlines)


def _refused(said: str, program: str) -> str:
    found = re.search(r"\bline (\d+)", said)
    if not found:
        return f"JAGS cannot use the program. Its message: {said}"
    lines = program.splitlines()
    number = _culprit(min(int(found[1]), len(lines)), lines, said)
    shown = [f"JAGS cannot use the program, because of line {number}. Its message: {said}"]
    for k in range(max(1, number - 1), number + 1):
        mark = ">" if k == number else " "
        shown.append(f"  {mark} {k:>3} | {lines[k - 1]}")
    return "\n".join(shown)


def _culprit(number: int, lines: Sequence[str], said: str) -> int:
    """The line meant: JAGS knows that a statement has ended when it has read the next one."""
    names = re.findall(r"(?:variable|node|function|distribution|parameter)\s+([\w.]+)", said)
    for k in range(number, max(0, number - 3), -1):
        if any(re.search(rf"\b{re.escape(name)}\b", lines[k - 1]) for name in names):
            return k
    return number
