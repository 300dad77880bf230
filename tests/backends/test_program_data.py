"""Data of one name are the same numbers in the programs of JAGS and of Stan."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rmm.backends import find_backend
from rmm.backends.program_data import shared_data
from tests.backends.test_program_jags import MODELS, model_of, with_ministers
from tests.coalitions import made_up_coalitions

OWN_LAYOUT = ("Z_l1",)  # (covariates, memberships) in Stan, which multiplies it by known weights


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return with_ministers(made_up_coalitions())


@pytest.mark.parametrize("name", MODELS)
def test_both_languages_get_the_same_numbers(name: str, table: pd.DataFrame) -> None:
    """JAGS's vectors by membership may have one more element, for groups without a member."""
    model = model_of(name, table)
    jags, stan = (find_backend(n).prepare(model).data(model.design) for n in ("jags", "stan"))
    both = [k for k in jags if k in stan and not k.startswith(OWN_LAYOUT)]
    assert {"J", "y"} <= set(both)
    for key in both:
        theirs, ours = np.asarray(stan[key]), np.asarray(jags[key])
        if ours.shape != theirs.shape:
            assert len(ours) == len(theirs) + 1, key
            ours = ours[:-1]
        np.testing.assert_array_equal(ours, theirs, err_msg=key)


@pytest.mark.parametrize("name", MODELS)
def test_shared_data_are_no_more_than_both_name(name: str, table: pd.DataFrame) -> None:
    """Centres are for the intercept, which JAGS computes only where there is one."""
    model = model_of(name, table)
    shared = set(shared_data(model.spec, model.design))
    prepared = {n: find_backend(n).prepare(model) for n in ("jags", "stan")}
    assert shared <= set(prepared["stan"].data(model.design))
    left = shared - set(prepared["jags"].data(model.design))
    assert all(key.startswith("center_") for key in left)
    assert not left or not model.spec.intercept
