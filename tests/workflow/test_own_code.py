"""A user's own methods and data, added to a study without a change of the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from rmm.study import load_study
from rmm.study.run.replicate import draw_replication
from tests.projects import Project

GEE = """\
import statsmodels.api as sm


def fit_gee(data, scenario, rng):
    model = sm.GEE(data["y"], sm.add_constant(data[["x"]]), groups=data["node"])
    fit = model.fit()
    return {"slope": {"estimate": fit.params["x"], "se": fit.bse["x"]}}
"""
NETWORK = """\
import numpy as np
import pandas as pd


def draw(rng, nodes=30, density=0.2):
    x, u = rng.normal(size=(2, nodes))
    edges = np.argwhere(np.triu(rng.random((nodes, nodes)) < density, 1))
    y = 0.5 * x[edges].mean(axis=1) + u[edges].mean(axis=1) + rng.normal(size=len(edges))
    edge = np.repeat(np.arange(len(edges)), 2)
    node = edges.ravel()
    return pd.DataFrame({"edge": edge, "node": node, "x": x[node], "y": y[edge]}), {"slope": 0.5}
"""
# Ten lines: what a user adds to have a study of these.
STUDY = """\
seed: 1
replications: 6
batch: 3
data: {kind: python, function: my_data.py:draw, arguments: {density: 0.2}}
vary:
  density: {path: data.arguments.density, values: [0.2, 0.4]}
methods:
  - {name: gee, kind: python, function: my_methods.py:fit_gee}
estimands: [{parameter: slope}]
keep: data
"""
ALLOWED = "allow_code=true"


class OwnProject(Project):
    """A project with a study of the user's own, and files beside it."""

    def __init__(self, folder: Path, study: str, **files: str) -> None:
        super().__init__(folder)
        self.file.write_text(study)
        for name, text in files.items():
            self.beside(name).write_text(text)

    def beside(self, name: str) -> Path:
        """A file beside the study file: ``my_data_py`` is `my_data.py`."""
        stem, _, end = name.rpartition("_")
        return self.file.with_name(f"{stem}.{end}")

    def command(self, *more: str) -> list[str]:
        """A command in which `more` may have settings of the configuration."""
        settings = [word for word in more if word.startswith("allow_code=")]
        rest = [word for word in more if word not in settings]
        return [*super().command(*rest), *settings]


@pytest.mark.slow
def test_two_functions_and_ten_lines_of_yaml(tmp_path: Path) -> None:
    """A GEE by statsmodels and a generator of networks, with no edit of the package."""
    assert len(STUDY.splitlines()) <= 10
    project = OwnProject(tmp_path, STUDY, my_methods_py=GEE, my_data_py=NETWORK)

    said = project.run(fails=True)
    assert "names code that has not been allowed to run" in said
    assert "the data: my_data.py:draw" in said and "method gee: my_methods.py:fit_gee" in said
    assert not project.batches()

    project.run(ALLOWED)
    estimates = project.estimates()
    assert len(estimates) == 12 and (estimates["status"] == "ok").all()
    assert (estimates["truth"] == 0.5).all()
    assert "slope" in (project.results / "report" / "index.html").read_text(encoding="utf-8")

    # Each estimate, computed here from the data that were kept.
    kept = {p.parent.name: pd.read_parquet(p) for p in data_files(project)}
    assert sorted(kept) == sorted(estimates["scenario"].unique())
    for row in estimates.itertuples():
        data = kept[row.scenario].query("replication == @row.replication")
        fit = sm.GEE(data["y"], sm.add_constant(data[["x"]]), groups=data["node"]).fit()
        np.testing.assert_allclose([row.mean, row.sd], [fit.params["x"], fit.bse["x"]], rtol=1e-9)

    # More replications and another batch size change nothing that exists, and repeat nothing.
    before = {path: path.stat().st_mtime_ns for path in project.batches()}
    more = STUDY.replace("replications: 6", "replications: 8").replace("batch: 3", "batch: 2")
    project.file.write_text(more)
    project.run(ALLOWED)
    again = project.estimates()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    merged = again[again["replication"] <= 6].reset_index(drop=True)
    pd.testing.assert_frame_equal(merged, estimates)

    # Another text of the function makes its fits again, and no others; the old ones are kept.
    project.beside("my_methods_py").write_text(GEE + "\n# exchangeable\n")
    assert "replaced" in project.run("-n", ALLOWED, fails=True)
    said = project.run(ALLOWED)
    assert "16 fits of method gee are made again" in said
    assert len(list((project.results / "replaced").rglob("*-*.parquet"))) == len(before) + 2
    columns = ["scenario", "replication", "mean", "sd"]
    pd.testing.assert_frame_equal(project.estimates()[columns], again[columns])


