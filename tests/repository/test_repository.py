"""Rules of the house that no single module's tests can keep."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from tests import ROOT

PACKAGE = ROOT / "rmm"
MODULES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
#: Modules and packages in a package; registries have a file for each of their rows.
PARTS = 16
#: File names that two folders share: the same thing for another engine, or of another package.
REPEATED = {
    "backend",  # the row of each engine
    "base",  # families, backends
    "effects",  # text of JAGS and Stan programs
    "features",  # in formulas, and in text of programs
    "priors",  # on a table, and in text of programs
    "program",
    "run",
    "study",  # the object, and its commands
    "weight_function",  # in formulas, and as a plot
}
REGISTRIES = ("rmm/families", "rmm/study/report/figures")
FOLDERS = ("benchmarks", "config", "workflow")  # with Markdown that GitHub shows
# Programs whose import is a backend's business alone.
ENGINES = {"pyjags", "cmdstanpy", "httpstan", "stan"}
# Import name -> distribution, where they differ.
DISTRIBUTIONS = {
    "arviz_base": "arviz-base",
    "arviz_stats": "arviz-stats",
    "arviz_plots": "arviz-plots",
    "yaml": "pyyaml",
    "PIL": "pillow",
}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, those inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def project_files() -> Iterator[Path]:
    """Text files under version control; where there is no git, those of the known folders."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = listing.stdout.splitlines() if listing.returncode == 0 else []
    if not names:
        folders = ("rmm", "tests", "workflow", "config", "tools", ".ci")
        names = [named(path) for folder in folders for path in (ROOT / folder).rglob("*")]
    for name in names:
        path = ROOT / name
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 10


def test_modules_and_names_say_what_they_are() -> None:
    vague = re.compile(r"(^|_)(utils?|helpers?|managers?)(_|$)", re.IGNORECASE)
    found = [named(path) for path in MODULES if vague.search(path.stem)]
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name)
                if vague.search(words):
                    found.append(f"{named(path)}: {node.name}")
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_only_backends_import_engines(path: Path) -> None:
    allowed = ENGINES if "backends" in path.relative_to(PACKAGE).parts else set()
    assert roots(path) & ENGINES <= allowed


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_package_knows_nothing_of_snakemake(path: Path) -> None:
    assert "snakemake" not in roots(path)


def test_simulator_shares_no_code_with_programs_and_design() -> None:
    forbidden = ("rmm.design", "rmm.backends", "rmm.posterior", "rmm.fit")
    shared = {
        f"{named(path)}: {name}"
        for path in (PACKAGE / "simulation").rglob("*.py")
        for name in imports(path)
        if name.startswith(forbidden)
    }
    assert shared == set()


def test_no_import_leads_back() -> None:
    """Neither modules nor packages import each other in a circle, for types alone either."""
    graph = grimp.build_graph("rmm", exclude_type_checking_imports=False)
    modules = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(modules) > len(MODULES) / 2
    TopologicalSorter(modules).prepare()  # a CycleError names the circle


@pytest.mark.parametrize("package", PACKAGES, ids=named)
def test_package_can_be_taken_in_at_a_glance(package: Path) -> None:
    parts = {p.stem for p in package.glob("*.py")} | {p.parent.name for p in package.glob("*/*.py")}
    parts -= {"__init__", "__main__"}
    assert named(package) in REGISTRIES or len(parts) <= PARTS, sorted(parts)


def test_file_names_repeat_only_where_the_folder_says_the_difference() -> None:
    stems = Counter(path.stem for path in MODULES if path.stem not in ("__init__", "__main__"))
    assert {stem for stem, n in stems.items() if n > 1} <= REPEATED


def test_layers_are_kept() -> None:
    """The contracts of pyproject.toml, as `make lint` checks them."""
    if importlib.util.find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed")
    command = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


DEVELOPERS = {"dev", "docs"}  # extras for work on the package itself


