"""Docstrings of the public names: those of `rmm.__all__` and of the reference's pages.

The rule, for functions, methods and what classes hold:

* a docstring;
* `Parameters` names every parameter of the signature, several in one line or with a section for
  what belongs together; for a dataclass the `Attributes` of the class do, or its sentence;
* `Returns` (or `Yields`), unless nothing is returned. A docstring without any section may say what
  comes back in its first sentence: properties, and methods that the reference shows in one line;
* `Raises` names every class of `rmm.errors` that the function's own body raises.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import sys
import textwrap
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from numpydoc.docscrape import NumpyDocString

import rmm
from rmm import errors
from tests import ROOT

sys.path.insert(0, str(ROOT / "docs"))

from site_parts import api

#: Modules whose docstrings hold examples that are run.
WITH_EXAMPLES = [
    "rmm.datasets",
    "rmm.design.members.neighbour_covariance",
    "rmm.families",
    "rmm.fitting.competing_risks",
    "rmm.fitting.multinomial",
    "rmm.fitting.pipeline",
    "rmm.fitting.table_look.look",
    "rmm.formula.prior_syntax",
    "rmm.formula.replaced_weights",
    "rmm.posterior.comparison.averaging",
    "rmm.posterior.comparison.bayes_factors",
    "rmm.posterior.comparison.compare",
    "rmm.posterior.comparison.pooling",
    "rmm.posterior.fit_tables",
    "rmm.posterior.posterior_methods",
    "rmm.posterior.prediction.predictive_checks",
    "rmm.posterior.prior_draws",
    "rmm.posterior.load",
    "rmm.simulation",
    "rmm.study.design.study",
    "rmm.study.estimate_tables.joint_table",
    "rmm.study.performance",
    "rmm.tables.wide_to_long",
]
ERRORS = {
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.RmmError)
}


def public() -> dict[str, Any]:
    """Dotted name -> object: names of the reference, and the members of its classes."""
    values = {f"rmm.{name}": getattr(rmm, name) for name in rmm.__all__}
    found: dict[str, Any] = {name: v for name, v in values.items() if not isinstance(v, ModuleType)}
    for page in api.PAGES:
        for name in api.names(page):
            module, _, last = name.rpartition(".")
            found[name] = getattr(import_module(module), last)
    for name, value in list(found.items()):
        if inspect.isclass(value):
            found |= {f"{name}.{key}": member for key, member in members(value).items()}
    return found


def members(cls: type) -> dict[str, Any]:
    """Public methods and properties that our own classes define; plain values are attributes."""
    found = {}
    for key in dir(cls):
        owner = next((c for c in cls.__mro__ if key in vars(c)), None)
        if key.startswith("_") or owner is None or not owner.__module__.startswith("rmm"):
            continue
        member = vars(owner)[key]
        # What a dataclass holds by default is a value of it, not a method.
        if key in getattr(cls, "__dataclass_fields__", {}):
            continue
        if inspect.isfunction(member) or hasattr(member, "fget") or hasattr(member, "func"):
            found[key] = member
    return found


def faults(value: Any) -> list[str]:
    """What is missing in a docstring, by the rule above."""
    text = inspect.getdoc(value)
    if not text:
        return ["no docstring"]
    doc = NumpyDocString(text)
    if inspect.isclass(value):
        return _of_class(value, doc, text)
    function = getattr(value, "fget", None) or getattr(value, "func", None) or value
    out = [] if function is not value else _parameters(function, doc)
    result = inspect.get_annotations(function).get("return")  # a string, by our `__future__`
    sections = any(doc[part] for part in ("Parameters", "Returns", "Yields"))
    if result not in (None, "None") and sections and not (doc["Returns"] or doc["Yields"]):
        out.append("no Returns")
    listed = {word.strip() for row in doc["Raises"] for word in (row.type or row.name).split(",")}
    out += [f"{name} not in Raises" for name in sorted(raised(function) - listed)]
    return out


def _parameters(function: Any, doc: NumpyDocString) -> list[str]:
    wanted = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
    known = {word.strip("* ") for row in doc["Parameters"] for word in row.name.split(",")}
    return [f"parameter {name}" for name in wanted if name not in known]


def _of_class(cls: type, doc: NumpyDocString, text: str) -> list[str]:
    """Attributes of a dataclass that neither a section nor the sentence names."""
    known = {
        word.strip("* ")
        for part in ("Attributes", "Parameters")
        for row in doc[part]
        for word in row.name.split(",")
    }
    fields = [name for name in getattr(cls, "__dataclass_fields__", {}) if name[0] != "_"]
    return [f"attribute {name}" for name in fields if name not in known and f"`{name}`" not in text]


def raised(function: Any) -> set[str]:
    """Classes of `rmm.errors` that the body raises by name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            call = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(call, ast.Name):
                found.add(call.id)
    return found & ERRORS


PUBLIC = public()


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_is_complete(name: str) -> None:
    assert not faults(PUBLIC[name])


def good(x: int, y: int, **rest: int) -> int:
    """A number.

    Parameters
    ----------
    x, y : int
    **rest : int

    Returns
    -------
    int

    Raises
    ------
    DataError
        Always.
    """
    raise errors.DataError("no") if rest else DataError


def bad(x: int, y: int) -> int:
    """A number.

    Parameters
    ----------
    x : int
    """
    raise DataError("no")


def bare(x: int) -> None:
    pass


def silent(x: int) -> int:
    """A number of `x`."""
    return x


DataError = errors.DataError


def test_the_check_finds_what_is_missing() -> None:
    assert faults(bad) == ["parameter y", "no Returns", "DataError not in Raises"]
    assert faults(bare) == ["no docstring"]
    assert faults(silent) == ["parameter x"]
    assert faults(good) == []


def test_public_names_are_those_of_the_package_and_the_reference() -> None:
    assert {
        "rmm.fit",
        "rmm.Fit.summary",
        "rmm.Fit.draws",
        "rmm.study.performance",
        "rmm.study.Study.factors",
        "rmm.simulation.Drawn.rows",
    } <= set(PUBLIC)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = import_module(name)
    assert isinstance(module, ModuleType)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0, "there are no examples"
    assert result.failed == 0


def test_no_module_has_examples_that_do_not_run() -> None:
    """`>>>` in a module means that `WITH_EXAMPLES` names it."""
    found = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for p in (ROOT / "rmm").rglob("*.py")
        if "\n>>> " in _without_indent(p)
    }
    assert found == set(WITH_EXAMPLES)


def _without_indent(path: Path) -> str:
    return "\n".join(line.lstrip() for line in path.read_text(encoding="utf-8").splitlines())


def test_types_of_the_package_are_for_its_users_too() -> None:
    """Strict mypy over all of `rmm`, run by `make lint`; PEP 561's marker goes into the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert project["mypy"]["strict"] is True
    assert project["mypy"]["files"] == ["rmm"]
    ours = [o for o in project["mypy"]["overrides"] if any("rmm" in m for m in o["module"])]
    assert not ours
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2]
    assert "-m mypy" in lint.partition("\n\n")[0]
    assert (ROOT / "rmm" / "py.typed").is_file()
    assert project["scikit-build"]["wheel"]["packages"]["rmm"] == "rmm"
