"""Each family has its entry in all places that docs/developing.md lists for a new family."""

from __future__ import annotations

import re

import pytest

import rmm
from rmm.families import FAMILIES
from rmm.simulation import OUTCOMES
from tests import GOLDEN, ROOT
from tests.backends import test_kernels, test_laplace
from tests.simulation import test_any_recipe, test_moments

#: Files with a table, or a text, that names each family.
NAMED_IN = (
    "docs/reference/formula.md",
    "docs/reference/priors.md",
    "docs/reference/estimands.md",
    "docs/explanation/model.md",
    "docs/start/first-fit.md",
)
#: What running text calls families of one kind.
IN_PROSE = {"zero_inflated": "zero-inflated", "hurdle": "hurdle counts"}
#: Table of families -> families that need no entry in it.
LISTS = {
    "OUTCOMES in rmm/simulation/outcomes/outcomes.py": (OUTCOMES, set()),
    "OUTCOMES in tests/simulation/test_moments.py": (test_moments.OUTCOMES, set()),
    "options in tests/simulation/test_any_recipe.py": (test_any_recipe.options, set()),
    "OUTCOMES in tests/simulation/test_any_recipe.py": (test_any_recipe.OUTCOMES, set()),
    "OUTCOMES in tests/backends/test_kernels.py": (
        test_kernels.OUTCOMES,
        {name for name, family in FAMILIES.items() if family.kernel is None},
    ),
    "DIFFERENTIATED in tests/backends/test_laplace.py": (
        test_laplace.DIFFERENTIATED,
        {name for name, family in FAMILIES.items() if family.curvature is None},
    ),
}


def found_in(text: str, family: str) -> bool:
    """Whether a text names a family, or the kind of families that it belongs to."""
    words = [family, *(word for start, word in IN_PROSE.items() if family.startswith(start))]
    return any(re.search(rf"\b{re.escape(word)}\b", text) for word in words)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("file", NAMED_IN)
def test_pages_name_every_family(file: str, family: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert found_in(text, family), f"{file} does not name {family}: add it to the table there"


@pytest.mark.parametrize("family", FAMILIES)
def test_docstrings_name_every_family(family: str) -> None:
    for entry in (rmm.fit, rmm.simulate):
        where = f"the docstring of rmm.{entry.__name__}"
        assert f'``"{family}"``' in str(entry.__doc__), f"{where} does not name {family}: add it"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("place", LISTS)
def test_lists_have_every_family(place: str, family: str) -> None:
    table, free = LISTS[place]
    if family in free:
        assert family not in table, f"{family} needs no entry in {place}"
        return
    assert family in table, f"{family} has no entry in {place}: add one"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["calibration", "parity"])
def test_every_family_has_its_studies(kind: str, family: str) -> None:
    file = f"config/studies/{kind}_{family}.yaml"
    assert (ROOT / file).is_file(), f"there is no {file}: see Evidence in docs/developing.md"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_golden_programs(family: str) -> None:
    kept = [path.read_text(encoding="utf-8") for path in GOLDEN.rglob("*.txt")]
    for comment, language in (("#", "JAGS"), ("//", "Stan")):
        first = re.compile(rf"{comment} .*, {family} outcome, for {language}\b")
        assert any(first.match(text) for text in kept), (
            f"tests/golden has no {language} program of {family}: see `check_golden` in "
            "tests/family_cases.py"
        )


def test_a_name_inside_another_is_not_found() -> None:
    assert not found_in("| hurdle_poisson | zero_inflated_poisson |", "poisson")
    assert found_in("zero-inflated and hurdle counts", "hurdle_poisson")
