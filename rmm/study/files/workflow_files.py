"""Where the workflow is: in the installed package, or beside it in a clone of the repository."""

from __future__ import annotations

from pathlib import Path

import rmm
from rmm.errors import StudyError


def workflow_folder() -> Path:
    """The folder with the Snakefile, its rules, scripts and profiles.

    Raises
    ------
    StudyError
        If there is none, as in a copy of the package folder alone.
    """
    package = Path(rmm.__file__).resolve().parent
    for folder in (package / "workflow", package.parent / "workflow"):
        if (folder / "Snakefile").is_file():
            return folder
    raise StudyError(
        f"The workflow of rmm is missing: there is no Snakefile in {package / 'workflow'}. "
        "Install the package again."
    )


def config_folder() -> Path:
    """The folder with `config.yaml` and `studies/quickstart.yaml`."""
    workflow = workflow_folder()
    inside = workflow / "config"
    return inside if inside.is_dir() else workflow.parent / "config"


def snakefile() -> Path:
    """Path of the Snakefile that runs studies, for workflows of your own.

    Returns
    -------
    pathlib.Path
        A Snakefile takes it as a ``module``, or has ``include: rmm.study.snakefile()`` and a rule
        with ``default_target: True`` and ``input: rules.all.input``: Snakemake takes the rule that
        runs without a target from no included file.

    Raises
    ------
    StudyError
        If the package was installed without it.
    """
    return workflow_folder() / "Snakefile"
