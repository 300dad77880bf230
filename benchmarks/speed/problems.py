"""The problems: study files whose data sets all programs fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rmm.study import Study, load_study
from rmm.study.run.replicate import draw_replication

MM = "mm(id(member, group), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*power)))), RE = TRUE)"
#: Our two methods: the kind of model in the study file, and how it is called in results.
METHODS = {"fixed": "mm", "estimated": "mmmm"}
STUDY = """\
aims: How much CPU time a fit takes.
seed: 1
replications: {replications}
batch: {batch}
membership:
  kind: synthetic
  groups: {groups}
  members: {members}
  size: 3
  overlap: {overlap}
{units}\
covariates:
  x: {{level: member}}
  z: {{level: group}}
  power: {{level: membership}}
truth:
  family: {family}
  formula: "{outcome} ~ {intercept} + z + {mm}{strata}"
  parameters: {{{parameters}}}
{more}\
methods:
{methods}
estimands:
  - {{parameter: "b_l1[x]"}}
"""
METHOD = """\
  - {{name: {name}, kind: {kind}, backend: laplace, sampler: {{chains: 2, draws: 500}}}}
"""


@dataclass(frozen=True)
class Problem:
    """Simulated data sets of one size and family.

    Attributes
    ----------
    weights : tuple of str
        The models that we fit: weights known (``"fixed"``) or estimated.
    overlap : float
        Share of memberships that are drawn from the common members; the others have a member of
        their own.
    """

    name: str
    title: str
    family: str
    groups: int
    members: int
    weights: tuple[str, ...] = ("estimated",)
    overlap: float = 1.0

    def study_text(self, replications: int, batch: int, weights: tuple[str, ...] = ()) -> str:
        """Return a study file with one method for each kind of weights."""
        choices = self.family == "condlogit"
        outcome, more = {
            "weibull": ("Surv(time, event)", "  censoring: {share: 0.25}\n"),
            "cox": (
                "Surv(time, event)",
                "  censoring: {rate: 0.3}\n  baseline: {shape: 1.5, rate: 1}\n",
            ),
        }.get(self.family, ("y", ""))
        intercept = self.family not in ("cox", "condlogit")
        values = {"b_l2[Intercept]": 0.0} if intercept else {}
        values |= {"b_l2[z]": 0.5, "b_l1[x]": 0.0, "b_w[b1]": 1.0, "sigma_l1": 1.0}
        values |= {"gaussian": {"sigma_l2": 1.0}, "weibull": {"shape": 1.5}}.get(self.family, {})
        methods = weights or self.weights
        return STUDY.format(
            replications=replications,
            batch=batch,
            groups=self.groups,
            members=self.members,
            overlap=self.overlap,
            units=f"  units: {self.groups // 4}\n  within: false\n" if choices else "",
            family=self.family,
            outcome=outcome,
            intercept=int(intercept),
            mm=MM,
            strata=" + strata(nesting)" if choices else "",
            parameters=", ".join(f'"{k}": {v}' for k, v in values.items()),
            more=more,
            methods="".join(METHOD.format(name=w, kind=METHODS[w]) for w in methods),
        )

    def study(self, folder: Path, replications: int) -> Study:
        """Write the study file and load it."""
        file = folder / f"{self.name}.yaml"
        file.write_text(self.study_text(replications, replications))
        return load_study(file)


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("gaussian", "gaussian", "gaussian", 120, 30, ("fixed", "estimated")),
        Problem("binomial", "binomial", "binomial", 100, 40, ("fixed", "estimated")),
        Problem("weibull", "Weibull", "weibull", 100, 40),
        Problem("cox", "Cox", "cox", 100, 40),
        Problem("condlogit", "conditional logit", "condlogit", 100, 40),
        Problem(
            "condlogit_own",
            "conditional logit, one seat in five with a member of its own",
            "condlogit",
            100,
            40,
            overlap=0.8,
        ),
    )
}


def write_data(study: Study, first: int, last: int, folder: Path) -> None:
    """Write the data sets of some replications as CSV files, sorted by group."""
    for replication in range(first, last + 1):
        table = draw_replication(study.seed, study.scenarios[0], replication).frame()
        table.sort_values("group", kind="stable").to_csv(
            folder / f"data_{replication:04d}.csv", index=False
        )