def declared() -> set[str]:
    """Distributions that pyproject.toml names for users: extras, but not those of developers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [s for name in set(extras) - DEVELOPERS for s in extras[name]]
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in lines}


def test_what_the_package_imports_is_declared() -> None:
    used = set().union(*(roots(path) for path in MODULES))
    foreign = used - set(sys.stdlib_module_names) - {"rmm"}
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} - declared() == set()


def test_extra_all_holds_every_extra_of_users() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    parts = {line for name in set(extras) - DEVELOPERS - {"all"} for line in extras[name]}
    assert set(extras["all"]) == parts


def test_lock_covers_what_is_declared_with_hashes_and_no_addresses() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^--?[a-z]", text, re.MULTILINE)
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)
    pinned = {e.partition("==")[0].lower(): e for e in entries if "==" in e}
    assert declared() - set(pinned) == set()
    assert [name for name, entry in pinned.items() if "--hash=sha256:" not in entry] == []


def test_no_paths_of_a_machine_and_no_registries() -> None:
    # Spelled in pieces, so that this file does not hold what it looks for.
    machine = "|".join("/" + name + "/" for name in ("work", "root", "home", "Users"))
    hosts = "|".join(
        ("python" + r"hosted", r"pypi\." + "org", r"registry\." + "npm", r"deb\.deb" + "ian")
    )
    forbidden = re.compile(rf"(?<![\w.$}}~/-])({machine})|{hosts}")
    found = []
    for path in project_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{named(path)}:{n}" for n, line in enumerate(lines, 1) if forbidden.search(line)]
    assert found == []


def test_every_family_file_has_a_row() -> None:
    families = importlib.import_module("rmm.families")
    rows = {id(family) for family in families.FAMILIES.values()}
    for path in (PACKAGE / "families").glob("[!_]*.py"):
        if path.stem in ("base", "zero_counts"):  # what families have in common
            continue
        module = importlib.import_module(f"rmm.families.{path.stem}")
        own = [v for v in vars(module).values() if isinstance(v, families.Family)]
        assert own, f"{named(path)} defines no family"
        # Variants, as with delayed entry, have the name of a row.
        assert {id(family) for family in own} & rows, f"{named(path)} has no row in FAMILIES"
        assert {family.name for family in own} <= set(families.FAMILIES)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_no_file_is_left_unused(path: Path) -> None:
    """Each file is named by another file: in its registry, or as a part of one."""
    if path.stem in ("__init__", "__main__"):
        return
    scripts = [*(ROOT / "workflow").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk")]
    others = (other.read_text(encoding="utf-8") for other in (*MODULES, *scripts) if other != path)
    word = re.compile(rf"\b{path.stem}\b")
    assert any(word.search(text) for text in others), f"{named(path)} is named nowhere"


SKIPS = """
import pytest

def test_of_an_engine():
    pytest.importorskip("an_engine_that_is_not_there")

def test_of_something_else():
    pytest.skip("the shared data are not here")
"""


@pytest.mark.thorough
@pytest.mark.parametrize(("ci", "counted"), [("true", "1 failed, 1 skipped"), ("", "2 skipped")])
def test_skip_for_a_missing_engine_fails_in_ci(tmp_path: Path, ci: str, counted: str) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_sample.py").write_text(SKIPS)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."],
        cwd=tmp_path,
        env={
            **os.environ,
            "CI": ci,
            "PYTEST_ADDOPTS": "",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
    )
    assert counted in result.stdout, result.stdout


def markdown(path: Path) -> tuple[list[str], set[str], list[str]]:
    """Links and images of a Markdown file, anchors of its headings as GitHub makes them, code."""
    from markdown_it import MarkdownIt

    links, anchors, code, heading = [], set(), [], False
    for token in MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8")):
        heading = token.type == "heading_open" or (heading and token.type == "inline")
        for part in token.children or []:
            links += [str(part.attrs[key]) for key in ("href", "src") if key in part.attrs]
            code += [part.content] * (part.type == "code_inline")
        if heading and token.type == "inline":
            words = re.sub(r"[^\w\- ]", "", token.content.lower())
            anchors.add(words.replace(" ", "-"))
    return links, anchors, code


def lost(root: Path, path: Path) -> list[str]:
    """Links of a Markdown file that lead nowhere, and files of ours that it names in vain."""
    links, anchors, code = markdown(path)
    found = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        if anchor and there.suffix == ".md" and there.is_file():
            anchors = markdown(there)[1]
        if not there.exists() or (anchor and anchor not in anchors):
            found.append(link)
    ours = "|".join(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    named = re.compile(rf"(?:{ours})/[\w./-]+")
    generic = re.compile("NAME|FAMILY|^results/(?!reference)|^build/")
    return found + [
        name
        for name in code
        if named.fullmatch(name)
        and not generic.search(name)
        and not any((folder / name).exists() for folder in (root, path.parent))
    ]


def test_links_and_files_named_beside_the_documentation_exist() -> None:
    """`docs/` is checked by Sphinx; these files are read where they are."""
    files = [*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))]
    assert {"README.md", "CHANGELOG.md", "config/README.md"} <= {named(p) for p in files}
    found = {named(p): lost(ROOT, p) for p in files}
    assert {name: links for name, links in found.items() if links} == {}


def test_a_lost_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b.md").write_text("# A `b`, or c\n")
    page = tmp_path / "a.md"
    page.write_text(
        "# One two\n[x](#one-two) [x](docs/b.md#a-b-or-c) [x](gone.md) ![x](gone.svg)\n"
        "\n| [x](docs/b.md#d) |\n|---|\n\n[x](#three) `docs/b.md` `docs/c.md` `docs/NAME.md`\n"
    )
    assert lost(tmp_path, page) == ["gone.md", "gone.svg", "docs/b.md#d", "#three", "docs/c.md"]


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=named)
def test_what_a_benchmark_imports_of_the_package_is_there(path: Path) -> None:
    """Benchmarks run too long for tests; their imports do not."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rmm":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
