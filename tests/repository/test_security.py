"""Untrusted files and names: nothing of them is run, and nothing leaves its place."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import rmm
from rmm.backends.stan.backend import LANGUAGE as STAN_LANGUAGE
from rmm.backends.stan.compile import check_syntax
from rmm.backends.stan.install import installed_cmdstan, wheel
from rmm.backends.user_program import check_variables
from rmm.errors import RmmError, StudyError, shortened_lines
from rmm.formula.prior_syntax import read_statement
from rmm.simulation.memberships.real_tables import read_file
from rmm.study import load_study
from rmm.study.report import write_report
from rmm.study.report.tables.table_files import latex, no_formula
from tests import ROOT
from tests.hostile import LABELS, SCRIPT, Elements, csv_faults, figure_faults, latex_faults
from tests.invented import write_study

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Touch:
    """Pickles into a call that leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


# -- the sources -----------------------------------------------------------------------------


def test_no_source_evaluates_or_unpickles() -> None:
    """Ruff looks for some of these; the processes of JAGS send arrays, whose pickles are off."""
    words = (
        r"(?<![\w.])(?:eval|exec|__import__)\(|\bimport pickle\b|\bpickle\.|\bmarshal\."
        r"|os\.system|shell=True|yaml\.(?:unsafe_|full_)?load\(|read_pickle|allow_pickle=True"
    )
    sources = sorted(ROOT.joinpath("rmm").rglob("*.py"))
    assert len(sources) > 100
    found = {p.name: m for p in sources if (m := re.findall(words, p.read_text(encoding="utf-8")))}
    assert not found


def test_no_shell_command_holds_anything_unquoted() -> None:
    """Snakemake puts wildcards and paths into `shell:` texts: each must ask for quotes."""
    files = [ROOT / "workflow" / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]
    commands = [
        c
        for f in files
        for c in re.findall(r'shell:\s*((?:\s*"[^"\n]*"\n)+)', f.read_text(encoding="utf-8"))
    ]
    assert len(commands) == sum(f.read_text(encoding="utf-8").count("shell:") for f in files)
    for command in commands:
        fields = re.findall(r"\{[^}]*\}", command)
        assert fields and all(field.endswith(":q}") for field in fields), command


# -- study files -----------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
BAD_YAML = {
    "billion laughs": (LAUGHS, "values, if each alias .* is written out"),
    "merged laughs": (
        LAUGHS.replace("[", "{a: [").replace("]", "]}"),
        "is written out|nested too deeply",
    ),
    "itself": ("a: &a [*a]\n", "An alias .* refers to a value that contains it"),
    "deep": ("a: " + "[" * 5000, "nested too deeply"),
    "deep blocks": ("".join(" " * i + "a:\n" for i in range(200)), "nested too deeply"),
    "long": ("# " + "x" * 300_000 + "\na: 1\n", "at most 200,000 bytes"),
    "many": ("a: [" + "1," * 30_000 + "]", "30,001 values.*\n *At most 20,000"),
    "object": ("a: !!python/object/apply:os.mkdir [made]\n", "is not allowed"),
    "name": ("a: !!python/name:os.system\n", "is not allowed"),
    "digits": ("seed: " + "9" * 5000, "The number has 5,000 digits; at most 40"),
    "hexadecimal": ("seed: 0x" + "f" * 5000, "digits"),
    "sexagesimal": ("seed: " + "59:" * 3000 + "59", "digits"),
    "nan": ("seed: .nan\n", "seed\n.*nan; it must be a finite number"),
    "infinite": ("seed: -.inf\n", "seed\n.*-inf; it must be a finite number"),
    "date": ("seed: 2020-02-29\n", "as type date"),
    "no date": ("seed: 2020-02-31\n", "not a value of type !!timestamp"),
    "bytes": ("seed: !!binary aGk=\n", "as type bytes"),
    "set": ("seed: !!set {a}\n", "as type set"),
    "no number": ("seed: !!int x\n", "'x' is not a value of type !!int"),
    "no truth": ("seed: !!bool perhaps\n", "'perhaps' is not a value of type !!bool"),
    "key twice": ("seed: 1\nseed: 1\n", "is given twice"),
    "list as key": ("? [a, b]\n: 1\n", "this key is not text"),
    "latin-1": (b"title: \xe9\n", "not UTF-8 text"),
    "control": ("title: \x00\n", "not valid YAML"),
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_yaml_that_is_no_plain_data_is_refused(name: str, tmp_path: Path) -> None:
    text, message = BAD_YAML[name]
    path = tmp_path / "study.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StudyError, match=message):
        load_study(path)
    assert not (Path.cwd() / "made").exists()


def quickstart(**changes: Any) -> dict[str, Any]:
    path = ROOT / "config" / "studies" / "quickstart.yaml"
    return {**yaml.safe_load(path.read_text(encoding="utf-8")), **changes}


def written(folder: Path, config: dict[str, Any], name: str = "study") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


BAD_NAMES = ("..", ".", ".hidden", "-rf", "a{b}", "{wildcards.scenario}", "$(id)", "a;b", "a\nb",
             "a'b", 'a"b', "a`b", "a*", "a|b", " a", "a ", "a\x1bb", "~", "x" * 120)  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_the_name_of_a_study_stays_a_name(name: str, tmp_path: Path) -> None:
    """It becomes a folder in `results`: `...yaml` would be the folder above it."""
    with pytest.raises(StudyError, match="its name"):
        load_study(written(tmp_path, quickstart(), name))


@pytest.mark.parametrize("name", ["study", "My study 2", "größe", "a-b_c+1.2", "二"])
def test_ordinary_names_of_studies(name: str, tmp_path: Path) -> None:
    assert load_study(written(tmp_path, quickstart(), name)).name == name


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", ".", "a b", "mm\n", "$(id)", "-x",
                                  "{scenario}", "ж", "", "a" * 101])  # fmt: skip
