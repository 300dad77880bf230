"""Study files: what is wrong is found before the first job, with file, key path and remedy."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rmm.errors import StudyError
from rmm.simulation import OUTCOMES
from rmm.simulation.schema import schema
from rmm.study import load_study, plan, replay
from rmm.study.design.closed_forms import CLOSED_FORMS
from rmm.study.files.checked_yaml import with_defaults, without_defaults
from rmm.study.measures.measures import MEASURES
from rmm.study.methods.fit_task import BACKENDS
from rmm.study.methods.layouts import LAYOUTS
from rmm.study.methods.method import KINDS
from rmm.study.methods.regressions import REGRESSIONS, default_regression
from tests import ROOT

REPLICATIONS = schema()["properties"]["replications"]["description"].rstrip(".")
STUDIES = sorted((ROOT / "config" / "studies").glob("*.yaml"))

BASE: dict[str, Any] = {
    "seed": 1,
    "replications": 20,
    "batch": 10,
    "membership": {"kind": "synthetic", "groups": 30, "members": 15, "size": 3},
    "covariates": {"x": {"level": "member"}, "power": {"level": "membership"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
        "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0, "sigma_l1": 1, "sigma_l2": 1},
    },
    "vary": {"overlap": {"path": "membership.overlap", "values": [0.0, 1.0]}},
    "methods": [
        {"name": "agg", "kind": "aggregation"},
        {"name": "mm", "kind": "mm", "backend": "jags"},
    ],
    "estimands": [{"parameter": "b_l1[x]"}],
}


def write(folder: Path, config: Any, name: str = "study") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False))
    return path


def changed(*edits: tuple[str, Any]) -> dict[str, Any]:
    """BASE with keys set by paths of dictionary keys and list positions."""
    config = copy.deepcopy(BASE)
    for path, value in edits:
        parts: list[Any] = [int(p) if p.isdigit() else p for p in path.split("/")]
        place: Any = config
        for part in parts[:-1]:
            place = place[part]
        if value is None:
            del place[parts[-1]]
        else:
            place[parts[-1]] = value
    return config


@pytest.mark.parametrize("path", STUDIES, ids=[p.stem for p in STUDIES])
def test_studies_of_the_project_are_in_order(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    file = config["membership"].get("file")
    if file and not (ROOT / file).is_file():
        pytest.skip(f"{file} is not here")
    study = load_study(path)
    assert study.name == path.stem
    assert study.scenarios
    assert study.config["aims"]


def test_a_study_has_the_grid_and_resolved_defaults(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, BASE))
    assert [s.factors for s in study.scenarios] == [{"overlap": 0.0}, {"overlap": 1.0}]
    assert study.config["methods"][1]["sampler"]["chains"] == 4
    assert study.scenarios[0].content["covariates"]["x"]["distribution"] == "normal"
    assert study.method("agg").backend == "ols"
    assert study.baseline == "agg"


def test_formulas_of_the_kinds(tmp_path: Path) -> None:
    weights = "w ~ 1/(1 + (n-1)*exp(-(b1*power)))"
    methods = [
        {"name": "a", "kind": "aggregation"},
        {"name": "b", "kind": "aggregation", "backend": "jags"},
        {"name": "c", "kind": "mm"},
        {"name": "d", "kind": "mmmm", "weights": weights},
    ]
    membership = {**BASE["membership"], "units": 3, "within": False}
    truth = copy.deepcopy(BASE["truth"])
    truth["formula"] += " + hm(id = nesting)"
    truth["parameters"]["sigma_l3"] = 1
    study = load_study(
        write(tmp_path, changed(("methods", methods), ("membership", membership), ("truth", truth)))
    )
    found = {m.name: m.formula(study.scenarios[0].recipe) for m in study.methods}
    assert found["a"] == "y ~ 1 + x"
    assert found["b"] == 'y ~ 1 + x + hm(id = nesting, type = "RE")'
    assert "fn = fn(w ~ 1/n, c = TRUE), RE = TRUE" in found["c"]
    assert f"fn = fn({weights}), RE = TRUE" in found["d"]


def test_covariates_of_nesting_units_stay_in_regressions(tmp_path: Path) -> None:
    """Their slopes are estimands like the others; only the units' random effects go."""
    truth = copy.deepcopy(BASE["truth"])
    truth["formula"] += " + hm(id = nesting, vars = vars(v))"
    truth["parameters"] |= {"sigma_l3": 1, "b_l3[v]": 0.5}
    study = load_study(
        write(
            tmp_path,
            changed(
                ("methods", [{"name": "a", "kind": "aggregation"}]),
                ("truth", truth),
                ("membership", {**BASE["membership"], "units": 8, "within": False}),
                ("covariates", {**BASE["covariates"], "v": {"level": "nesting"}}),
            ),
        )
    )
    assert study.methods[0].formula(study.scenarios[0].recipe) == "y ~ 1 + x + v"
    _, outcome = replay(study, study.scenarios[0].id, 1, "a")
    assert [e["parameter"] for e in outcome.estimates][-1] == "b_l3[v]"


