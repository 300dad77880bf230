"""Names of users never meet names of programs, whatever the users' names are."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from rmm.backends.jags.program import write as write_jags
from rmm.backends.program_data import input_name, shared_data
from rmm.backends.stan.compile import check_syntax
from rmm.backends.stan.install import installed_cmdstan, wheel
from rmm.backends.stan.program.program import write as write_stan
from rmm.design.prepare import Model, prepare, prepare_without_data
from tests.coalitions import made_up_coalitions
from tests.family_cases import check_names, declared_names

WRITE = {"jags": write_jags, "stan": write_stan}
COMMENT = {"jags": r"#.*", "stan": r"//.*"}
HOSTILE = (
    "real", "target", "lp__", "T", "model", "eta", "sigma_l1", "größe", "ж", "二", "a b", "a.b",
    "a_b", "x_a_b", "x", "log_n1", "uw", "w", "b_w", "b1", "_", "__", "1x", "lambda", "for",
)  # fmt: skip
BLOCKS = ("raw", "a", "a_raw", "start", "l1", "rotation_l1_a", "slope", "w_a", "scale", "x_b")


def weighted(names: tuple[str, ...]) -> str:
    """A model whose weights depend on all of these columns."""
    inner = " + ".join(f"b{k}*`{name}`" for k, name in enumerate(names, start=1))
    return f"y ~ 1 + mm(id(pid, gid), vars(lead), fn(w ~ exp({inner})/n), RE=TRUE)"


def model_with(names: tuple[str, ...]) -> Model:
    rng = np.random.default_rng(2)
    table = made_up_coalitions(40)[["gid", "pid", "y", "lead"]]
    values = {name: rng.normal(size=len(table)) for name in names}
    return prepare(weighted(names), pd.concat([table, pd.DataFrame(values)], axis=1))


def replaced(code: str, names: dict[str, str]) -> str:
    return re.sub(r"\bx_\w*", lambda found: names[found[0]], code)


@pytest.mark.parametrize("language", WRITE)
def test_a_program_with_hostile_names_is_that_with_other_names(language: str) -> None:
    """Apart from names that begin with ``x_``, which no other name does, the code is the same."""
    codes = []
    for names in (HOSTILE, tuple(f"v{k}" for k in range(len(HOSTILE)))):
        model = model_with(names)
        code = re.sub(COMMENT[language], "", WRITE[language](model.spec, model.priors.forms))
        inputs = [name for name, _ in model.spec.members[0].weight.inputs]
        assert len(set(inputs)) == len(HOSTILE)
        assert set(re.findall(r"\bx_\w*", code)) == set(inputs)
        places = {name: f"x_{k}" for k, name in enumerate(inputs)}
        codes.append(replaced(code, places))
    assert codes[0] == codes[1]


def test_values_go_to_the_column_with_that_name() -> None:
    model = model_with(HOSTILE)
    data, part = shared_data(model.spec, model.design), model.spec.members[0]
    names = [name for name, _ in part.weight.inputs]
    assert dict(zip(HOSTILE, names, strict=True)) | {
        "real": "x_real", "lp__": "x_lp", "größe": "x_groe", "ж": "x_variable",
        "二": "x_variable_2", "a b": "x_a_b", "a.b": "x_a_b_2", "a_b": "x_a_b_3", "1x": "x_1x",
        "x_a_b": "x_x_a_b",
    } == dict(zip(HOSTILE, names, strict=True))  # fmt: skip
    for column, name in zip(HOSTILE, names, strict=True):
        np.testing.assert_array_equal(data[name], model.grouped.frame[column].to_numpy())


def test_variables_of_two_blocks_have_two_names() -> None:
    """A variable ``a`` in block ``b_c``, and ``a_b`` in block ``c``."""
    blocks, variables = ("b_c", "c", "b"), ("x_a", "x_a_b", "x_a_b_c")
    names = [input_name(name, f"_{block}") for name in variables for block in blocks]
    assert len(set(names)) == len(names)


def test_no_two_blocks_share_a_name() -> None:
    """Names of blocks are appended to names of the model."""
    blocks = [
        f"mm(id(p{k}, g), vars(x), fn(w ~ 1/n^exp(-b1*s)), RE=re(1 + x), name={block})"
        f" + hm(id=h{k}, block={block})"
        for k, block in enumerate(BLOCKS)
    ]
    text = write_stan(*prepare_without_data(f"y ~ 1 + z + {' + '.join(blocks)}"))
    names = declared_names(text)
    assert len(names) > 20 * len(BLOCKS)
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)


@pytest.mark.skipif(wheel() is None and installed_cmdstan() is None, reason="Stan is not installed")
def test_stan_takes_hostile_names() -> None:
    model = model_with(HOSTILE)
    text = write_stan(model.spec, model.priors.forms)
    check_syntax(text)
    check_names(model, text)