def test_names_of_methods_and_candidates_stay_names(name: str, tmp_path: Path) -> None:
    config = quickstart()
    config["methods"][0]["name"] = name
    with pytest.raises(StudyError, match=r"methods\[0\]\.name"):
        load_study(written(tmp_path, config))
    config = quickstart()
    candidates = {name: "w ~ 1/n", "plain": "w ~ 1"}
    config["methods"][0] = {"name": "choice", "kind": "choice", "candidates": candidates}
    with pytest.raises(StudyError, match=r"methods\[0\]\.candidates"):
        load_study(written(tmp_path, config))


TOO_MUCH = {
    "groups": ({"membership": {**quickstart()["membership"], "groups": 10**9}}, "at most 10000000"),
    "fits": ({"replications": 10**7}, "fits in all"),
    "scenarios": (
        {
            "vary": {
                f"f{i}": {"path": "covariates.x.mean", "values": list(range(30))} for i in range(8)
            },
            "exclude": [],
        },
        "656,100,000,000 scenarios",
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_sizes_that_no_machine_has_are_refused(name: str, tmp_path: Path) -> None:
    changes, message = TOO_MUCH[name]
    with pytest.raises(StudyError, match=message):
        load_study(written(tmp_path, quickstart(**changes)))


@pytest.mark.parametrize("file", ["x" * 5000 + ".csv", "a\x00.csv", "/dev/zero", "."])
def test_what_cannot_be_a_file_is_none(file: str, tmp_path: Path) -> None:
    with pytest.raises(RmmError, match=r"membership\.file: The file .* does not exist"):
        read_file("membership.file", file, tmp_path)


def test_what_scenarios_are_called_is_a_hash(tmp_path: Path) -> None:
    vary = {"../up": {"levels": {"../../a": {"covariates.x.mean": 1}, "$(id)": {}}}}
    study = load_study(written(tmp_path, quickstart(vary=vary, exclude=[])))
    assert [re.fullmatch("s[0-9a-f]{10}", s.id) is not None for s in study.scenarios] == [True] * 2


@pytest.mark.thorough
def test_a_report_replaces_reports_only(tmp_path: Path) -> None:
    made = write_study(tmp_path / "study", {"overlap": (0.0, 0.5)}, ["ols"], replications=20)
    mine = tmp_path / "paper" / "figures" / "mine.pdf"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(StudyError, match="was not written by rmm"):
        write_report(*made, tmp_path / "paper")
    assert mine.read_text() == "mine"
    made.folder.joinpath("report").symlink_to(tmp_path / "paper")
    with pytest.raises(StudyError, match="was not written by rmm"):
        write_report(*made)
    (page := tmp_path / "site" / "index.html").parent.mkdir()
    page.write_text("mine")
    with pytest.raises(StudyError, match=r"contains a file `index\.html` that was not written"):
        write_report(*made, page.parent)
    write_report(*made, tmp_path / "other")
    assert write_report(*made, tmp_path / "other").is_file()
    (tmp_path / "other" / "index.html").unlink()  # as a run that was killed leaves it
    assert write_report(*made, tmp_path / "other").is_file()


# -- messages ---------------------------------------------------------------------------------


def test_letters_cannot_command_a_terminal() -> None:
    with pytest.raises(RmmError, match="cannot be used in a formula") as caught:
        rmm.program("y ~ \x1b]0;title\x07 + \x1b[2J")
    assert all(c.isprintable() or c == "\n" for c in str(caught.value))
    assert shortened_lines("a\tb\nc\x1b[31m\u202e\ud800") == "a\tb\nc?[31m??"


def test_letters_stay_short() -> None:
    assert len(shortened_lines("x" * 10_000)) == 1000
    assert len(shortened_lines("\n".join(["word"] * 10_000))) == 4000
    assert shortened_lines("short") == "short"
    with pytest.raises(RmmError, match="characters; at most 2,000") as caught:
        read_statement("b_w ~ normal(0, " + "1" * 10_000 + ")")
    assert len(str(caught.value)) < 200


# -- tables ----------------------------------------------------------------------------------


def test_parquet_metadata_are_not_unpickled(tmp_path: Path) -> None:
    """pyarrow before 14.0.1 ran pickles that it found in a file's schema (CVE-2023-47248)."""
    made = tmp_path / "made"
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Touch(made)),
    }
    field = pa.field("y", pa.float64(), metadata=metadata)
    pandas = {
        "index_columns": [],
        "columns": [
            {
                "name": "y",
                "pandas_type": "object",
                "numpy_type": "object",
                "metadata": None,
                "field_name": "y",
            }
        ],
    }
    schema = pa.schema([field], {b"pandas": json.dumps(pandas).encode()})
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"y": [1.0, 2.0]}).cast(schema), path)
    assert rmm.tables.read.read_table(path)["y"].tolist() == [1.0, 2.0]
    assert not made.exists()


