"""Profiles, the patient sbatch and the software environment; nothing here needs a cluster."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from rmm.study import load_study, plan
from tests import ROOT
from tests.projects import Project
from tests.workflow.test_workflow import STUDY, lay_out

WORKFLOW = ROOT / "workflow"
DEFAULT, SLURM = (
    yaml.safe_load((WORKFLOW / "profiles" / name / "config.yaml").read_text())
    for name in ("default", "slurm")
)
CLUSTERS = {
    name: yaml.safe_load((WORKFLOW / "profiles" / name / "config.yaml").read_text())
    for name in ("slurm", "lsf", "pbs")
}
RULES = "\n".join(p.read_text() for p in [WORKFLOW / "Snakefile", *WORKFLOW.glob("rules/*.smk")])


def rules() -> set[str]:
    return set(re.findall(r"^(?:rule|checkpoint) (\w+):", RULES, re.MULTILINE))


def local_rules() -> set[str]:
    listed = re.findall(r"^localrules:\n((?:    \w+,\n)+)", RULES, re.MULTILINE)
    return {name for block in listed for name in re.findall(r"\w+", block)}


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_cluster_decides_alike_what_runs_again(name: str) -> None:
    """One profile takes the place of the other: each must hold all that keeps results."""
    assert {key: CLUSTERS[name].get(key) for key in DEFAULT} == DEFAULT


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_rule_is_local_or_has_memory_and_time_that_grow(name: str) -> None:
    told = CLUSTERS[name]["set-resources"]
    assert "compile" in rules()
    assert set(told) == rules() - local_rules()
    assert "compile" in told
    assert "fit" in told
    for rule, resources in told.items():
        assert set(resources) == {"mem_mb", "runtime"}, rule
        for expression in resources.values():
            assert re.fullmatch(r"\d+ \* attempt", expression), rule


@pytest.mark.parametrize("name", CLUSTERS)
def test_retries_are_those_of_the_profile(name: str) -> None:
    assert CLUSTERS[name]["retries"] >= 2
    assert "retries:" not in RULES, "a rule's own retries run inside the first job's memory"


def test_jobs_are_asked_after_with_squeue_through_long_outages() -> None:
    assert SLURM["slurm-status-command"] == "squeue"
    hours = SLURM["slurm-status-attempts"] / SLURM["max-status-checks-per-second"] / 3600
    assert hours >= 1
    # The plugin leaves squeue for sacct where Slurm forgets jobs within three times this span.
    assert 3 * SLURM["slurm-init-seconds-before-status-checks"] < 300


@pytest.mark.parametrize("name", ["default", *CLUSTERS])
def test_each_profile_begins_with_the_command_that_uses_it(name: str) -> None:
    text = (WORKFLOW / "profiles" / name / "config.yaml").read_text()
    head = text[: text.index("\n\n")]
    assert ".venv/bin/snakemake " in head
    assert "--config study=quickstart" in head
    manual = (ROOT / "docs" / "cluster.md").read_text()
    for line in head.splitlines():
        if line.startswith("#   "):
            assert line.removeprefix("#   ").strip() in manual


@pytest.mark.thorough
def test_the_plan_of_a_study_needs_no_slurm(tmp_path: Path) -> None:
    """`-n` with the profile, on a machine without any command of Slurm."""
    programs, folder = tmp_path / "bin", tmp_path / "study"
    for made in (programs, folder):
        made.mkdir()
    for name in ("sh", "bash", "which"):
        (programs / name).symlink_to(str(shutil.which(name)))
    lay_out(folder, STUDY)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": str(programs)}
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--workflow-profile",
        "workflow/profiles/slurm",
        "-n",
        "--config",
        "study=tiny",
    ]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^fit +4$", done.stdout + done.stderr, re.MULTILINE)


# --- commands of PBS ------------------------------------------------------------------------------

#: Stand-ins: a job is its script, in the background; its state is in files beside it.
PBS = {
    "qsub": """\
echo "$*" >> "{here}/asked"
for script; do :; done
id=$$.server
(sh "$script" > "{here}/$id.out" 2>&1; echo $? > "{here}/$id.code") > /dev/null 2>&1 &
echo $id
""",
    "qstat": """\
for id; do :; done
echo "Job Id: $id"
if [ -f "{here}/$id.code" ]; then
    printf '    job_state = F\\n    Exit_status = %s\\n' "$(cat "{here}/$id.code")"
else
    echo "    job_state = R"
