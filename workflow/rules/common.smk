# The study is checked once, before the first job: a mistake in its file stops here.
import contextlib
import functools
import itertools
import json
import os
import re
import shlex
import shutil
import socket
import sys
from pathlib import Path

from snakemake.cli import parse_args
from snakemake.exceptions import WorkflowError
from snakemake.rules import Rule
from snakemake.utils import validate

from rmm.errors import RmmError
from rmm.study import load_study, plan
from rmm.study.design.study import load_checked
from rmm.study.files import seeds
from rmm.study.files.disks import check_room, writing
from rmm.study.files.parquet import write_text
from rmm.study.files.report_folder import check_linked
from rmm.study.files.workflow_files import workflow_folder
from rmm.study.manage.check_models import check_models
from rmm.study.manage.check_own import check_allowed
from rmm.study.manage.damage import damaged_files, set_damaged_aside
from rmm.study.manage.decide import outdated_decisions
from rmm.study.manage.jobs import jobs_of
from rmm.study.manage.kept_data import missing_data
from rmm.study.manage.set_aside import set_aside
from rmm.study.manage.shared_jobs import (
    first_jobs,
    missing_jobs,
    scenario_pattern,
    shared_jobs,
)
from rmm.study.manage.steps import outdated_steps, record_path
from rmm.study.methods.method import CLASSICAL
from rmm.study.run import progress
from rmm.study.run.checkpoint import discard
from rmm.study.run.claim import claim
from rmm.study.run.provenance import begin_run, end_run


def plain_path(executable):
    """Return a path of Python that a shell takes without quotes.

    Snakemake writes `sys.executable` into commands as it is. Jobs start in the present folder: an
    environment inside it has a relative path; one elsewhere, of unusual characters, gets a link.
    Whatever else has the link's name stays: a copied folder may hold a copy of an environment.
    """
    if shlex.quote(executable) == executable:
        return executable
    inside = os.path.relpath(executable)
    if shlex.quote(inside) == inside:
        return inside
    environment = Path(executable).parents[1]
    for number in itertools.count(1):
        link = Path(f".snakemake/environment-{number}")
        link.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(environment)
        if link.is_symlink() and link.readlink() == environment:
            return str(link / "bin" / Path(executable).name)


sys.executable = plain_path(sys.executable)

# One job is one core: the threads of linear algebra would fight with the workflow's. Set before
# the jobs start, which inherit it.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Commands of Slurm that outlast a controller which does not answer (workflow/slurm).
if "RMM_SLURM_PATH" not in os.environ and shutil.which("sbatch"):
    path = os.getenv("PATH")
    os.environ.update(RMM_SLURM_PATH=path, PATH=f"{workflow_folder() / 'slurm'}:{path}")

# The status command of the profile for PBS (workflow/pbs).
if shutil.which("qsub") and not shutil.which("rmm-pbs-status"):
    os.environ.update(PATH=f"{os.getenv('PATH')}:{workflow_folder() / 'pbs'}")

validate(config, "../schemas/config.schema.yaml")


def study_file(named):
    """`config/studies/quickstart.yaml`, or only `quickstart`."""
    path = Path(named)
    if path.suffix in (".yaml", ".yml", ".json"):
        return path
    return Path("config/studies") / f"{named}.yaml"


config["study"] = study_file(config["study"]).as_posix()
# Snakemake reads `true` on a command line as text.
config["allow_code"] = str(config["allow_code"]).lower() == "true"


def checked(call, *arguments, **more):
    """Call; a mistake of the user's ends Snakemake with its message, and without a traceback."""
    try:
        return call(*arguments, **more)
    except RmmError as error:
        raise WorkflowError(str(error)) from None


# Every job on a cluster reads this file: only the run itself checks the study and plans it.
load = load_study if workflow.is_main_process else load_checked
STUDY = checked(load, config["study"], size=config["size"], allow_code=config["allow_code"])
FOLDER = (Path(config["results"]) / STUDY.name).as_posix()


@functools.cache
def jobs():
    """All jobs; with `stopping`, those up to the next decision of each scenario.

    Planning reads the metadata of each batch that exists: only the run itself, and the job that
    collects, ask for the plan.
    """
    return checked(plan, STUDY, Path(FOLDER))


def most_jobs():
    """All jobs that there may be, whatever `stopping` will decide."""
    return checked(plan, STUDY, Path(FOLDER), to_maximum=True) if STUDY.stopping else jobs()


# What collection, measures and report depend on besides the fits: in the names of their records, and
# a parameter, for runs that ask for one of their files by its name.
CONTENT = seeds.digest(STUDY.config)
METHODS = {method.name: method for method in STUDY.methods}


# Snakemake's settings of the graph are not known yet when this file is read.
ASKED = parse_args(sys.argv[1:])[1]


