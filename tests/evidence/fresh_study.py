"""A kept study with another seed and fewer data sets, for tests of what its page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rmm.study import collect, load_study, plan, run_batch, write_design, write_performance
from tests import ROOT


def config_of(name: str, **changes: Any) -> dict[str, Any]:
    """The file of a study with another seed and other keys; all methods have all data sets."""
    config: dict[str, Any] = yaml.safe_load(
        (ROOT / "config" / "studies" / f"{name}.yaml").read_text()
    )
    config |= {"seed": config["seed"] + 1, **changes}
    for method in config["methods"]:
        method.pop("replications", None)
    return config


def run(name: str, config: dict[str, Any], folder: Path) -> None:
    """Run and score a study; its results are in `folder`/`name`."""
    file, out = folder / f"{name}.yaml", folder / name
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    study, paths = load_study(file), []
    for job in plan(study):
        paths.append(out / job.path)
        run_batch(study, job.scenario, job.method, job.first, job.last, paths[-1])
    collect(study, paths, out / "estimates.parquet")
    write_performance(study, out / "estimates.parquet", out / "performance.parquet")
    write_design(study, out)
