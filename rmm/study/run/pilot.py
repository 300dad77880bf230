"""The pilot fit of a method in a scenario: what it finds is used by all other fits.

What that is, `rmm.study.methods.pilot_fits` says for each engine.

Data and chains of the pilot have an address of their own, (study seed, scenario, method, "pilot"):
no order of batches and no number of processes changes it. It is kept beside the batches as
``pilot.json`` and fitted again if the file is missing or altered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock

from rmm.errors import BackendTimeout, StudyError
from rmm.simulation import Drawn
from rmm.study.design.scenarios import Scenario
from rmm.study.design.study import Study
from rmm.study.files import seeds
from rmm.study.files.end_signals import leave_if_ended
from rmm.study.files.parquet import write_text
from rmm.study.methods.method import Method
from rmm.study.methods.task import Task
from rmm.study.run.replicate import draw_data, make_task

_ADDRESS = "pilot"
FILE = "pilot.json"


def make_piloted_task(
    study: Study,
    scenario: Scenario,
    method: Method,
    replication: int,
    folder: Path | None,
    drawn: Drawn | None = None,
) -> Task:
    """`make_task` with the adaptation of the method's pilot, if the study file asks for one.

    Parameters
    ----------
    study : Study
    scenario : Scenario
    method : Method
    replication : int
    folder : Path, optional
        Where `pilot.json` is or will be; None: the pilot is fitted and not kept.
    drawn : Drawn, optional
        The data of the replication, where they have been simulated already.
    """
    task = make_task(study, scenario, method, replication, drawn)
    if "pilot" not in method.config.get("sampler", {}):
        return task
    return replace(task, adaptation=_adaptation(study, scenario, method, folder))


def read_pilot(
    study: Study, scenario: Scenario, method: Method, folder: Path
) -> tuple[Mapping[str, Any], str] | None:
    """What a pilot fit found and why it failed, of a folder with the batches of its method.

    Returns
    -------
    found : mapping
        Empty if it failed.
    message : str
        Empty if it did not. None instead of both: there is no pilot fit of this study.
    """
    return _kept(folder / FILE, _address(study, scenario, method))


def _address(study: Study, scenario: Scenario, method: Method) -> dict[str, Any]:
    own = {"seed": study.seed, "scenario": scenario.digest, "method": method.digest}
    # Chain lengths follow from the parameters of the gate; the digest is of the draws alone.
    return {**own, "gate": method.config["gate"]} if "ess" in method.config["sampler"] else own


def _adaptation(
    study: Study, scenario: Scenario, method: Method, folder: Path | None
) -> Mapping[str, Any]:
    if folder is None:
        return _fitted(study, scenario, method)[0]
    address, path = _address(study, scenario, method), folder / FILE
    kept = _kept(path, address)
    if kept is None:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f".{FILE}.lock")):
            kept = _kept(path, address)  # of another process that was first
            if kept is None:
                kept = _fitted(study, scenario, method)
                content = {"address": address, "adaptation": kept[0], "message": kept[1]}
                text = json.dumps({**content, "sha256": seeds.digest(content)}, indent=1)
                write_text(text + "\n", path)
    return kept[0]


def _kept(path: Path, address: Mapping[str, Any]) -> tuple[Mapping[str, Any], str] | None:
    """Content of a file; None without one of this address that is unaltered."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        said = content.pop("sha256")
        valid = content["address"] == address and seeds.digest(content) == said
        found: tuple[Mapping[str, Any], str] = content["adaptation"], content["message"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return found if valid else None


def _fitted(study: Study, scenario: Scenario, method: Method) -> tuple[dict[str, Any], str]:
    """What was found, or nothing and why the pilot failed: then fits are as long as it was."""
    # Late: reading a study file needs no libraries of fits.
    from rmm.study.methods.bayesian import adapt

    drawn = draw_data(study.seed, scenario, _ADDRESS, method.digest)
    task = replace(
        make_task(study, scenario, method, 1, drawn),
        seed=seeds.chain_seed(study.seed, scenario.digest, _ADDRESS, method.digest),
    )
    try:
        return adapt(task), ""
    except BackendTimeout as error:  # to go on without it would give other results
        raise StudyError(
            f"The pilot fit of method {method.name} did not finish: {error}\n"
            "Raise `sampler.timeout` of this method."
        ) from None
    except Exception as error:  # noqa: BLE001  as for any fit: the others must run
        leave_if_ended()
        return {}, " ".join(str(error).split())[:500]
