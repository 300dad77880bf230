"""`rmm study check` builds the model of every method: what would make each fit fail is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rmm.backends import BACKENDS, find_backend
from rmm.backends.base import Settings
from rmm.cli import main
from rmm.errors import BackendError, StudyError
from rmm.study import load_study
from rmm.study.manage.check_models import check_models

BASE: dict[str, Any] = {
    "seed": 3,
    "replications": 5,
    "membership": {"kind": "synthetic", "groups": 40, "members": 20, "size": 3},
    "covariates": {"x": {"level": "member"}, "power": {"level": "membership"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ exp(b1*power)), RE = TRUE)",
        "parameters": {
            "b_l2[Intercept]": 0,
            "b_l1[x]": 0,
            "b_w[b1]": 1,
            "sigma_l1": 1,
            "sigma_l2": 1,
        },
    },
    "vary": {"groups": {"path": "membership.groups", "values": [40, 50]}},
}


def study_file(folder: Path, *methods: dict[str, Any]) -> Path:
    named = [
        {"name": f"m{i}", "kind": "mmmm", "backend": "laplace", **m} for i, m in enumerate(methods)
    ]
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**BASE, "methods": named}, sort_keys=False))
    return path


RIGHT: dict[str, dict[str, Any]] = {
    "defaults": {},
    "jags": {"backend": "jags", "sampler": {"options": {"adapt": 100}}},
    "stan": {"backend": "stan", "sampler": {"options": {"adapt_delta": 0.9}}},
    "laplace": {"sampler": {"options": {"ess": 300}, "chains": 1}, "gate": {"ess_per_chain": 50}},
    "priors": {"priors": {"b_w[b1]": "normal(0, 2)", "sigma_l1": "half_normal(2)"}},
    "regression": {"kind": "aggregation", "backend": "ols"},
    "choice": {"kind": "choice", "candidates": {"a": "w ~ 1/n", "b": "w ~ exp(b1*power)"}},
}


def test_methods_that_run_pass(tmp_path: Path) -> None:
    check_models(load_study(study_file(tmp_path, *RIGHT.values())))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a prior of no parameter": (
        {"priors": {"b_w[b2]": "normal(0, 1)"}},
        r"methods\[0\]\.priors \(method m0, scenario gr",
    ),
    "a prior of another model": (
        {"kind": "mm", "priors": {"b_w[b1]": "normal(0, 1)"}},
        r"methods\[0\]\.priors",
    ),
    "a prior that is none": ({"priors": {"sigma_l1": "normall(0, 1)"}}, r"methods\[0\]\.priors"),
    "an option of another engine": (
        {"sampler": {"options": {"adapt_delta": 0.9}}},
        r"methods\[0\]\.sampler\.options\.adapt_delta .*\n.*an option of laplace\. Allowed: ess",
    ),
    "an argument of rmm.fit": (
        {"backend": "jags", "sampler": {"options": {"chains": 3}}},
        r"sampler\.options\.chains .*\n.*is not an option of jags",
    ),
    "a value out of range": (
        {"backend": "stan", "sampler": {"options": {"adapt_delta": 1.5}}},
        r"sampler\.options .*\n.*`adapt_delta`.* 0 and below 1 .*not 1\.5",
    ),
    "adaptation longer than warm-up": (
        {"backend": "jags", "sampler": {"warmup": 100, "options": {"adapt": 200}}},
        r"sampler\.options .*\n.*`adapt` .*between 0 and `warmup` \(100\), but is 200",
    ),
    "too many effective draws": (
        {"sampler": {"options": {"ess": 1e9}}},
        r"sampler\.options .*\n.*`ess`.*1,000,000, not 1000000000",
    ),
    "R-hat of independent draws": (
        {"gate": {"rhat": 1.02}},
        r"gate\.rhat .*\n.*laplace, whose draws are independent",
    ),
    "divergences of a Gibbs sampler": (
        {"backend": "jags", "gate": {"divergences": 2}},
        r"gate\.divergences .*\n.*no divergent",
    ),
    "one chain has no R-hat": (
        {"backend": "jags", "sampler": {"chains": 1}},
        r"sampler\.chains .*\n.*only 1 chain\. R-hat",
    ),
    "more effective draws than draws": (
        {"sampler": {"draws": 80}},
        r"gate\.ess_per_chain .*\n.*size of 100 .*only 80 draws .*\n  Require at most 80",
    ),
    "a candidate": (
        {
            "kind": "choice",
            "candidates": {"a": "w ~ 1/n", "b": "w ~ exp(b1*power)"},
            "priors": {"b_w[b1]": "normal(0, 1)"},
        },
        r"methods\[0\]\.priors",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_what_would_make_every_fit_fail_is_found(
    case: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    method, message = case
    with pytest.raises(StudyError, match=message):
        check_models(load_study(study_file(tmp_path, method)))


def test_all_mistakes_are_reported_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_file(tmp_path, *(method for method, _ in list(WRONG.values())[:4]))
    assert main(["study", "check", str(path)]) == 2
    shown = capsys.readouterr().err
    for key in ("[0].priors", "[1].priors", "[2].priors", "[3].sampler.options.adapt_delta"):
        assert f"methods{key}" in shown
    assert shown.count("methods[0]") == 1  # not once per scenario


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("stan", {"max_treedepth": 0}, "`max_treedepth` .*between 1 and 25 .*not 0"),
        ("jags", {"adapt": -1}, r"`adapt` .*between 0 and `warmup` \(1000\), but is -1"),
        ("laplace", {"ess": True}, "`ess` .* from 1 .*not True"),
    ],
)
def test_engines_check_values_without_a_run(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        find_backend(name).check_values(Settings(options=options))


def test_defaults_are_accepted_by_every_engine() -> None:
    for name in BACKENDS:
        assert find_backend(name).check_values(Settings()) is not False