fi
""",
    "qdel": "",
}


def pbs(folder: Path, **scripts: str) -> dict[str, str]:
    """Commands of PBS, as files; an environment that finds them."""
    folder.mkdir()
    for name, script in {**PBS, **scripts}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script.replace('{here}', str(folder))}")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{WORKFLOW / 'pbs'}:{os.environ['PATH']}"}


#: Torque's `qstat`: `-x` prints XML.
TORQUE = """\
case "$1" in
    -x) echo '<Data><Job><Job_Id>1.server</Job_Id><job_state>{state}</job_state></Job></Data>' ;;
    *) printf 'Job Id: 1.server\\n    job_state = {state}\\n{code}\\n' ;;
esac
"""


@pytest.mark.parametrize(
    ("qstat", "answer"),
    [
        ("echo '    job_state = R'", "running"),
        ("echo '    job_state = Q'", "running"),
        ("printf '    job_state = F\\n    Exit_status = 0\\n'", "success"),
        ("printf '    job_state = F\\n    Exit_status = 271\\n'", "failed"),
        ("printf '    job_state = C\\n    exit_status = 1\\n'", "failed"),
        (TORQUE.format(state="R", code=""), "running"),
        (TORQUE.format(state="C", code="    exit_status = 0"), "success"),
        (TORQUE.format(state="C", code="    exit_status = 271"), "failed"),
        ("echo 'qstat: cannot connect to server' >&2; exit 111", "running"),
        ("echo 'qstat: Unknown Job Id 1.server' >&2; exit 153", "success"),
    ],
)
def test_the_status_of_a_job_of_pbs(tmp_path: Path, qstat: str, answer: str) -> None:
    environment = {**os.environ, **pbs(tmp_path / "bin", qstat=qstat)}
    done = subprocess.run(
        ["rmm-pbs-status", "1.server"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{answer}\n"


@pytest.mark.thorough
@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="the package snakemake-executor-plugin-cluster-generic is absent; the lock lacks it",
)
def test_a_batch_runs_through_pbs(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", replications=2, batch=2)
    (job,) = plan(load_study(project.file))
    target, environment = project.results / job.path, pbs(tmp_path / "bin")
    project.run(str(target), "--workflow-profile", "workflow/profiles/pbs", **environment)
    assert target.is_file()
    (asked,) = (tmp_path / "bin" / "asked").read_text().splitlines()
    assert "-N rmm_fit" in asked
    assert "-l select=1:ncpus=1:mem=1500mb -l walltime=14400" in asked


# --- commands of Slurm ----------------------------------------------------------------------------

AWAY = 'echo "sbatch: error: Unable to contact slurm controller (connect failure)" >&2; exit 1'


def call(tmp_path: Path, *command: str, **real: str) -> subprocess.CompletedProcess[str]:
    """Run a command of workflow/slurm over a made-up Slurm that counts its calls, without pauses.

    `real`: scripts by name, in which $n is the number of the call.
    """
    count = f'n=$(cat "{tmp_path}/n"); n=$((n + 1)); echo $n >"{tmp_path}/n"'
    (tmp_path / "n").write_text("0\n")
    for name, script in {"sleep": "", **real}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{count if script else ''}\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ours = WORKFLOW / "slurm"
    environment = {
        **os.environ,
        "PATH": f"{ours}:{path}",
        "RMM_SLURM_PATH": path,
        "RMM_SBATCH_TRIES": "20",
    }
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def calls(tmp_path: Path) -> int:
    return int((tmp_path / "n").read_text())


def test_sbatch_waits_for_a_controller_that_is_away(tmp_path: Path) -> None:
    script = f'if [ $n -lt 5 ]; then {AWAY}; fi\necho "42 $2"; echo note >&2'
    done = call(tmp_path, "sbatch", "--wrap", "two words", sbatch=script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "42 two words\n", "note\n")
    assert calls(tmp_path) == 5


@pytest.mark.parametrize(
    ("script", "code", "times"),
    [
        ('echo "sbatch: error: invalid partition" >&2; exit 3', 3, 1),
        (AWAY, 1, 20),
    ],
)
def test_sbatch_gives_up_with_what_it_was_told(
    tmp_path: Path, script: str, code: int, times: int
) -> None:
    done = call(tmp_path, "sbatch", "--wrap", "true", sbatch=script)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("sbatch: error: ")
    assert calls(tmp_path) == times


STATES = ("sacct", "-X", "--noheader", "--endtime", "now", "--name", "run 1")


def test_sacct_answers_where_there_are_accounts(tmp_path: Path) -> None:
    done = call(tmp_path, *STATES, sacct='echo "$# $6"', squeue="exit 9")
    assert (done.returncode, done.stdout) == (0, "6 run 1\n")


def test_squeue_answers_where_there_are_no_accounts(tmp_path: Path) -> None:
    disabled = 'echo "Slurm accounting storage is disabled" >&2; exit 1'
    done = call(tmp_path, *STATES, sacct=disabled, squeue='echo "$@"')
    assert (done.returncode, done.stdout) == (
        0,
        "--noheader --states=all --format=%i|%T --name run 1\n",
    )
    done = call(tmp_path, *STATES, sacct=disabled, squeue="exit 9")
    assert done.returncode == 9, "nobody has an answer"
    done = call(tmp_path, "sacct", "-nu", "me", sacct=disabled, squeue="exit 9")
    assert done.returncode == 1, "not a question that squeue understands"


# --- conda ----------------------------------------------------------------------------------------


def environment_file() -> dict[str, list[object]]:
    return yaml.safe_load((WORKFLOW / "envs" / "rmm.yaml").read_text())


def locked() -> dict[str, str]:
    text = (ROOT / "requirements.lock").read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\\n]+)", text, re.MULTILINE))


def test_the_conda_environment_is_the_lock() -> None:
    """All versions come from requirements.lock; conda brings Python, pip and compilers alone."""
    described = environment_file()
    assert described["channels"][0] == "conda-forge"
    names, pip = [], None
    for entry in described["dependencies"]:
        if isinstance(entry, dict):
            pip = entry["pip"]
        else:
            names.append(str(entry).split()[0])
    assert names == ["python", "pip", "cxx-compiler", "make"]
    assert pip == ["-r ../../requirements.lock"]
    assert not set(names) & set(locked()), "in one place only"
    # Snakemake hands conda a copy of the file in .snakemake/conda; pip starts from there.
    assert (ROOT / ".snakemake" / "conda" / ".." / "..").resolve() == ROOT
    assert len(locked()) > 50


# Stands for conda: an environment without rmm, made from the file that Snakemake hands over.
CONDA = """\
#!/bin/sh
case "$1 $2" in
    "info --json") echo '{{"conda_prefix": "{base}", "platform": "linux-64"}}' ;;
    "--version "*) echo "conda 25.1.1" ;;
    "config --get") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
    "env create")
        for word; do
            case "$last" in --prefix) prefix=$word ;; --file) file=$word ;; esac
            last=$word
        done
        cmp "$(dirname "$file")/../../requirements.lock" "{lock}" || exit 1
        "{python}" -m venv --without-pip "$prefix"
        echo "{packages}" > "$prefix/lib/python{version}/site-packages/lock.pth"
        ;;
