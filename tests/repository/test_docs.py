"""The documentation: its code runs, its output is right, and it covers all public names."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from inspect import isclass, ismodule
from pathlib import Path
from pkgutil import walk_packages

import pytest

import rmm
from rmm.backends.laplace.kernels.library import NUMPY, running
from rmm.errors import RmmError
from tests import ROOT

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
from site_parts import api, data_checks, generated, pages, warning_texts  # noqa: E402

COMPILES = {"howto/own-programs.md"}  # a Stan program
PUBLISHED = {  # data
    f"tutorials/{name}.md" for name in ("bml", "which-weights", "workers", "friends")
}
ELSEWHERE = {*PUBLISHED, "tutorials/space.md"}  # tests/datasets/test_examples.py
WITH_CODE = sorted(
    path.relative_to(DOCS).as_posix()
    for path in DOCS.rglob("*.md")
    if pages.blocks(path.read_text(encoding="utf-8"))
)
LONG = [page for page in WITH_CODE if pages.is_long((DOCS / page).read_text(encoding="utf-8"))]
FAST = [page for page in WITH_CODE if page not in LONG and page not in ELSEWHERE]


def follow(page: str, folder: Path) -> None:
    """Run a page; what it prints must be what it shows."""
    ran = 0
    for block, printed, shown in pages.run(DOCS / page, folder):
        ran += 1
        if shown is not None:
            assert not pages.differences(printed, shown.code), f"{page}:\n{block.code}"
    said = {block.key for block in pages.blocks((DOCS / page).read_text(encoding="utf-8"))}
    assert ran or said == {"not run"}, f"{page} has code, and none of it was run"


compiled = pytest.mark.skipif(
    running() == NUMPY,
    reason="pages show Pareto k of the compiled kernels: without a C++ compiler it differs by more "
    "than its last digit",
)


@compiled
@pytest.mark.jags
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.thorough] if page in COMPILES else []) for page in FAST],
)
def test_the_code_of_a_page(page: str, tmp_path: Path) -> None:
    follow(page, tmp_path)


@compiled
@pytest.mark.docs
@pytest.mark.jags
@pytest.mark.parametrize("page", LONG)
def test_the_code_of_a_page_that_takes_long(page: str, tmp_path: Path) -> None:
    follow(page, tmp_path)


@pytest.mark.parametrize("page", WITH_CODE)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    """Python and shell are run; anything else is output, a file, or has a reason."""
    text = (DOCS / page).read_text(encoding="utf-8")
    before = None
    for block in pages.blocks(text):
        if block.key == "not run":
            assert len(block.value) > 10, block
        elif block.language == "text" and block.key != "file":
            output = before is not None and before.language in ("python", "sh")
            assert output and not text[before.end : block.start].strip(), block  # type: ignore[union-attr]
        elif block.language not in ("python", "sh"):
            assert block.key == "file", block
        before = block


@pytest.mark.parametrize(
    ("printed", "shown", "differs"),
    [
        ("b 1.00 sd 0.10", "b  1.02 sd 0.12", False),
        ("b 1.00", "b 1.60", True),
        ("b 1.00", "c 1.00", True),
        ("12,345 fits", "12,000 fits", False),
        ("one\ntwo\nthree\nfour", "one\n...\nfour", False),
        ("one\ntwo\nthree\nfive", "one\n...\nfour", True),
        ("one", "one two", True),
        ("-0.5", "0.5", True),
    ],
)
def test_what_counts_as_a_difference(printed: str, shown: str, differs: bool) -> None:
    assert bool(pages.differences(printed, shown)) is differs


@pytest.mark.parametrize(
    "code",
    [
        "```python\n1/0\n```\n",
        "<!-- raises: ValueError -->\n```python\n1/0\n```\n",
        "<!-- raises: ValueError -->\n```python\n1\n```\n",
        "<!-- warns: ConvergenceWarning -->\n```python\n1\n```\n",
        "```sh\nfalse\n```\n",
    ],
)
def test_a_page_that_is_wrong_is_found(code: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(code)
    with pytest.raises(pages.PageError, match=r"page\.md"):
        list(pages.run(page, tmp_path / "folder"))


#: Words and phrases with a meaning of our own, which readers would have to learn.
COINED = re.compile(
    r"\b(?:mend(?:s|ed|ing)?|anew|strangers?|did not end well|holds nobody up|as they stand)\b"
    r"|(?<!ASCII )\bletters?\b",
    re.IGNORECASE,
)
WRITTEN = sorted(
    [
        *ROOT.glob("*.md"),
        ROOT / "config" / "README.md",
        ROOT / "benchmarks" / "README.md",
        *DOCS.rglob("*.md"),
    ]
)


def prose(path: Path) -> str:
    """Text of a page without code blocks, whose output is that of the package; on one line."""
    text = re.sub(r"^```(?!\{).*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return " ".join(text.split())


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_have_no_words_of_our_own(path: Path) -> None:
    assert [found[0] for found in COINED.finditer(prose(path))] == []


def test_words_of_our_own_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "It gets a\nletter that\nis short. Draw anew, mend it.\n```text\nanew\n```\nFits that did\n"
        "not end well. A stranger's file, taken as they stand, holds nobody up.\n"
        "ASCII letters and amendments are fine.\n"
    )
    assert len(COINED.findall(prose(page))) == 7


def classes() -> set[str]:
    """Names of all errors and warnings that modules of the package define."""
    found = set()
    for module in walk_packages(rmm.__path__, "rmm."):
        if module.name.endswith("__main__"):
            continue
        loaded = import_module(module.name)
        for name, value in vars(loaded).items():
            ours = isclass(value) and value.__module__ == module.name
            if ours and issubclass(value, RmmError | Warning):
                found.add(name)
    return found


def test_every_error_and_warning_has_an_example() -> None:
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^## (\w+)$", text, re.MULTILINE))
    assert headings == classes()
    shown = {block.value for block in pages.blocks(text) if block.key in ("raises", "warns")}
    assert shown == headings - {"RmmError"}
    assert text.count("\nWay out: ") == len(shown)


def test_every_warning_is_on_the_page_of_errors() -> None:
    """Found in the source, and counted: a call that is written otherwise would be missed."""
    found = list(warning_texts.warning_texts())
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "rmm").rglob("*.py"))
    assert len(list(warning_texts.calls())) == len(re.findall(r"\bwarnings\.warn\(", source))
    assert {one.category for one in found} == set(warning_texts.CLASSES)
    for one in found:
        assert len(one.text.replace("...", "")) > 8, one


def test_every_check_of_data_is_on_the_page_of_data() -> None:
    """Errors are found in the source and counted; each module has a topic, or none on purpose."""
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "rmm").rglob("*.py"))
    called = len(re.findall(r"\bDataError\(", source)) - source.count("class DataError(")
    assert len(list(data_checks.error_calls())) == called
    found = data_checks.checks()
    assert {check.warning for check in found} == {True, False}
    for check in found:
        data_checks.topic_of(check.module)  # a KeyError names a module without a topic
    text = data_checks.data_checks()
    for topic in data_checks.TOPICS:
        assert f"### {topic}\n" in text
    assert "If each row is a membership, the table is already long: use it as it is" in text


def test_messages_that_functions_write_are_found() -> None:
    texts = {
        check.text
        for check in data_checks.checks()
        if check.module == "design.weights.invalid_weights"
    }
    assert any("so they cannot be divided by their sum" in text for text in texts)


def test_the_reference_has_every_public_name() -> None:
    listed = {name for page in api.PAGES for name in api.names(page) + api.values(page)}
    last = {name.rsplit(".", 1)[1] for name in listed}
    parts = ("families", "simulation", "datasets", "study", "backends")
    for module in ("rmm", *(f"rmm.{part}" for part in parts)):
        loaded = import_module(module)
        parts_of_it = {name for name in loaded.__all__ if ismodule(getattr(loaded, name))}
        public = set(loaded.__all__) - classes() - parts_of_it  # these have pages of their own
        assert public <= last, public - last
    for page in api.PAGES:
        assert f"api-{page}" in (DOCS / "reference" / "api" / f"{page}.md").read_text()


def test_every_measure_function_and_prior_is_shown() -> None:
    from rmm.formula.column_bases import BASES
    from rmm.formula.functions import AGGREGATES, FUNCTIONS, TABLE_FUNCTIONS
    from rmm.formula.prior_syntax import PRIOR_FAMILIES
    from rmm.study.measures.measures import MEASURES

    for writer, names in (
        ("measures", MEASURES),
        ("weight-functions", FUNCTIONS),
        ("aggregates", AGGREGATES),
        ("table-functions", TABLE_FUNCTIONS),
        ("bases", BASES),
        ("prior-families", set(PRIOR_FAMILIES) - {"precision_gamma", "fixed"}),
    ):
        text = generated.WRITERS[writer]()
        missing = [name for name in names if f"`{name}" not in text]
        assert not missing, (writer, missing)


def test_every_argument_of_fit_is_in_the_table_from_r() -> None:
    from inspect import signature

    text = (DOCS / "howto" / "from-r.md").read_text(encoding="utf-8")
    for name in signature(rmm.fit).parameters:
        assert f"`{name}" in text or name == "backend_options", name
