"""The table of docs/howto/priors.md on what default priors say of outcomes is the present one."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from tests import ROOT


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from site_parts import prior_pictures
    finally:
        sys.path.pop(0)
    return prior_pictures


@pytest.mark.thorough
def test_the_table_is_that_of_the_present_priors(pictures: ModuleType) -> None:
    page = pictures.PAGE.read_text(encoding="utf-8")
    assert pictures.with_table(page, pictures.table_text()) == page


def test_every_family_with_prior_outcomes_is_shown(pictures: ModuleType) -> None:
    from rmm.families import FAMILIES

    shown = {name for families in pictures.PANELS.values() for name in families}
    assert shown == set(pictures.OUTCOMES)
    strata = {name for name, family in FAMILIES.items() if family.needs_strata}
    without = {name for name, family in FAMILIES.items() if not family.prior_outcomes}
    assert shown == set(FAMILIES) - strata - without


def test_data_are_near_the_middle_of_the_priors(pictures: ModuleType) -> None:
    """The priors are centred on the data and wider than they."""
    said, seen, share = pictures.drawn("gaussian")
    low, high = np.quantile(said, [0.1, 0.9])
    assert low < np.quantile(seen, 0.025) < np.quantile(seen, 0.975) < high
    assert share is None
