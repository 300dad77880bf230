"""A study file -> a checked `Study`: everything wrong is found before the first job starts.

Jobs of a workflow read the file again. They check no more than the models that they fit.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from rmm.errors import counted, unknown_name
from rmm.simulation import RecipeError
from rmm.simulation.estimands import TRUE_ESTIMANDS, check_options
from rmm.study.design.batch_size import SAMPLING_BATCH, automatic_batch
from rmm.study.design.check_methods import (
    Versions,
    build_methods,
    build_versions,
    version_key,
)
from rmm.study.design.estimand import Estimand, label_of, options_of
from rmm.study.design.known_values import check_references
from rmm.study.design.own_content import check_parts, collect_missing, own_content
from rmm.study.design.power_rule import Power, read_power
from rmm.study.design.scenarios import Scenario, build_scenarios
from rmm.study.design.stopping_rule import Stopping, read_stopping
from rmm.study.files.checked_yaml import check, read_yaml, with_defaults
from rmm.study.files.messages import StudyFileErrors
from rmm.study.measures.measures import MEASURES
from rmm.study.methods.method import Method
from rmm.study.methods.model_choice import choice_parameters
from rmm.study.own.named_code import NamedCode

#: What the code of a data function is for.
DATA = "the data"
#: Fits of a study: more are a mistake.
MOST_FITS = 10_000_000
_ROOT_MARKS = ("pyproject.toml", "Snakefile")


@dataclass(frozen=True, eq=False)
class Study:
    """A study, checked.

    Attributes
    ----------
    name : str
        Name of the file without its ending.
    file : Path
    root : Path
        Folder that paths in the file start from: the nearest one above the file with a
        pyproject.toml or Snakefile, else the file's own.
    config : mapping
        The file with all defaults said.
    seed : int
        Of the whole study: every random number follows from it.
    replications : int
        Data sets of each scenario.
    batch : int
        Replications of a job by methods that share jobs; see `batch_of`.
    scenarios : tuple of Scenario
    methods : tuple of Method
        With the settings under `methods`; factors may change these: see `method_in`.
    estimands : tuple of Estimand
    measures : tuple of str
        Names of `rmm.study.measures.measures.MEASURES`.
    baseline : str
        Method that paired measures compare with.
    reference : tuple of mapping
        Known values that performance is compared with.
    criteria : mapping
        Criterion -> its settings; see `rmm.study.evaluate.criteria.judge`.
    stopping : Stopping or None
        When a scenario has enough replications, `replications` being the most.
    power : Power or None
        What a power study asks.
    versions : mapping
        Methods with settings that factors give them; see `method_in`.
    """

    name: str
    file: Path
    root: Path
    config: Mapping[str, Any]
    seed: int
    replications: int
    batch: int
    scenarios: tuple[Scenario, ...]
    methods: tuple[Method, ...]
    estimands: tuple[Estimand, ...]
    measures: tuple[str, ...]
    baseline: str
    reference: tuple[Mapping[str, Any], ...] = field(default=())
    criteria: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stopping: Stopping | None = None
    power: Power | None = None
    versions: Versions = field(default_factory=dict)

    def __str__(self) -> str:
        title = str(self.config.get("title") or "")
        return "\n".join([": ".join(filter(None, [self.name, title])), *self._sizes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What notebooks show: the same as text."""
        return f"<p>{'<br>'.join(map(escape, str(self).splitlines()))}</p>"

    def _sizes(self) -> Iterator[str]:
        vary = f" (vary: {', '.join(self.factors)})" if self.factors else ""
        most = "at most " * (self.stopping is not None)
        replications = counted(self.replications, "replication")
        yield f"{counted(len(self.scenarios), 'scenario')}{vary}, {most}{replications} each"
        yield f"methods: {', '.join(method.name for method in self.methods)}"
        yield f"estimands: {', '.join(estimand.parameter for estimand in self.estimands)}"

    @cached_property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors."""
        return tuple(self.config["vary"])

    def scenario_columns(self) -> dict[str, list[Any]]:
        """Ids and levels of all scenarios by column; levels of one factor are of one type.

        Returns
        -------
        dict
        """
        columns: dict[str, list[Any]] = {"scenario": [s.id for s in self.scenarios]}
        for factor in self.factors:
            columns[factor] = _of_one_type([s.factors[factor] for s in self.scenarios])
        return columns

    def formula_of(self, method: Method) -> str:
        """Formula of a method; where it differs between scenarios, all of them.

        Parameters
        ----------
        method : Method

        Returns
        -------
        str
        """
        name = method.name
        formulas = (self.method_in(s, name).formula(s.recipe) for s in self.scenarios)
        return "; ".join(dict.fromkeys(formulas))

    def scenario(self, scenario_id: str) -> Scenario:
        """The scenario of an id.

        Parameters
        ----------
        scenario_id : str

        Returns
        -------
        Scenario

        Raises
        ------
        StudyError
            For an unknown one; it lists the known ones.
        """
        if scenario_id not in self._addresses:
            known = [s.id for s in self.scenarios]
            raise StudyFileErrors(self.file).name(
                "scenario", "a scenario of this study", scenario_id, known
            )
        return self._addresses[scenario_id]

    @cached_property
    def _addresses(self) -> dict[str, Scenario]:
        """Scenarios by id; further ones under whose ids there are data or fits of several."""
        found = {s.id: s for s in self.scenarios}
        for scenario in self.scenarios:
            for name in ("", *scenario.settings):
                one = scenario.with_settings(name)
                found.setdefault(one.id, one)
        return found

    def fitted_in(self, scenario: Scenario, name: str) -> Scenario:
        """The scenario under whose id the fits of a method are, with `method_in` the same.

        Scenarios that differ only in keys of other methods share these fits.

        Parameters
        ----------
        scenario : Scenario
        name : str
            Of the method; empty for that of the data.

        Returns
        -------
        Scenario
        """
        found = scenario.with_settings(name)
        return scenario if found is scenario else self._addresses.get(found.id, found)

    def method_in(self, scenario: Scenario, name: str) -> Method:
        """The method of a name with the settings that it has in a scenario.

        Parameters
        ----------
        scenario : Scenario
        name : str

        Returns
        -------
        Method

        Raises
        ------
        StudyError
            For an unknown one; it lists the known ones.
        """
        method = self.method(name)
        return self.versions[version_key(scenario, name)] if name in scenario.settings else method

    def versions_of(self, name: str) -> dict[Method, list[Scenario]]:
        """A method with each of its settings, and the scenarios in which it has them.

        Parameters
        ----------
        name : str

        Returns
        -------
        dict
        """
        found: dict[Method, list[Scenario]] = {}
        for scenario in self.scenarios:
            found.setdefault(self.method_in(scenario, name), []).append(scenario)
        return found

    def sharers(self, fitted: Scenario, name: str) -> list[Scenario]:
        """The scenarios whose fits by a method are those of `fitted`, as `fitted_in` has it.

        Parameters
        ----------
        fitted : Scenario
        name : str

        Returns
        -------
        list of Scenario
        """
        return self._sharers.get((fitted.id, name), [fitted])

    def varied_keys(self, name: str) -> list[str]:
        """Keys of a method that factors change, such as ``priors`` and ``sampler.draws``.

        Parameters
        ----------
        name : str

        Returns
        -------
        list of str
        """
        changed = (s.settings[name].changes for s in self.scenarios if name in s.settings)
        return list(dict.fromkeys(key for changes in changed for key in changes))

    def compiles(self, name: str) -> bool:
        """Whether programs of a method are compiled before they run, in some scenario.

        Parameters
        ----------
        name : str

        Returns
        -------
        bool
        """
        return any(method.compiled for method in self.versions_of(name))

    @cached_property
    def _sharers(self) -> dict[tuple[str, str], list[Scenario]]:
        found: dict[tuple[str, str], list[Scenario]] = {}
        if any(s.settings for s in self.scenarios):
            for scenario in self.scenarios:
                for name in ("", *self._by_name):
                    place = (self.fitted_in(scenario, name).id, name)
                    found.setdefault(place, []).append(scenario)
        return found

    @cached_property
    def fits(self) -> dict[tuple[str, str], int]:
        """(Id of `fitted_in`, method) -> fits; what scenarios share is counted once."""
        found: dict[tuple[str, str], int] = {}
        for scenario in self.scenarios:
            for method in self.methods:
                place = (self.fitted_in(scenario, method.name).id, method.name)
                count = self.replications_of(scenario, method)
                found[place] = max(count, found.get(place, 0))
        return found

    def method(self, name: str) -> Method:
        """The method of a name.

        Parameters
        ----------
        name : str

        Returns
        -------
        Method

        Raises
        ------
        StudyError
            For an unknown one; it lists the known ones.
        """
        if name not in self._by_name:
            raise StudyFileErrors(self.file).name(
                "method", "a method of this study", name, list(self._by_name)
            )
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Method]:
        return {m.name: m for m in self.methods}

    def replications_of(self, scenario: Scenario, method: Method) -> int:
        """Data sets of a scenario that a method fits: the first so many.

        Parameters
        ----------
        scenario : Scenario
        method : Method

        Returns
        -------
        int
        """
        return min(scenario.replications, method.replications or scenario.replications)

    def batch_of(self, method: Method) -> int:
        """Replications of a job that fits a method.

        Parameters
        ----------
        method : Method

        Returns
        -------
        int
        """
        if method.shares_jobs or "batch" in self.config:
            return self.batch
        return SAMPLING_BATCH

    def baseline_of(self, parameter: str) -> str:
        """The method that paired measures of an estimand compare with.

        Parameters
        ----------
        parameter : str

        Returns
        -------
        str
        """
        own = {e.parameter: e.baseline for e in self.estimands}
        return own.get(parameter) or self.baseline

    @cached_property
    def code(self) -> dict[str, NamedCode]:
        """Code of the user's that fits of the study run, by what it is for."""
        own = next((s.own for s in self.scenarios if s.own is not None), None)
        drawn = {} if own is None else {DATA: own.code}
        return drawn | {f"method {m.name}": m.code for m in self.methods if m.code is not None}

    @property
    def code_allowed(self) -> bool:
        """Whether all code that the file names may run."""
        return all(code.allowed for code in self.code.values())

    @property
    def is_smoke(self) -> bool:
        """Whether this is the small size, a few replications of each scenario."""
        return self.name == f"{self.file.stem}_smoke"

    @property
    def written_file(self) -> str:
        """The file as commands in the folder `root` name it."""
        file, root = self.file.resolve(), self.root.resolve()
        return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name

    @property
    def run_command(self) -> str:
        """The command that runs the study, in the folder `root`."""
        kept = self.written_file == f"config/studies/{self.file.stem}.yaml"
        parts = ["rmm", "study", "run", self.file.stem if kept else self.written_file]
        parts += ["--size", "smoke"] * self.is_smoke
        return shlex.join([*parts, *["--allow-code"] * bool(self.code)])

    @cached_property
    def ready(self) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Ready estimands by their names in estimates: (estimand, options)."""
        return {e.parameter: (e.ready, e.options) for e in self.estimands if e.ready}

    def truth_of(
        self, scenario: Scenario, parameters: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """True values by the names of parameters in estimates.

        Parameters
        ----------
        scenario : Scenario
        parameters : mapping, optional
            Those of one data set, where the scenario draws them; without, only what is the same
            in all its data sets is known.

        Returns
        -------
        dict
        """
        parameters = scenario.recipe.truth.parameters if parameters is None else parameters
        known = dict(parameters)
        for estimand in self.estimands:
            value = estimand.true_value(parameters)
            if value is not None:
                known[estimand.parameter] = value
        return known


def _of_one_type(values: list[Any]) -> list[Any]:
    """Levels of one factor: numbers, else booleans, else text."""
    if all(isinstance(v, bool) for v in values):
        return values
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return [float(v) for v in values] if any(isinstance(v, float) for v in values) else values
    return [str(v) for v in values]


#: Sizes of a study: as its file says, or a few replications of everything.
SIZES = ("full", "smoke")
_SIZES = "`full` is the complete study, `smoke` the first few replications of each scenario."


def load_study(
    path: str | Path,
    *,
    root: str | Path | None = None,
    size: str = "full",
    allow_code: bool = False,
) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path : path of a YAML file
    root : path, optional
        Folder that relative paths in the file start from; found by itself otherwise.
    size : {"full", "smoke"}
        ``"smoke"``: the first few replications (key `smoke`) under the name ``NAME_smoke``.
    allow_code : bool
        Whether functions and scripts that the file names may run. Reading the file runs none.

    Returns
    -------
    Study

    Raises
    ------
    StudyError
        File, key path, what was found and what is allowed.

    Examples
    --------
    >>> load_study("no_such_study.yaml")
    Traceback (most recent call last):
    rmm.errors.StudyError: ...no_such_study.yaml...
    """
    return _load(Path(path), root, size, None, allow_code)