def check_profile(named):
    """Snakemake ignores a profile that does not exist: a study for a cluster would run here."""
    if named in (None, "none"):
        return
    if ASKED.directory and not Path(named).is_absolute():
        return  # Snakemake has looked for it in a folder that it has left, and names nowhere
    places = [Path(), Path("profiles"), Path(workflow.main_snakefile).parent / "profiles"]
    if not any((place / named).exists() for place in places):
        raise WorkflowError(
            f"--workflow-profile {named}: there is no such profile. It is the path of a folder with a "
            "config.yaml, or the name of a folder in profiles/, such as `default` or `slurm`."
        )


if workflow.is_main_process:
    check_profile(ASKED.workflow_profile)

ONLY_DATA = set(ASKED.targets) == {"simulate"}
REPEATS_FITS = bool(ASKED.forceall or "fit" in (ASKED.forcerun or ()))
# Nothing may be moved or removed then, and nobody waits.
LOOKS = ("dryrun", "unlock", "dag", "rulegraph", "filegraph", "summary", "detailed_summary")
ONLY_LOOKS = any(getattr(ASKED, option) for option in LOOKS)


def method_of(wildcards, name=None):
    """The method of a job with the settings that it has in its scenario."""
    return STUDY.method_in(STUDY.scenario(wildcards.scenario), name or wildcards.method)


def fit_rule(methods):
    """Name of what fits several methods in one process: `fit_` and their numbers."""
    return "fit_" + "_".join(str(list(METHODS).index(name)) for name in methods)


def set_aside_damaged(files):
    for line in checked(set_damaged_aside, files, FOLDER):
        print(line, file=sys.stderr)


def rules_of_fits():
    """Names of the methods that one process fits -> scenarios, as a regular expression.

    Batches that exist are in no rule: the plan has checked them, and Snakemake takes them as they
    are. A job on a cluster finds its methods in the name, and plans nothing.
    """
    if not workflow.is_main_process:
        # Where another workflow uses this one as a module, names may have a prefix.
        names = [re.sub(r"^.*fit(?=_\d)", "fit", name) for name in ASKED.allowed_rules or ()]
        names = [name.split("_")[1:] for name in names]
        known = list(METHODS)
        together = [[known[int(n)] for n in ns] for ns in names if all(map(str.isdigit, ns))]
        return {(): "s[0-9a-f]+", **{tuple(ns): "s[0-9a-f]+" for ns in together if ns}}
    checked(check_allowed, STUDY, only_data=ONLY_DATA)  # code of the user's
    if not ONLY_DATA:
        checked(check_models, STUDY)  # a prior of no parameter would make every fit fail
        checked(check_linked, Path(FOLDER))
    if not ONLY_LOOKS:
        checked(check_room, Path(".snakemake"))
        checked(claim, Path(FOLDER), functools.partial(print, file=sys.stderr, flush=True))
        set_aside_damaged(checked(damaged_files, FOLDER))
    if ONLY_DATA:
        return {(): "(?!)"}
    if not ONLY_LOOKS:
        for line in checked(set_aside, STUDY, FOLDER):
            print(line, file=sys.stderr)
    jobs()  # results that another version of the study made stop the run here
    if REPEATS_FITS:  # by this name, so one method a job
        return {(): "s[0-9a-f]+"}
    found = shared_jobs(STUDY, missing_jobs(most_jobs(), FOLDER))
    alone = [job for names, here in found.items() if len(names) == 1 for job in here]
    together = {names: here for names, here in found.items() if len(names) > 1}
    FIRST_BATCHES.update(first_jobs(together))
    patterns = {names: scenario_pattern(here) for names, here in together.items()}
    return {(): scenario_pattern(alone), **patterns}


# Names of methods that share jobs -> the job that comes before all other fits.
FIRST_BATCHES = {}
RULES_OF_FITS = rules_of_fits()

BEFORE_REPORT = ["design", "collect", "performance", *["power"] * bool(STUDY.power)]


def remove(path):
    with writing(path):
        path.unlink(missing_ok=True)


def outdated():
    """Names of the steps, and whether there are decisions, that files of now do not agree with.

    Their records are removed, so that Snakemake runs the steps again. A dry run gives them other
    names instead.
    """
    if not workflow.is_main_process or ONLY_DATA:
        return frozenset()
    batches = [f"{FOLDER}/{job.path}" for job in jobs()]
    decisions = checked(outdated_decisions, STUDY, FOLDER) if STUDY.stopping else []
    steps = [*BEFORE_REPORT, "report"]
    found = checked(outdated_steps, steps, FOLDER, CONTENT, batches)
    if not ONLY_LOOKS:
        changed = "was changed after the run that wrote it"
        set_aside_damaged({path: changed for one in found for path in one.altered})
        for path in [*decisions, *(one.record for one in found)]:
            checked(remove, path)
        return frozenset()
    return frozenset([*(one.step for one in found), *["stopping"] * bool(decisions)])