# -- bad input -------------------------------------------------------------------------------

MM = "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
_FAST = {"name": "fast", "kind": "mm", "backend": "laplace"}
_SLOW = {"name": "slow", "kind": "mm", "backend": "stan", "confirms": "fast"}
BAD: dict[str, tuple[tuple[str, Any], str]] = {
    "confirming nobody": (
        ("methods", [_FAST, {**_SLOW, "confirms": "fats"}]),
        r"methods\[1\]\.confirms\n.*not the name of another method of kind mm.*Did you mean 'fast'",
    ),
    "confirming itself": (
        ("methods", [{**_SLOW, "confirms": "slow"}]),
        r"another method of kind mm",
    ),
    "confirming another kind": (
        ("methods", [{"name": "fast", "kind": "aggregation", "backend": "laplace"}, _SLOW]),
        r"another method of kind mm",
    ),
    "confirming another model": (
        ("methods", [_FAST, {**_SLOW, "weights": "w ~ power"}]),
        r"methods\[1\]\.weights\n.*must be the same in both\.\n.*'w ~ power' in slow",
    ),
    "confirming with the same engine": (
        ("methods", [_FAST, {**_SLOW, "backend": "laplace"}]),
        r"methods\[1\]\.backend\n.*must be different in both\.\n.*'laplace' in fast",
    ),
    "unknown key": (("replicatons", 5), r"replicatons\n.*Did you mean 'replications'"),
    "unknown key below": (
        ("membership/grups", 5),
        r"membership\.grups\n.*Did you mean 'groups'.* Allowed: kind, groups",
    ),
    "unknown key in a method": (
        ("methods/1/sampler", {"chans": 2}),
        r"methods\[1\]\.sampler\.chans\n.*Did you mean 'chains'",
    ),
    "missing key": (("seed", None), r"seed\n  `seed` is missing\.\n  It is: A seed"),
    "text for a number": (
        ("replications", "many"),
        r"replications\n  found:   'many' \(text\)\n  allowed: a whole number",
    ),
    "a number YAML reads as text": (
        ("truth/parameters/sigma_l1", "1e-3"),
        r"sigma_l1\n  found:   '1e-3' \(text\)\n.*\n.*Write 0\.001 without quotes",
    ),
    "a list for keys": (
        ("membership", [1]),
        r"membership\n  found:   a list.*\n.*keys with val",
    ),
    "out of range": (("membership/overlap", 1.5), r"membership\.overlap.*\n.*1\.5\n.*at most 1"),
    "unknown kind of method": (
        ("methods/0/kind", "agregation"),
        r"methods\[0\]\.kind\n.*not a kind of method\. Did you mean 'aggregation'\? "
        r"Allowed: aggregation, disaggregation, adjusted_means, mm, mmmm, choice",
    ),
    "unknown backend": (
        ("methods/1/backend", "jgs"),
        r"methods\[1\]\.backend\n.*Did you mean 'jags'\? Allowed: jags, stan, laplace",
    ),
    "backend of another kind": (
        ("methods/1/backend", "ols"),
        r"methods\[1\]\.backend\n.*not a backend of methods of kind mm",
    ),
    "two methods with one name": (
        ("methods/1/name", "agg"),
        r"methods\[1\]\.name\n.*Two methods have the name",
    ),
    "key of another kind": (
        ("methods/1/summary", "sum"),
        r"methods\[1\]\.summary\n.*in a method of kind mm\.\n.*have `summary`: aggregation",
    ),
    "key of another backend": (
        ("methods/0/priors", "rmm"),
        r"methods\[0\]\.priors\n.*cannot be used with backend ols",
    ),
    "mmmm without weights": (
        ("methods/1/kind", "mmmm"),
        r"methods\[1\]\.weights .*\n.*these weights have no parameter",
    ),
    "method formula that does not parse": (
        ("methods/0/formula", "y ~ 1 + (x"),
        r"methods\[0\]\.formula \(method agg\)\n(.*\n)*.*\^",
    ),
    "method formula with an unknown covariate": (
        ("methods/0/formula", "y ~ 1 + xx"),
        r"methods\[0\]\.formula.*\n.*'xx' is not a covariate",
    ),
    "method formula with another outcome": (
        ("methods/0/formula", "v ~ 1 + x"),
        r"methods\[0\]\.formula.*\n.*The outcome is `v`, but the truth has `y`",
    ),
    "cluster without errors": (
        ("methods/0/cluster", ["nesting"]),
        r"methods\[0\]\.cluster\n.*must be given together",
    ),
    "unknown distribution": (
        ("covariates/x/distribution", "norml"),
        r"covariates\.x\.distribution\n.*Did you mean 'normal'",
    ),
    "'nested' is not a kind of membershipsure": (
        ("membership/kind", "nested"),
        r"membership\.kind.*\n.*'nested' is not a kind of memberships",
    ),
    "truth that does not parse": (
        ("truth/formula", "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n)"),
        r"truth\.formula.*\n(.*\n)*.*\^",
    ),
    "truth that lacks a parameter": (
        ("truth/parameters/sigma_l1", None),
        r"truth\.parameters .*\n  The value of sigma_l1 is missing",
    ),
    "truth with a parameter too many": (
        ("truth/parameters/b_l1[z]", 1),
        r"truth\.parameters\.b_l1\[z\].*\n.*not a parameter of the formula.*Allowed: .*b_l1\[x\]",
    ),
    "vary path that does not exist": (
        ("vary/overlap/path", "membership.overlpa"),
        r"vary\.overlap\.path 'membership\.overlpa'\n.*Did you mean 'overlap'",
    ),
    "vary path into nowhere": (
        ("vary/overlap/path", "covariates.w.icc"),
        r"vary\.overlap\.path 'covariates\.w\.icc'\n  'w' is not a key that contains other keys",
    ),
    "vary path outside scenarios": (
        ("vary/overlap/path", "estimands.0"),
        r"vary\.overlap\.path\n.*not a path that starts with an allowed key",
    ),
    "vary value of a wrong type": (
        ("vary/overlap/values", [0.0, "half"]),
        r"membership\.overlap \(scenario overlap = half\)\n  found:   'half' \(text\)",
    ),
    "two levels that are the same": (
        ("vary/overlap/values", [1.0, 1]),
        r"vary\n.*give the same scenario",
    ),
    "factor with path and levels": (
        ("vary/overlap/levels", {"a": {"membership.overlap": 0}}),
        r"vary\.overlap\n.*\n  Give either `path` and `values`, or `path` and `range`, or `levels`",
    ),
    "exclude an unknown factor": (("exclude", [{"lap": 1}]), r"exclude\[0\]\.lap\n.*Did you mean"),
    "exclude an unknown level": (
        ("exclude", [{"overlap": 0.7}]),
        r"exclude\[0\]\.overlap\n.*0\.7 is not a level of overlap\. Allowed: 0\.0, 1\.0",
    ),
    "exclude everything": (
        ("exclude", [{"overlap": 0.0}, {"overlap": 1.0}]),
        r"exclude\n  All scenarios are excluded",
    ),
    "unknown estimand": (
        ("estimands/0/parameter", "b_l1[xx]"),
        r"estimands\[0\]\.parameter\n.*Did you mean 'b_l1\[x\]'",
    ),
    "within in a regression": (
        ("methods/0/formula", "y ~ 1 + center(x, within = member)"),
        r"methods\[0\]\.formula .*\n  `within =` cannot be used in a method of kind",
    ),
    "within what is not there": (
        ("methods/1/formula", "y ~ 1 + mm(id(member, group), vars(center(x, within = grop)))"),
        r"methods\[1\]\.formula .*\n  'grop' is not a column .* Did you mean 'group'",
    ),
    "a basis in a regression": (
        ("methods/0/formula", "y ~ 1 + poly(x, 2)"),
        r"methods\[0\]\.formula .*\n  poly\(x, 2\) cannot be used .*\n  Use columns and I\(",
    ),
    "a known covariance in a method": (
        ("methods/1/formula", MM.replace("RE = TRUE", "RE = TRUE, cov = A")),
        r"methods\[1\]\.formula .*\n  The formula has `cov = A`\..*\n.*leave `cov =` out",
    ),
    "a known covariance in a truth": (
        ("truth/formula", MM.replace("RE = TRUE", "RE = TRUE, cov = A")),
        r"truth\.formula .*\n.*there is no matrix `A`.*\n.*Study files cannot contain matrices",
    ),
    "unknown measure": (("measures", ["biass"]), r"measures\[0\]\n.*Did you mean 'bias'"),
    "unknown baseline": (("baseline", "ols"), r"baseline\n.*Allowed: agg, mm"),
    "unknown closed form": (
        ("reference", [{"closed_form": "moulton", "method": "agg", "parameter": "b_l1[x]"}]),
        r"reference\[0\]\.closed_form\n.*Allowed: disaggregation_type1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, tmp_path: Path) -> None:
    edit, message = BAD[case]
    with pytest.raises(
        StudyError, match=rf"^\S*study\.yaml(:\d+)?: (?:.*\n)*?.*{message}"
    ) as caught:
        load_study(write(tmp_path, changed(edit)))
    assert len(str(caught.value)) < 1200


def test_all_mistakes_of_a_file_come_at_once_in_its_order(tmp_path: Path) -> None:
    """Of the schema first; once it holds, of the names."""
    edits = [("seed", "x"), ("membership/gruops", 5), ("methods/0/kind", 3), ("replications", None)]
    file = write(tmp_path, changed(*edits))
    with pytest.raises(StudyError, match=r"study\.yaml: 4 mistakes\n") as caught:
        load_study(file)
    text, lines = str(caught.value), file.read_text().splitlines()
    places = re.findall(rf"^{re.escape(str(file))}:(\d+): (\S+)$", text, flags=re.MULTILINE)
    assert [key for _, key in places] == ["seed", "membership.gruops", "methods[0].kind"]
    for line, key in places:
        assert f"{key.split('.')[-1]}:" in lines[int(line) - 1]
    missing = f"{file}: replications\n  `replications` is missing.\n  It is: {REPLICATIONS}"
    assert missing in text


def test_mistakes_in_names_come_at_once(tmp_path: Path) -> None:
    edits = [
        ("measures", ["bais", "coverage"]),
        ("baseline", "nobody"),
        ("methods/0/kind", "agregation"),
        ("methods/1/backend", "jgs"),
    ]
    with pytest.raises(StudyError, match="4 mistakes") as caught:
        load_study(write(tmp_path, changed(*edits)))
    for meant in ("Did you mean 'bias'", "Did you mean 'aggregation'", "Did you mean 'jags'"):
        assert meant in str(caught.value)


def test_a_mistake_of_all_scenarios_comes_once(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"study\.yaml:\d+: truth\.parameters .*\n.*is missing"
    ) as caught:
        load_study(write(tmp_path, changed(("truth/parameters/b_l1[x]", None))))
    assert str(caught.value).count("b_l1[x]") == 1


def test_mistakes_of_scenarios_and_of_methods_come_together(tmp_path: Path) -> None:
    """Without a valid scenario methods are checked as far as they can be."""
    edits = [
        ("vary/overlap/path", "membership.overlpa"),
        ("methods/1/backend", "jgs"),
        ("estimands/0/parameter", "b_l1[y]"),
    ]
    with pytest.raises(StudyError, match=r"study\.yaml: 2 mistakes\n") as caught:
        load_study(write(tmp_path, changed(*edits)))
    assert "vary.overlap.path" in str(caught.value)
    assert "Did you mean 'jags'" in str(caught.value)


def test_a_wrong_estimand_is_found_before_its_closed_form(tmp_path: Path) -> None:
    reference = [
        {"closed_form": "disaggregation_rejection", "method": "agg", "parameter": "b_l1[y]"}
    ]
    edits = [("estimands/0/parameter", "b_l1[y]"), ("reference", reference)]
    with pytest.raises(StudyError, match=r"estimands\[0\]\.parameter") as caught:
        load_study(write(tmp_path, changed(*edits)))
    assert "reference" not in str(caught.value)


def test_missing_data_file(tmp_path: Path) -> None:
    empirical = {"kind": "empirical", "file": "data/none.parquet"}
    message = (
        r"study\.yaml:\d+: membership\.file\n  The file 'data/none\.parquet' does not exist\.\n"
        r".*relative to the project root"
    )
    with pytest.raises(StudyError, match=message):
        load_study(write(tmp_path, changed(("membership", empirical), ("vary", {}))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", r"line 2, column 1\n.*key 'seed' is given twice"),
        ("a: [1, 2\n", r"study\.yaml: line 2"),
        ("- 1\n- 2\n", r"has no keys, but a list"),
        ("", r"The file is empty"),
        ("seed: !!python/object/apply:os.system ['true']\n", r"is not allowed"),
        ("1: 2\n", r"The key 1 is not text"),
    ],
)
def test_bad_yaml(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(write(tmp_path, text))


def test_missing_study_file_lists_those_there(tmp_path: Path) -> None:
    write(tmp_path, BASE, "other")
    with pytest.raises(
        StudyError, match=r"this file does not exist.\n  Studies in its folder: other"
    ):
        load_study(tmp_path / "none.yaml")


def test_closed_form_that_does_not_apply(tmp_path: Path) -> None:
    wanted = [{"closed_form": "shared_members_size", "method": "agg", "parameter": "b_l1[x]"}]
    with pytest.raises(StudyError, match=r"reference\[0\]\.closed_form(.*\n)*.*redraw: false"):
        load_study(write(tmp_path, changed(("reference", wanted))))


# -- schema and registries -------------------------------------------------------------------


def test_every_key_of_the_schema_is_described() -> None:
    undescribed: list[str] = []

    def walk(part: Any, path: str) -> None:
        for name, inner in part.get("properties", {}).items():
            if "$ref" not in inner and not inner.get("description"):
                undescribed.append(f"{path}.{name}")
            walk(inner, f"{path}.{name}")
        for key in ("items", "additionalProperties"):
            if isinstance(part.get(key), dict):
                walk(part[key], path)

    walk(schema(), "")
    for name, part in schema()["$defs"].items():
        walk(part, name)
    assert undescribed == []


def test_the_workflow_shows_the_packages_schema() -> None:
    shown = ROOT / "workflow" / "schemas" / "study.schema.json"
    assert (
        shown.read_bytes() == (ROOT / "rmm" / "study" / "files" / "study.schema.json").read_bytes()
    )


def test_defaults_come_and_go() -> None:
    rule = schema()["$defs"]["method"]
    plain = {"name": "a", "kind": "mm", "sampler": {"chains": 2}}
    full = with_defaults(plain, rule)
    assert full["sampler"]["draws"] == 500
    assert without_defaults(full, rule) == plain


def test_registries_agree() -> None:
    assert {b for kind in KINDS.values() for b in kind.backends} <= set(BACKENDS)
    layouts = {kind.layout for kind in KINDS.values() if not kind.own}
    assert layouts - {"members"} == set(LAYOUTS)
    assert {form.measure for form in CLOSED_FORMS.values()} <= set(MEASURES)
    for family, model in OUTCOMES.items():  # the regression of a family takes its outcomes
        name = default_regression(family)
        if name is not None:
            assert set(model.kinds) - {"spell"} <= set(REGRESSIONS[name].outcomes)


def test_the_smoke_size_is_the_beginning_of_the_full_one(tmp_path: Path) -> None:
    file = ROOT / "config" / "studies" / "weight_recovery.yaml"
    full, smoke = load_study(file), load_study(file, size="smoke")
    assert smoke.name == "weight_recovery_smoke"
    assert [s.id for s in smoke.scenarios] == [s.id for s in full.scenarios]
    assert {s.replications for s in smoke.scenarios} == {2}
    assert [m.id for m in smoke.methods] == [m.id for m in full.methods]
    assert {job.last for job in plan(smoke)} == {2}
    with pytest.raises(StudyError, match=r"size\n.*'tiny'"):
        load_study(file, size="tiny")