def load_checked(
    path: str | Path,
    scenario: str = "",
    method: str | Sequence[str] = (),
    *,
    root: str | Path | None = None,
    size: str = "full",
    allow_code: bool = False,
) -> Study:
    """Read a study file that `load_study` has checked before, as jobs of a workflow do.

    The cost hardly grows with the number of scenarios: what a scenario simulates is prepared when
    it is first used.

    Parameters
    ----------
    path, root, size, allow_code
        As for `load_study`.
    scenario : str
        Id of the scenario that the job fits.
    method : str or sequence of str
        Names of the methods that the job fits: these models are checked, and no others.

    Returns
    -------
    Study
        The same as that of `load_study`.

    Raises
    ------
    StudyError
    """
    methods = (method,) if isinstance(method, str) else tuple(method)
    return _load(Path(path), root, size, (scenario, methods), allow_code)


def _load(
    file: Path,
    root: str | Path | None,
    size: str,
    only: tuple[str, tuple[str, ...]] | None,
    allow_code: bool,
) -> Study:
    """Read a study file; check all scenarios and methods, or `only` a scenario and its methods."""
    _check_file_name(file, StudyFileErrors(file))
    raw, lines = read_yaml(file)
    file_errors = StudyFileErrors(file, lines=lines)
    collect_missing(raw, file_errors)
    check(raw, file_errors)
    check_parts(raw, file_errors)
    file_errors.raise_found()
    folder = Path(root) if root is not None else _find_root(file)
    config = with_defaults(raw)
    if "data" in raw:
        config |= {k: v for k, v in own_content(raw["data"]).items() if k != "data"}
    scenarios: list[Scenario] = []
    with file_errors.collecting():
        scenarios = build_scenarios(raw, folder, file_errors, only and only[0], allow_code)
    methods = build_methods(config, scenarios, file_errors, only, allow_code)
    versions = build_versions(config, scenarios, methods, file_errors, only, allow_code)
    names = [one["name"] for one in config["methods"]]
    baseline = config.get("baseline", names[0])
    _check_names(config, names, baseline, file_errors)
    _check_entries(config["estimands"], file_errors)
    # What follows depends on what was checked so far: with some of it missing it would mislead.
    file_errors.raise_found()
    estimands = _read_estimands(config, scenarios, methods)
    if only is None:
        _check_estimands(estimands, config, scenarios, methods, file_errors)
    stopping, power = None, None
    with file_errors.collecting():
        stopping = read_stopping(config, estimands, names, file_errors)
    with file_errors.collecting():
        power = read_power(config, estimands, names, file_errors)
    file_errors.raise_found()
    if only is None:
        check_references(config, scenarios, methods, estimands, file_errors)
        file_errors.raise_found()
    if size not in SIZES:
        raise file_errors.about("size", unknown_name(size, "a size of a study", SIZES), _SIZES)
    study = Study(
        name=file.stem,
        file=file,
        root=folder,
        config={**config, "methods": [dict(m.config) for m in methods], "name": file.stem},
        seed=config["seed"],
        replications=config["replications"],
        batch=config.get("batch") or automatic_batch(scenarios, methods),
        scenarios=tuple(scenarios),
        methods=tuple(methods),
        estimands=estimands,
        measures=tuple(config["measures"]) or tuple(MEASURES),
        baseline=baseline,
        reference=tuple(config["reference"]),
        criteria=config["criteria"],
        stopping=stopping,
        power=power,
        versions=versions,
    )
    _check_amount(study, file_errors)
    return study if size == "full" else _smoke(study)