esac
"""


@pytest.mark.thorough
def test_jobs_in_the_conda_environment_find_the_package(tmp_path: Path) -> None:
    """As far as a machine without conda can show it: environment, activation, imports."""
    folder = tmp_path / "study"
    folder.mkdir()
    lay_out(folder, STUDY)
    shutil.copy(ROOT / "requirements.lock", folder)
    base = tmp_path / "base"
    (base / "bin").mkdir(parents=True)
    text = CONDA.format(
        base=base,
        lock=ROOT / "requirements.lock",
        python=sys.executable,
        packages=sysconfig.get_path("purelib"),
        version=f"{sys.version_info[0]}.{sys.version_info[1]}",
    )
    (base / "bin" / "conda").write_text(text)
    (base / "bin" / "conda").chmod(0o755)
    (base / "bin" / "activate").write_text("export PATH=$1/bin:$PATH\n")
    environment = {**os.environ, "PATH": f"{base / 'bin'}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "results/tiny/config.yaml",
        "--cores",
        "1",
        "--sdm",
        "conda",
        "--config",
        "study=tiny",
    ]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Activating conda environment" in done.stderr
    assert (folder / "results" / "tiny" / "config.yaml").is_file()


def test_the_conda_environment_has_a_python_that_the_package_takes() -> None:
    line = next(str(e) for e in environment_file()["dependencies"] if str(e).startswith("python"))
    major, minor = re.fullmatch(r"python =(\d+)\.(\d+)", line).groups()  # type: ignore[union-attr]
    assert (
        f'"Programming Language :: Python :: {major}.{minor}"'
        in (ROOT / "pyproject.toml").read_text()
    )


def test_versions_here_are_those_of_the_lock() -> None:
    """What the tests run with is what conda would install."""
    from importlib.metadata import PackageNotFoundError, version

    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("not the project's own .venv")
    wrong = {}
    for name, wanted in locked().items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue  # of another platform or Python
        if found != wanted:
            wrong[name] = (found, wanted)
    assert wrong == {}
