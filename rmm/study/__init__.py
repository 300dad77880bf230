"""Simulation studies: a YAML file -> scenarios -> jobs -> estimates -> performance.

What workflow scripts (and the command line) call, all statistical, none knows Snakemake::

    study = load_study(path)                      # config.py; StudyError says what is wrong
    study.name, study.seed, study.replications, study.batch
    study.scenarios                               # tuple of Scenario(id, factors, content)
    study.methods                                 # tuple of Method(name, kind, backend, id, ...)
    jobs = plan(study, folder)                    # batches.py; folder = results/NAME
        # -> list of Job(scenario, method, first, last, path): path is relative to folder,
        #    "estimates/<scenario>/<method>/<first>-<last>.parquet". Existing files are kept as
        #    jobs of their own range, so another batch size recomputes nothing.
    write_design(study, folder)                   # config.yaml (resolved), scenarios.parquet
    run_batch(study, scenario_id, method_name, first, last, path)   # simulate + fit -> Parquet
    collect(study, paths, folder / "estimates.parquet")    # refuses results of another study
    write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")
    status(study, folder)                         # dict: jobs, done, missing, fits by status
    replay(study, scenario_id, replication, method_name)   # -> (SimulatedData, fit or estimates)
    keep_replay(study, scenario_id, replication, method_name, folder)   # the same, as files

`rmm.study.performance.performance(estimates, ...)` scores any table of estimates;
`rmm.study.judging.judge(study, folder)` says whether results meet the criteria that the study
names (recovery, calibration, parity). The lines that the workflow prints while it runs come from
`progress` and, into its logs, `joblog`; `endings` are the signals that end a job.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rmm.study.batches import Job, plan, replay, run_batch
    from rmm.study.collecting import collect, write_design
    from rmm.study.config import Study, load_study
    from rmm.study.replaying import keep_replay
    from rmm.study.scoring import write_performance
    from rmm.study.tallying import status

_LAZY = {
    "Job": "rmm.study.batches",
    "Study": "rmm.study.config",
    "collect": "rmm.study.collecting",
    "keep_replay": "rmm.study.replaying",
    "load_study": "rmm.study.config",
    "plan": "rmm.study.batches",
    "replay": "rmm.study.batches",
    "run_batch": "rmm.study.batches",
    "status": "rmm.study.tallying",
    "write_design": "rmm.study.collecting",
    "write_performance": "rmm.study.scoring",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'rmm.study' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


__all__ = [
    "Job",
    "Study",
    "collect",
    "keep_replay",
    "load_study",
    "plan",
    "replay",
    "run_batch",
    "status",
    "write_design",
    "write_performance",
]