def test_rda_files_are_only_parsed(tmp_path: Path) -> None:
    """A call in an .rda file is data; R itself would run it when it forces the promise."""
    rdata = pytest.importorskip("rdata")
    path = tmp_path / "table.rda"
    frame = pd.DataFrame({"y": [1.0, 2.0]})
    rdata.write_rda(path, {"table": frame, "system": "touch made"})
    assert rmm.tables.read.read_table(path)["y"].tolist() == [1.0, 2.0]
    path.write_bytes(b"RDX3\nX\n" + b"\x00" * 64)
    with pytest.raises(rmm.DataError, match="cannot be read"):
        rmm.tables.read.read_table(path)


# -- saved fits ------------------------------------------------------------------------------

FORMULA = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*s))), RE=TRUE) + hm(id=cid)"


@pytest.fixture
def saved(coalitions: pd.DataFrame, tmp_path: Path) -> Path:
    fit = rmm.fit(
        FORMULA, coalitions, backend="fake", chains=2, warmup=10, draws=20, seed=1, progress=False
    )
    return fit.save(tmp_path / "fit.nc")


def _about(file: h5py.File, **changes: Any) -> None:
    attributes = file["rmm"].attrs
    attributes["about"] = json.dumps({**json.loads(attributes["about"]), **changes})


def _huge(file: h5py.File) -> None:
    file["rmm"].create_dataset("draws_huge", shape=(2, 10**9), chunks=(1, 1000), dtype="f8")


def _elsewhere(file: h5py.File) -> None:
    file["rmm"].create_dataset(
        "draws_other", shape=(10,), dtype="u1", external=[("/etc/hostname", 0, 10)]
    )


