"""Counts in messages and reports have the noun of their number: `1 fit`, never `1 fits`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from rmm.errors import counted
from tests import ROOT

#: Parts of the package whose sentences count what a study has: that can be one.
FOLDERS = ("rmm/study", "rmm/cli")
_NOUN = re.compile(r" (?:[a-z-]+ )?(?:data sets|[a-z]{3,}s)\b")
_NO_NOUNS = {"is", "was", "has", "this", "less", "plus", "across", "needs", "ends", "checks"}
#: What is counted is never one, has a sentence of its own for one, or is no count.
NEVER_ONE = {
    "rmm/cli/planning.py: facts['replications_for_rate']",
    "rmm/cli/study.py: 60 * facts['fits_per_second']",
    "rmm/study/design/scenarios.py: cells",
    "rmm/study/design/study.py: fits",
    "rmm/study/files/messages.py: len(errors)",
    "rmm/study/files/yaml_files.py: MOST_BYTES",
    "rmm/study/files/yaml_files.py: count",
    "rmm/study/files/yaml_files.py: len(node.value)",
    "rmm/study/methods/frequentist/maximum_likelihood.py: len(event)",
    "rmm/study/methods/frequentist/maximum_likelihood.py: len(names)",
    "rmm/study/own/answers.py: level",
    "rmm/study/own/named_code.py: _MOST_BYTES",
    "rmm/study/own/own_process.py: len(rows)",
    "rmm/study/planning/study_size.py: FILES * batches",
    "rmm/study/report/figures/nested_loop.py: len(levels)",
    "rmm/study/report/figures/nested_loop.py: len(panel.courses[0].values)",
    "rmm/study/report/front/answer.py: len(rows)",
    "rmm/study/report/front/paper_text.py: len(fits)",
    "rmm/study/report/front/question.py: len(methods)",
    "rmm/study/run/batch.py: len(checkpoint.kept)",
}


def test_counted_has_the_noun_of_its_number() -> None:
    assert counted(1, "fit") == "1 fit"
    assert counted(0, "batch", "batches") == "0 batches"
    assert counted(2000, "data set") == "2,000 data sets"


def plural_after_a_number(source: str) -> Iterator[str]:
    """The counts of f-strings before a plural, unless `of` stands before: 1 of 3 fits."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for place, (value, after) in enumerate(zip(node.values, node.values[1:], strict=False)):
            if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
                continue
            before = node.values[place - 1] if place else None
            whole = isinstance(before, ast.Constant) and re.search(
                r"\bof (?:the )?(?:at most )?$", str(before.value)
            )
            found = _NOUN.match(str(after.value))
            text = ast.unparse(value.value)
            number = value.format_spec is not None or text.startswith("len(")
            if found and number and not whole and found[0].split()[0] not in _NO_NOUNS:
                yield text


@pytest.mark.parametrize("folder", FOLDERS)
def test_messages_with_counts_know_the_singular(folder: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in plural_after_a_number(path.read_text(encoding="utf-8"))
    } - NEVER_ONE
    assert not found, f"Use rmm.errors.counted: {sorted(found)}"


def test_the_check_sees_what_it_should() -> None:
    assert list(plural_after_a_number('f"All {len(rows)} simulated values agree"')) == ["len(rows)"]
    assert list(plural_after_a_number('f"{n:,} data sets"')) == ["n"]
    assert not list(plural_after_a_number("f\"1 of {n:,} fits, {counted(n, 'fit')} ended\""))
