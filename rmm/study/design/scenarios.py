"""Factors -> scenarios: combinations of their levels, less what is excluded."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rmm.errors import RmmError
from rmm.simulation import STRUCTURES, Recipe, prepare
from rmm.simulation.schema import schema
from rmm.study.design.combinations import Factors, combinations, full_size
from rmm.study.design.levels_of_factors import (
    HEADS,
    Level,
    Range,
    levels_of,
    method_path,
    split_path,
)
from rmm.study.design.method_settings import (
    METHODS,
    MethodSettings,
    is_of_method,
    patched,
    settings_between,
)
from rmm.study.design.own_content import own_address, own_content, own_data
from rmm.study.files import seeds
from rmm.study.files.checked_yaml import check, with_defaults, without_defaults
from rmm.study.files.messages import StudyFileErrors
from rmm.study.own.given_data import given_recipe
from rmm.study.own.own_data import OwnData

PARTS = ("membership", "covariates", "truth")
#: Cells of the grid of factors: more are a mistake, each is checked by itself.
MOST_SCENARIOS = 20_000


@dataclass(frozen=True, eq=False)
class Scenario:
    """One cell of a study.

    Attributes
    ----------
    id : str
        ``s`` and 10 hexadecimal digits of the hash of its content, and of the keys of methods
        that its factors change.
    factors : mapping
        Factor -> level, as in ``scenarios.parquet``.
    content : mapping
        membership, covariates, truth with all defaults said.
    digest : str
        Address of its data.
    fixed_digests : mapping
        Addresses of what is drawn once, ``membership`` and ``covariates``: they do not depend
        on the rest, so scenarios that differ in the truth alone share the drawn design.
    prepare : callable
        Returns the recipe; it is made at the first call.
    own : OwnData or None
        The user's function that draws its data; None where they are simulated from the truth.
    settings : mapping
        Name of a method -> its settings, where a factor makes them differ from `methods`.
    """

    id: str
    factors: Mapping[str, Any]
    content: Mapping[str, Any]
    replications: int
    digest: str
    fixed_digests: Mapping[str, str]
    prepare: Callable[[], Recipe] = field(repr=False)
    own: OwnData | None = None
    settings: Mapping[str, MethodSettings] = field(default_factory=dict)

    @property
    def data_id(self) -> str:
        """The id of its data; scenarios that differ only in keys of methods share it."""
        return scenario_id(self.digest, {})

    def with_settings(self, name: str) -> Scenario:
        """The scenario in which one method alone has these settings: the others do not matter.

        Its id is the address of the method's fits. An empty name gives that of the data.
        """
        kept = {name: self.settings[name]} if name in self.settings else {}
        if len(kept) == len(self.settings):
            return self
        return replace(self, id=scenario_id(self.digest, kept), settings=kept)

    @property
    def truth_varies(self) -> bool:
        """Whether each data set has true values of its own."""
        return self.own is not None or bool(self.recipe.truth.priors)

    @property
    def recipe(self) -> Recipe:
        """What is simulated."""
        return self.prepare()

    @property
    def label(self) -> str:
        """Its factor levels in words; its id where there are no factors."""
        return ", ".join(str(level) for level in self.factors.values()) or self.id


def scenario_id(digest: str, settings: Mapping[str, MethodSettings]) -> str:
    """Id of a scenario by the address of its data and the settings of methods."""
    if not settings:
        return f"s{digest[:10]}"
    changes = {name: one.changes for name, one in settings.items()}
    return seeds.short_id("s", {"data": digest, METHODS: changes})


def build_scenarios(
    config: Mapping[str, Any],
    root: Path,
    file_errors: StudyFileErrors,
    only: str | None = None,
    allow_code: bool = False,
) -> list[Scenario]:
    """All valid scenarios of a study, each checked as far as it can be without drawing.

    Errors of the others are collected.

    Parameters
    ----------
    config : mapping
        The study file, checked against the schema.
    root : Path
        Folder that relative paths start from.
    only : str, optional
        Check this scenario alone (an id), or none if it is empty; default: all.
    allow_code : bool
        Whether a user's function that draws the data may run.
    """
    factors = {n: levels_of(n, f, config, file_errors) for n, f in config.get("vary", {}).items()}
    excluded = _excluded(config, factors, file_errors)
    design = with_defaults(config.get("design", {}), schema()["properties"]["design"])
    cells = full_size(factors)
    if cells > MOST_SCENARIOS and design["kind"] in ("full", "fraction"):
        found = f"The study has {cells:,} scenarios; at most {MOST_SCENARIOS:,} are allowed."
        raise file_errors.about("vary", found)
    scenarios: dict[str, Scenario] = {}
    for levels in combinations(factors, design, config["seed"], file_errors):
        named = dict(zip(factors, (level.name for level in levels), strict=True))
        if any(all(named[k] == v for k, v in entry.items()) for entry in excluded):
            continue
        with file_errors.collecting():
            scenario = _scenario(config, named, levels, root, file_errors, only, allow_code)
            if scenario.id in scenarios:
                raise file_errors.about(
                    "vary",
                    f"{_words(named)} and {_words(scenarios[scenario.id].factors)} give the same "
                    "scenario.",
                    "Remove one of the two levels, or change what it sets.",
                )
            scenarios[scenario.id] = scenario
    if not scenarios and not file_errors.found:
        raise file_errors.about("exclude", "All scenarios are excluded; at least one is needed.")
    return list(scenarios.values())


def _words(factors: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in factors.items()) or "the only one"


def _excluded(
    config: Mapping[str, Any], factors: Factors, file_errors: StudyFileErrors
) -> list[Mapping[str, Any]]:
    for index, entry in enumerate(config.get("exclude", [])):
        for name, value in entry.items():
            key = f"exclude[{index}].{name}"
            if name not in factors:
                raise file_errors.name(key, "a factor of `vary`", name, list(factors))
            one = factors[name]
            names = [] if isinstance(one, Range) else [level.name for level in one]
            if value not in names:
                raise file_errors.name(key, f"a level of {name}", value, names)
    return list(config.get("exclude", []))


def _scenario(
    config: Mapping[str, Any],
    named: Mapping[str, Any],
    levels: tuple[Level, ...],
    root: Path,
    file_errors: StudyFileErrors,
    only: str | None,
    allow_code: bool,
) -> Scenario:
    file_errors = file_errors.within(f"scenario {_words(named)}" if named else "")
    heads = ("data", "replications") if "data" in config else HEADS
    whole = {k: copy.deepcopy(config[k]) for k in heads if k in config}
    of_methods = []
    for level in levels:
        for path, value in level.patch.items():
            if is_of_method(path):
                of_methods.append((*method_path(path, config), value))
            else:
                _put(whole, split_path(path), copy.deepcopy(value))
    settings: dict[str, MethodSettings] = {}
    if of_methods:
        entries = patched(config[METHODS], of_methods)
        settings = settings_between(config[METHODS], entries)
        if only is None and settings:  # of a checked study: with the digest of its own code
            written = [{k: v for k, v in one.items() if k != "sha256"} for one in entries]
            _check_parts({METHODS: written}, file_errors)
    if only is None:
        _check_parts(whole, file_errors)
    own = None
    if "data" in whole:
        content = own_content(whole["data"])
        own = own_data(content["data"], config, allow_code, file_errors)
        prepared = functools.cache(functools.partial(given_recipe, content["data"]))
        address = own_address(whole["data"], own)
    else:
        rules = schema()["properties"]
        content = {p: with_defaults(whole.get(p, {}), rules[p]) for p in PARTS}
        prepared = functools.cache(functools.partial(prepare, content, root))
        address = {}
    if only is None:
        _check_recipe(prepared, "data" if own else "truth", file_errors)
    address = address or _address(content, root)
    digest = seeds.digest(address)
    scenario = Scenario(
        id=scenario_id(digest, settings),
        factors=dict(named),
        content=content,
        replications=whole["replications"],
        digest=digest,
        fixed_digests={} if own else _fixed_digests(address),
        prepare=prepared,
        own=own,
        settings=settings,
    )
    if only in addresses_of(scenario):
        _check_parts(whole, file_errors)
        _check_recipe(prepared, "data" if own else "truth", file_errors)
    return scenario


def addresses_of(scenario: Scenario) -> set[str]:
    """Ids under which there are data or fits of a scenario."""
    return {scenario.id, *(scenario.with_settings(name).id for name in ("", *scenario.settings))}


def _check_parts(whole: Mapping[str, Any], file_errors: StudyFileErrors) -> None:
    for part, value in whole.items():
        check(value, file_errors, part)


def _check_recipe(prepared: Callable[[], Recipe], part: str, file_errors: StudyFileErrors) -> None:
    try:
        prepared()
    except RmmError as error:
        raise file_errors.convert(f"{part}.formula", error) from error


def _fixed_digests(address: Mapping[str, Any]) -> dict[str, str]:
    kept = {n: c for n, c in address["covariates"].items() if not c.get("redraw", True)}
    both = {"membership": address["membership"], "covariates": kept}
    return {
        "membership": seeds.digest(both["membership"]),
        "covariates": seeds.digest(both),
    }


def _put(whole: dict[str, Any], parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        whole = whole[part]
    whole[parts[-1]] = value


def _address(content: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """What the data depend on: the content without defaults, a file by its bytes."""
    rules = schema()["properties"]
    address = {p: without_defaults(content[p], rules[p]) for p in PARTS}
    membership = address["membership"]
    defaults = STRUCTURES[membership["kind"]].optional
    address["membership"] = {
        k: v for k, v in membership.items() if k not in defaults or v != defaults[k]
    }
    if "file" in membership:
        address["membership"]["file"] = seeds.file_digest(root / membership["file"])
    size = membership.get("size")
    if isinstance(size, Mapping) and "file" in size:
        file = seeds.file_digest(root / size["file"])
        address["membership"]["size"] = {**size, "file": file}
    return address