def _replaced(file: h5py.File, name: str, values: Any) -> None:
    del file["rmm"][name]
    file["rmm"][name] = values


TAMPERED: dict[str, Any] = {
    "no about": lambda f: f["rmm"].attrs.__delitem__("about"),
    "no JSON": lambda f: f["rmm"].attrs.__setitem__("about", "{"),
    "about a list": lambda f: f["rmm"].attrs.__setitem__("about", "[]"),
    "NaN in JSON": lambda f: _about(f, settings=float("nan")),
    "no backend": lambda f: _about(f, backend="os.system"),
    "no family": lambda f: _about(f, family="__import__('os')"),
    "formula": lambda f: _about(f, formula="y ~ __import__('os').system('id')"),
    "priors": lambda f: _about(f, priors=["b_l1 ~ __import__('os')"]),
    "unknown setting": lambda f: _about(f, settings={"monitor": [], "shell": "id"}),
    "formula a number": lambda f: _about(f, formula=3),
    "huge": _huge,
    "in another file": _elsewhere,
    "link": lambda f: f["rmm"].__setitem__("draws_x", h5py.ExternalLink("/etc/passwd", "/x")),
    "soft link": lambda f: f["rmm"].__setitem__("draws_x", h5py.SoftLink("/posterior")),
    "pickle for a table": lambda f: _replaced(
        f, "table", np.frombuffer(pickle.dumps(Touch(Path("made"))), dtype="u1")
    ),
    "other shapes": lambda f: _replaced(f, "draws_b_l1", np.zeros((2, 20, 7))),
    "text for draws": lambda f: _replaced(f, "draws_b_l1", "text"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_fit_is_refused(name: str, saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        TAMPERED[name](file)
    with pytest.raises(rmm.DataError, match="not a fit that rmm saved"):
        rmm.load(saved)
    assert not Path("made").exists()


def test_a_fit_is_no_archive_of_other_kinds(saved: Path, tmp_path: Path) -> None:
    assert rmm.load(saved).summary().notna().all().all()
    path = tmp_path / "fit.pkl"
    path.write_bytes(pickle.dumps(Touch(tmp_path / "made")))
    with pytest.raises(rmm.DataError, match="not a fit that rmm saved"):
        rmm.load(path)
    assert not (tmp_path / "made").exists()
    for size in (0, 100, 4000):
        path.write_bytes(saved.read_bytes()[:size])
        with pytest.raises(rmm.DataError, match="not a fit that rmm saved"):
            rmm.load(path)


# -- reports ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of results all of whose labels are hostile."""
    folder = tmp_path_factory.mktemp("hostile") / "study"
    factors = {SCRIPT: LABELS[:4], "{{ 7 * 7 }}": LABELS[6:8]}
    study, _ = write_study(
        folder,
        factors,
        list(LABELS[:5]),
        replications=20,
        parameter=f"b_l1[{SCRIPT}]",
        title=SCRIPT,
        aims="".join(LABELS),
    )
    path = folder / "estimates.parquet"
    table = pd.read_parquet(path)
    table.loc[table["status"] == "failed", "message"] = "".join(LABELS)
    table.to_parquet(path)
    return write_report(study, folder)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "scripts"), [("index.html", 0), ("numbers.html", 1)])
def test_no_label_becomes_a_part_of_the_page(hostile_report: Path, name: str, scripts: int) -> None:
    text = hostile_report.with_name(name).read_text(encoding="utf-8")
    page = Elements(text)
    assert page.found.count("script") == scripts
    assert not {"img", "iframe", "object", "link", "foreignobject", "base"} & set(page.found)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    pages = {"index.html", "numbers.html"}
    assert page.links and all(link.partition("#")[0] in {"", *pages} for link in page.links)
    assert "{{ 7 * 7 }}" in text  # labels are no templates
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10  # and they are shown


@pytest.mark.thorough
def test_no_label_becomes_a_part_of_a_figure(hostile_report: Path) -> None:
    files = sorted((hostile_report.parent / "figures").glob("*.svg"))
    assert len(files) > 2
    assert not [fault for file in files for fault in figure_faults(file)]


def test_no_label_becomes_a_formula_or_a_command(hostile_report: Path) -> None:
    folder = hostile_report.parent / "tables"
    assert not [fault for file in folder.glob("*.csv") for fault in csv_faults(file)]
    sources = sorted(folder.glob("*.tex"))
    assert sources
    assert not [fault for file in sources for fault in latex_faults(file)]
    for file in sources:
        if not file.stem.endswith(
            "_factors"
        ):  # it has no levels of factors, of which some have one
            assert r"\textbackslash{}" in file.read_text(encoding="utf-8")


def test_text_that_a_spreadsheet_would_compute() -> None:
    assert no_formula("=1+1") == "'=1+1"
    assert no_formula("b_l1[x]") == "b_l1[x]"
    assert latex("a\x0cb\x00") == "a b "


# -- names in programs -----------------------------------------------------------------------

NAMES = (
    "}model { }", "y ~ normal(0, 1);", "a'b", 'a"b', "größe", "ж", "二", "𝔵", "#", "//", "/*", "*/",
    "{0}", "%s", "a\\b", "lambda", "model", "data", "target", "for", "real", "vector", "lp__",
    "__name__", "T", "I", "1x", "_", "x" * 400, "eta", "alpha", "sigma_l1", "b_w", "J", "start",
    "a.b", "a b", "log_n1", "b9", "SCRIPT", "\u202eevil", "quantile", "normal_lpdf", "inv_logit",
)  # fmt: skip


@pytest.mark.skipif(wheel() is None and installed_cmdstan() is None, reason="Stan is not installed")
def test_stan_takes_programs_with_hostile_names(coalitions: pd.DataFrame) -> None:
    for one, other in zip(NAMES[::2], NAMES[1::2], strict=False):
        check_syntax(_program(coalitions, one, other, "stan"))


@pytest.mark.jags
def test_jags_takes_hostile_names(coalitions: pd.DataFrame) -> None:
    """The whole way: names come back as labels, and no two are mixed up."""
    few = coalitions[coalitions["gid"] < "g030"]
    for one, other in zip(NAMES[::6], NAMES[1::6], strict=False):
        table = few.rename(columns={"x": one, "s": other})
        fit = rmm.fit(
            _formula(one, other),
            table.assign(y=few["y"]),
            chains=1,
            warmup=20,
            draws=20,
            seed=1,
            progress=False,
            backend="jags",
        )
        assert f"b_l1[{one}]" in fit.summary().index


def _formula(one: str, other: str) -> str:
    one, other = (f"`{name}`" for name in (one, other))
    return (
        f"y ~ 1 + mm(id(pid, gid), vars({one}), fn(w ~ 1/n^exp(-(b1*{other} + b2*{one}))), RE=TRUE)"
    )


def _program(table: pd.DataFrame, one: str, other: str, backend: str) -> str:
    renamed = table.rename(columns={"x": one, "s": other}).assign(y=table["y"])
    return rmm.program(_formula(one, other), data=renamed, backend=backend)


def test_a_program_includes_no_files(coalitions: pd.DataFrame) -> None:
    text = rmm.program("y ~ 1 + z", data=coalitions, backend="stan")
    for line in ("#include /etc/passwd\n", "  # include <x>\n"):
        with pytest.raises(rmm.ProgramError, match="#include"):
            check_variables(line + text, STAN_LANGUAGE, ["b_l2"])
    check_variables("// #include x\n" + text, STAN_LANGUAGE, ["b_l2"])


def test_a_programs_code_holds_our_names_only(coalitions: pd.DataFrame) -> None:
    for one, other in zip(NAMES[::2], NAMES[1::2], strict=False):
        for backend, comment in (("stan", r"//.*"), ("jags", r"#.*")):
            code = re.sub(comment, "", _program(coalitions, one, other, backend))
            assert re.fullmatch(r"[\w\s(){}\[\]<>=~+*/^.,:;'|&!?%-]*", code, re.ASCII)


# -- the command line ------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_command_line_answers_hostile_files_with_messages(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(LAUGHS)
    done = subprocess.run(
        [sys.executable, "-m", "rmm", "study", "check", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "is written out" in done.stderr