def _check_names(
    config: Mapping[str, Any], names: list[str], baseline: str, file_errors: StudyFileErrors
) -> None:
    """Check the measures, and the methods that other keys name; errors are collected."""
    with file_errors.collecting():
        if baseline not in names:
            raise file_errors.name("baseline", "a method of this study", baseline, names)
    for index, one in enumerate(config["estimands"]):
        with file_errors.collecting():
            if one.get("baseline", names[0]) not in names:
                key = f"estimands[{index}].baseline"
                raise file_errors.name(key, "a method of this study", one["baseline"], names)
    for index, measure in enumerate(config["measures"]):
        with file_errors.collecting():
            if measure not in MEASURES:
                raise file_errors.name(f"measures[{index}]", "a measure", measure, list(MEASURES))
    for index, method in enumerate(config["criteria"].get("recovery", {}).get("methods", [])):
        with file_errors.collecting():
            if method not in names:
                key = f"criteria.recovery.methods[{index}]"
                raise file_errors.name(key, "a method of this study", method, names)


def _check_amount(study: Study, file_errors: StudyFileErrors) -> None:
    """Jobs are planned in memory, all of them."""
    fits = sum(study.fits.values())
    if fits > MOST_FITS:
        found = f"The study has {fits:,} fits in all; at most {MOST_FITS:,} are allowed."
        raise file_errors.about("replications", found)


