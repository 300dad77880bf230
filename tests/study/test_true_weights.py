"""`weights: truth` of kind mm: the weights of the truth, with their true coefficients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rmm.errors import StudyError
from rmm.formula.parse_formula import parse_formula
from rmm.study import Study, load_study
from rmm.study.methods.fit_task import fit_task
from rmm.study.run.replicate import make_task

SAMPLER = {"sampler": {"chains": 2, "draws": 300}, "gate": {"ess_per_chain": 50}}


def study(folder: Path, weights: str, value: Any, *methods: dict[str, Any]) -> Study:
    coefficient = {} if value is None else {"b_w[b1]": value}
    config = {
        "seed": 3,
        "replications": 1,
        "membership": {"kind": "synthetic", "groups": 120, "members": 40, "size": 3},
        "covariates": {"x": {"level": "membership"}, "power": {"level": "membership", "mean": 9}},
        "truth": {
            "formula": f"y ~ 1 + mm(id(member, group), vars(x), fn({weights}), RE = TRUE)",
            "parameters": {
                "b_l2[Intercept]": 0,
                "b_l1[x]": 1,
                **coefficient,
                "sigma_l1": 0.5,
                "sigma_l2": 1,
            },
        },
        "methods": [{"name": f"m{k}", **m} for k, m in enumerate(methods)],
        "estimands": [
            {"estimand": "largest_weight", "by": "power"},
            {"estimand": "marginal_effect", "variable": "x"},
        ],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


KNOWN = {"kind": "mm", "backend": "reml", "weights": "truth"}


@pytest.mark.parametrize(
    ("weights", "value"),
    [
        ("w ~ exp(b1*power)", 1.5),
        ("w ~ exp(b1*power)", -1.5),
        ("w ~ 2 + b1^2*power", -1.5),
        ("w ~ 1/offset(n)^exp(-power)", 0.05),
        ("w ~ 1/(1 + (n-1)*exp(-(b1*center(power))))", -0.7),
        ("w ~ exp(b1*power), c = FALSE", -0.1),
        ("w ~ power", None),
        ("w ~ power == max(power)", None),
    ],
)
def test_weights_are_those_of_the_data(weights: str, value: float | None, tmp_path: Path) -> None:
    """The estimand of the fit has no uncertainty, and is that of the simulator's own code."""
    found = study(tmp_path, weights, value, KNOWN, {**KNOWN, "backend": "laplace", **SAMPLER})
    for method in found.methods:
        task = make_task(found, found.scenarios[0], method, 1)
        outcome = fit_task(task)
        assert outcome.status == "ok", outcome.message
        rows = {row["parameter"]: row for row in outcome.estimates}
        name = "largest_weight[by=power]"
        assert rows[name]["mean"] == pytest.approx(task.truths[name], rel=1e-9)


def test_other_methods_have_their_own_weights(tmp_path: Path) -> None:
    """Equal weights stay the default of kind mm, and `truth` is an address of its own."""
    found = study(tmp_path, "w ~ exp(b1*power)", 1, {"kind": "mm", "backend": "reml"}, KNOWN)
    equal, known = (m.formula(found.scenarios[0].recipe) for m in found.methods)
    assert parse_formula(equal).members[0].weight.text == "1/n"
    assert parse_formula(known).members[0].weight.text == "exp(1 * power)"
    assert found.methods[0].id != found.methods[1].id


def test_drawn_coefficients_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"true value of b_w\[b1\], which is not a number"
    ) as error:
        study(tmp_path, "w ~ exp(b1*power)", {"prior": "normal(0, 1)"}, KNOWN)
    assert "methods[0].weights" in str(error.value)
