"""Simulation studies: a YAML file -> scenarios -> jobs -> estimates -> performance.

What workflow scripts (and the command line) call, all statistical, none knows Snakemake::

    study = load_study(path)                      # StudyError says what is wrong
    study.name, study.seed, study.replications, study.batch
    study.scenarios                               # tuple of Scenario(id, factors, content)
    study.methods                                 # tuple of Method(name, kind, backend, id, ...)
    jobs = plan(study, folder)                    # folder = results/NAME
        # -> list of Job(scenario, method, first, last, path): path is relative to folder,
        #    "estimates/<scenario>/<method>/<first>-<last>.parquet". Existing files are kept as
        #    jobs of their own range, so another batch size recomputes nothing.
    write_design(study, folder)                   # config.yaml (resolved), scenarios.parquet
    run_batch(study, scenario_id, method_name, first, last, path)   # simulate + fit -> Parquet
    collect(study, paths, folder / "estimates.parquet")    # refuses results of another study
    write_performance(study, folder / "estimates.parquet", folder / "performance.parquet")
    status(study, folder)                         # dict: jobs, done, missing, fits by status
    snakefile()                                   # path of the Snakefile, for other workflows
    replay(study, scenario_id, replication, method_name)   # -> (SimulatedData, fit or estimates)
    keep_replay(study, scenario_id, replication, method_name, folder)   # the same, as files

    performance(table, ...)                       # scores any table of estimates
    joint_outcomes(table, first, second, ...)     # who covers or rejects where the other does not
    variance_shares(scores, factors, ...)         # which factors explain the differences
    response_surface(scores, x, y, measure, ...)  # a measure as a function of two factors
    judge(study, folder)                          # are the criteria met that the study names?

Packages, each of which imports only those before it: `files`, `measures`, `estimate_tables`,
`methods`, `design`, `run`, `evaluate`, `manage`, `planning`, `report`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not late, as `rmm.study.performance` would then be the module of this name and not the function.
from rmm.study.performance import performance

if TYPE_CHECKING:
    from rmm.study.design.study import Study, load_study
    from rmm.study.estimate_tables.joint_table import joint_outcomes
    from rmm.study.evaluate.criteria.judge import judge
    from rmm.study.evaluate.score import write_performance
    from rmm.study.files.workflow_files import snakefile
    from rmm.study.manage.collect import collect, write_design
    from rmm.study.manage.jobs import Job, plan
    from rmm.study.manage.replay import keep_replay
    from rmm.study.manage.replay_fit import replay
    from rmm.study.manage.status import status
    from rmm.study.measures.explain_scores import response_surface, variance_shares
    from rmm.study.run.batch import run_batch

_LAZY = {
    "Job": "rmm.study.manage.jobs",
    "Study": "rmm.study.design.study",
    "collect": "rmm.study.manage.collect",
    "joint_outcomes": "rmm.study.estimate_tables.joint_table",
    "judge": "rmm.study.evaluate.criteria.judge",
    "keep_replay": "rmm.study.manage.replay",
    "load_study": "rmm.study.design.study",
    "plan": "rmm.study.manage.jobs",
    "replay": "rmm.study.manage.replay_fit",
    "response_surface": "rmm.study.measures.explain_scores",
    "run_batch": "rmm.study.run.batch",
    "snakefile": "rmm.study.files.workflow_files",
    "status": "rmm.study.manage.status",
    "variance_shares": "rmm.study.measures.explain_scores",
    "write_design": "rmm.study.manage.collect",
    "write_performance": "rmm.study.evaluate.score",
}


if not TYPE_CHECKING:  # type checkers must report a name that is not there

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module 'rmm.study' has no attribute {name!r}")
        return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "Job",
    "Study",
    "collect",
    "joint_outcomes",
    "judge",
    "keep_replay",
    "load_study",
    "performance",
    "plan",
    "replay",
    "response_surface",
    "run_batch",
    "snakefile",
    "status",
    "variance_shares",
    "write_design",
    "write_performance",
]