def _check_file_name(file: Path, file_errors: StudyFileErrors) -> None:
    """The name becomes that of the results folder, in a workflow that gives braces a meaning."""
    if not re.fullmatch(r"\w[\w .+-]{0,99}", file.stem) or file.stem.endswith((" ", ".")):
        raise file_errors.about(
            "its name",
            f"{file.stem!r} cannot be the name of a study file.",
            "A name can have up to 100 letters, digits, blanks, `_`, `.`, `+` and `-`. It must "
            "start with a letter, a digit or `_`, and cannot end with a blank or `.`.",
        )


def _smoke(study: Study) -> Study:
    """The first few replications of all scenarios; they are those of the full size, too."""
    few, name = study.config["smoke"], f"{study.name}_smoke"
    return replace(
        study,
        name=name,
        config={**study.config, "name": name},
        replications=min(few, study.replications),
        scenarios=tuple(replace(s, replications=min(few, s.replications)) for s in study.scenarios),
        stopping=None,
    )


def _find_root(file: Path) -> Path:
    for folder in file.resolve().parents:
        if any((folder / mark).is_file() for mark in _ROOT_MARKS):
            return folder
    return file.resolve().parent


def _read_estimands(
    config: Mapping[str, Any], scenarios: list[Scenario], methods: list[Method]
) -> tuple[Estimand, ...]:
    """Estimands that the file states; without any, all parameters of the truth."""
    if not config["estimands"]:
        known = (name for s in scenarios for name in s.recipe.truth.names)
        chosen = (name for name in _chosen(methods) if name.startswith("choice"))
        return tuple(Estimand(name, 0.0, (0.05,)) for name in dict.fromkeys([*known, *chosen]))
    return tuple(
        Estimand(
            label_of(one),
            one["null"],
            _levels(one["alpha"]),
            one.get("truth"),
            one.get("estimand", ""),
            options_of(one) if "estimand" in one else {},
            one.get("baseline", ""),
        )
        for one in config["estimands"]
    )