OUTDATED = outdated()


def again(name):
    return "-again" * (name in OUTDATED)


def record(step):
    """The record of a step, which says that its files are those of the present study."""
    return f"{FOLDER}/{record_path(step + again(step), CONTENT)}"


def settled(path, product=None):
    """An input whose time does not count: its content was compared, and a changed one is missing.

    Not if `product`, what is made of it, is missing. Snakemake might make the input again in the
    same run, because a kill came before it had noted that it was complete. It would then look for
    no reason to make the product, as a job before it runs, and leave it out, as all of its inputs
    are there and `ancient`. (Batches that are there are in no rule and need no product.)
    """
    made = product is None or Path(product).exists()
    return ancient(path) if made and not (ASKED.forceall or ASKED.forcerun) else path


DECISIONS = f"{FOLDER}/stopping{again('stopping')}"


def fit_priority(methods):
    """Priority of a job that fits several methods: long jobs come first, so that no core waits.

    `fit`, the rule of engines that sample, has 3. One job of the others comes before, because the
    time left is known as soon as each method has some fits.
    """
    usual = 1 if all(METHODS[name].backend in CLASSICAL for name in methods) else 2
    first = FIRST_BATCHES.get(methods)
    if first is None or not hasattr(Rule, "expand_priority"):  # Snakemake had numbers only
        return usual
    return lambda wildcards: (
        4 if (wildcards.scenario, int(wildcards.first)) == (first.scenario, first.first) else usual
    )


# Memory and time that the profile, or the command, gives to `fit` are those of all of them.
resources_of = workflow.resource_settings.overwrite_resources
for names in filter(None, RULES_OF_FITS):
    if "fit" in resources_of:
        resources_of.setdefault(fit_rule(names), resources_of["fit"])


wildcard_constraints:
    scenario=r"s[0-9a-f]+",
    method="|".join(map(re.escape, METHODS)),
    first=r"\d+",
    last=r"\d+",
    stage=r"\d+",


def compiled(wildcards):
    """The marker of the compiled programs, for methods that have some."""
    if STUDY.compiles(wildcards.method):
        return [f"{FOLDER}/programs/{wildcards.method}.json"]
    return []


def collected(wildcards):
    """All batches; of a study with `stopping`, where each scenario ends."""
    if STUDY.stopping:
        decided = [f"{DECISIONS}/{scenario.id}.json" for scenario in STUDY.scenarios]
        return [settled(path, record("collect")) for path in decided]
    return [settled(f"{FOLDER}/{job.path}") for job in jobs()]


def stage_batches(wildcards):
    """The batches of a scenario up to a stage, by all methods."""
    scenario = STUDY.scenario(wildcards.scenario)
    found = jobs_of(STUDY, scenario, int(wildcards.stage), Path(FOLDER))
    return [settled(f"{FOLDER}/{job.path}") for job in found]


def last_decision(wildcards):
    """The decision that ends a scenario; asks for one after the other until it is known."""
    maximum = STUDY.scenario(wildcards.scenario).replications
    for stage in STUDY.stopping.stages(maximum):
        found = checkpoints.decide.get(scenario=wildcards.scenario, stage=stage).output[0]
        if json.loads(Path(found).read_text())["decided"]:
            break
    return settled(found, f"{DECISIONS}/{wildcards.scenario}.json")


# Who works in this folder, so that a lock that a killed run left behind can be told from the
# lock of a run that is alive (workflow/scripts/unlock.py).
OWNER = Path(".snakemake") / "rmm_owners" / f"{socket.gethostname()}-{os.getpid()}.json"


# What ends with the run: its record of provenance, and its line of progress on a terminal.
RUN = []


def over(outcome):
    OWNER.unlink(missing_ok=True)
    for end in RUN:
        try:
            end(outcome)
        except (OSError, RmmError) as error:  # a full disk: the run's own outcome counts
            print(error, file=sys.stderr)


onstart:
    checked(check_room, Path(FOLDER))
    checked(write_text, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}), OWNER)
    if REPEATS_FITS:  # what killed batches have left, too
        checked(discard, FOLDER, unfinished=True)
    if not ONLY_DATA:
        watch = progress.Watch(most_jobs(), Path(FOLDER), at_most=STUDY.stopping is not None)
        checked(watch.begin)
        RUN.append(progress.follow(watch))
    RUN.append(functools.partial(end_run, checked(begin_run, STUDY, Path(FOLDER))))


onsuccess:
    over("complete")


onerror:
    over("failed")