def data_files(project: Project) -> list[Path]:
    """Files of main tables of the data that a study has kept."""
    found = sorted((project.results / "data").glob("*/*.parquet"))
    return [path for path in found if not path.name.endswith(".truth.parquet")]


EXTERNAL = """\
seed: 3
replications: 5
membership: {kind: synthetic, groups: 40, members: 15, size: 2}
covariates: {x: {level: member}}
truth:
  formula: y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)
  parameters: {"b_l2[Intercept]": 0, "b_l1[x]": 1, sigma_l1: 1, sigma_l2: 1}
methods:
  - {name: ols, kind: aggregation}
  - {name: other, kind: external, estimates: other.csv}
estimands: [{parameter: "b_l1[x]"}]
"""


@pytest.mark.thorough
def test_another_program_fits_the_kept_data(tmp_path: Path) -> None:
    """Data out, estimates in: those of least squares, computed outside, are those of `ols`."""
    project = OwnProject(tmp_path, EXTERNAL)
    said = project.run(fails=True)
    assert "'other.csv' does not exist" in said and "snakemake simulate" in said

    project.run("simulate")
    assert not project.batches()
    rows = []
    for path in data_files(project):
        for replication, data in pd.read_parquet(path).groupby("replication"):
            groups = data.groupby("group")[["x", "y"]].mean()
            fit = sm.OLS(groups["y"], sm.add_constant(groups[["x"]])).fit()
            rows.append(
                (path.parent.name, replication, fit.params["x"], fit.bse["x"], fit.df_resid)
            )
    table = pd.DataFrame(rows, columns=["scenario", "replication", "estimate", "se", "df"])
    table["parameter"] = "b_l1[x]"
    table[table["replication"] != 4].to_csv(project.beside("other_csv"), index=False)
    project.run()

    wide = project.estimates().query("parameter == 'b_l1[x]'").set_index(["replication", "method"])
    assert wide.loc[4, "other"]["status"] == "failed"
    assert "no estimates of this data set" in wide.loc[4, "other"]["message"]
    for name in ("mean", "sd", "lower", "upper", "lower90", "p_value"):
        values = wide[name].unstack().drop(index=4)
        np.testing.assert_allclose(values["other"], values["ols"], rtol=1e-9)

    # The missing row arrives: the table has changed, so its fits are taken again.
    table.to_csv(project.beside("other_csv"), index=False)
    assert "5 fits of method other are made again" in project.run()
    assert (project.estimates()["status"] == "ok").all()


LME4 = """\
library(lme4)
args <- commandArgs(TRUE)
data <- read.csv(args[1])
fit <- lmer(y ~ 1 + (1 | school), data)
found <- coef(summary(fit))["(Intercept)", ]
answer <- data.frame(parameter = "mean", estimate = found["Estimate"], se = found["Std. Error"])
write.csv(answer, args[2], row.names = FALSE)
"""
SCHOOLS = """\
import numpy as np
import pandas as pd


def draw(rng):
    school = np.repeat(np.arange(20), 5)
    y = 1 + rng.normal(size=20)[school] + rng.normal(size=100)
    return pd.DataFrame({"school": school, "y": y}), {"mean": 1.0}
"""
IN_R = """\
seed: 4
replications: 3
data: {kind: python, function: my_data.py:draw}
methods:
  - {name: lme4, kind: rscript, script: mine.R}
estimands: [{parameter: mean}]
"""


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("Rscript") is None, reason="there is no Rscript")
def test_an_r_script_with_lme4(tmp_path: Path) -> None:
    """In a balanced design, REML has a closed form: the mean, and sqrt(MSB / N)."""
    project = OwnProject(tmp_path, IN_R, mine_R=LME4, my_data_py=SCHOOLS)
    project.run(ALLOWED)
    estimates = project.estimates()
    assert (estimates["status"] == "ok").all(), estimates["message"].tolist()
    study = load_study(project.file, allow_code=True)
    for row in estimates.itertuples():
        data = draw_replication(study.seed, study.scenarios[0], row.replication).frame()
        between = 5 * data.groupby("school")["y"].mean().var()
        # lme4 writes 15 digits; its optimiser stops at a relative step of 1e-6 or so.
        np.testing.assert_allclose(row.mean, data["y"].mean(), rtol=1e-12)
        np.testing.assert_allclose(row.sd, np.sqrt(between / len(data)), rtol=1e-4)