def _check_entries(entries: list[Mapping[str, Any]], file_errors: StudyFileErrors) -> None:
    """Each names a parameter, or a ready estimand with its options; errors are collected."""
    for index, one in enumerate(entries):
        key = f"estimands[{index}]"
        with file_errors.collecting():
            if ("parameter" in one) == ("estimand" in one):
                found = "Both are given." if "parameter" in one else "Neither is given."
                raise file_errors.about(key, found, "Give either `parameter` or `estimand`.")
            if "estimand" not in one:
                for name in options_of(one):
                    raise file_errors.about(
                        f"{key}.{name}", f"`{name}` is an option of a ready `estimand`."
                    )
                continue
            try:
                check_options(one["estimand"], options_of(one))
            except RecipeError as error:
                raise file_errors.about(f"{key}.{error.key}", error.problem, error.advice) from None


def _levels(alpha: Any) -> tuple[float, ...]:
    return tuple(alpha) if isinstance(alpha, list) else (alpha,)


def _chosen(methods: list[Method]) -> list[str]:
    """Parameters of methods that choose among candidates."""
    return [
        n for m in methods for n in choice_parameters(m.kind.name, m.config.get("candidates", {}))
    ]


def _check_estimands(
    estimands: tuple[Estimand, ...],
    config: Mapping[str, Any],
    scenarios: list[Scenario],
    methods: list[Method],
    file_errors: StudyFileErrors,
) -> None:
    """Check the estimands that the file states; errors are collected."""
    known = dict.fromkeys(name for s in scenarios for name in s.recipe.truth.names)
    chosen = _chosen(methods)
    names: list[str] = []
    for index in range(len(config["estimands"])):
        estimand, key = estimands[index], f"estimands[{index}]"
        with file_errors.collecting():
            if estimand.parameter in names:
                raise file_errors.about(
                    f"{key}.parameter",
                    f"The estimand {estimand.parameter!r} is given twice.",
                    "Remove one of them.",
                )
            names.append(estimand.parameter)
            if estimand.ready:
                _check_ready(key, estimand, scenarios, file_errors)
            returned = any(s.own for s in scenarios)  # true values are those of the function
            if not (returned or estimand.has_truth(known) or estimand.parameter in chosen):
                key += ".truth" if estimand.truth is not None else ".parameter"
                wanted = estimand.truth or estimand.parameter
                raise file_errors.name(key, "a parameter of `truth`", wanted, [*known, *chosen])


def _check_ready(
    key: str, estimand: Estimand, scenarios: list[Scenario], file_errors: StudyFileErrors
) -> None:
    """A ready estimand has a true value in the data sets of every scenario."""
    for scenario in scenarios:
        try:
            TRUE_ESTIMANDS[estimand.ready].check(scenario.recipe, **estimand.options)
        except RecipeError as error:
            words = ", ".join(f"{k} = {v}" for k, v in scenario.factors.items())
            within = file_errors.within(f"scenario {words}") if words else file_errors
            raise within.about(f"{key}.{error.key}", error.problem, error.advice) from None
