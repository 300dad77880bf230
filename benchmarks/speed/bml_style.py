"""JAGS programs written the way R's bml writes them, to compare with; data and initial values.

A weight and a weighted effect per membership, each computed in a loop of its own; the group's sum
of them; predictors as they are; a predicted outcome per group, monitored like all effects and
weights; priors dnorm(0, 0.0001) on coefficients and dscaled.gamma(25, 1) on precisions. Censored
Weibull times are imputed (dinterval), Cox is a table of groups x event times of Poisson counts
(Clayton 1994), a choice is a draw from its stratum's categories (dcat). The text is this project's
own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.coalition_table import CHOICES

MEMBERSHIPS = """
  for (i in 1:n.l1) {{
{weights}
    member.term[i] <- w[i] * (b.l1 * X.l1[i] + re.l1[l1id[i]])
  }}
  for (j in 1:n.l2) {{
    mm[j] <- sum(member.term[l1i1[j]:l1i2[j]])
    eta[j] <- {intercept}b.l2 * X.l2[j] + mm[j]{nation}
  }}
  for (i in 1:n.ul1) {{ re.l1[i] ~ dnorm(0, tau.l1) }}
  b.l1 ~ dnorm(0, 0.0001)
  b.l2 ~ dnorm(0, 0.0001)
  tau.l1 ~ dscaled.gamma(25, 1)
  sigma.l1 <- 1 / sqrt(tau.l1)
"""
NATIONS = """\
  for (k in 1:n.l3) { re.l3[k] ~ dnorm(0, tau.l3) }
  tau.l3 ~ dscaled.gamma(25, 1)
  sigma.l3 <- 1 / sqrt(tau.l3)
"""
WEIGHTS = {
    "fixed": "    w[i] <- 1 / n[i]",
    "estimated": "    uw[i] <- 1 / (1 + (n[i] - 1) * exp(-(b.w * X.w[i])))\n"
    "    w[i] <- uw[i] / sum(uw[l1i1.l1[i]:l1i2.l1[i]])",
}
INTERCEPT = "  b0 ~ dnorm(0, 0.0001)\n"
OUTCOMES = {
    "gaussian": """
  for (j in 1:n.l2) {
    y[j] ~ dnorm(eta[j], tau.l2)
    pred[j] ~ dnorm(eta[j], tau.l2)
  }
  tau.l2 ~ dscaled.gamma(25, 1)
  sigma.l2 <- 1 / sqrt(tau.l2)
""",
    "binomial": """
  for (j in 1:n.l2) {
    y[j] ~ dbern(p[j])
    logit(p[j]) <- eta[j]
    pred[j] ~ dbern(p[j])
  }
""",
    "weibull": """
  for (j in 1:n.l2) {
    censored[j] ~ dinterval(t[j], limit[j])
    t[j] ~ dweib(shape, lambda[j])
    lambda[j] <- exp(-shape * eta[j])
    pred[j] ~ dweib(shape, lambda[j])
  }
  shape ~ dgamma(0.01, 0.01)
""",
    "cox": """
  for (j in 1:n.l2) {
    for (k in 1:n.times) {
      dN[j, k] ~ dpois(hazard[j, k])
      hazard[j, k] <- at.risk[j, k] * exp(eta[j]) * dL0[k]
    }
  }
  for (k in 1:n.times) { dL0[k] ~ dgamma(0.001 * guess[k], 0.001) }
""",
}
OUTCOMES["condlogit"] = """
  for (s in 1:n.s) {
    for (k in 1:n.k) { p[s, k] <- exp(eta[(s - 1) * n.k + k]) }
    choice[s] ~ dcat(p[s, 1:n.k])
    pred[s] ~ dcat(p[s, 1:n.k])
  }
"""
MONITORED = {
    "gaussian": ("sigma.l2", "pred", "b0"),
    "binomial": ("pred", "b0"),
    "weibull": ("shape", "pred", "b0"),
    "cox": ("dL0",),
    "condlogit": ("pred",),
}


def program(family: str, weights: str) -> str:
    """The program's text."""
    intercept = "" if family in ("cox", "condlogit") else "b0 + "
    nation = "" if family == "condlogit" else " + re.l3[l3id[j]]"
    text = "model {" + OUTCOMES[family]
    text += MEMBERSHIPS.format(weights=WEIGHTS[weights], intercept=intercept, nation=nation)
    text += NATIONS if nation else ""
    text += INTERCEPT if intercept else ""
    text += "  b.w ~ dnorm(0, 1)\n" if weights == "estimated" else ""
    return text + "}\n"


def monitored(family: str, weights: str) -> tuple[str, ...]:
    """Everything, as bml keeps it."""
    names = ("b.l1", "b.l2", "sigma.l1", "re.l1", *MONITORED[family])
    names += () if family == "condlogit" else ("sigma.l3", "re.l3")
    return names + (("w", "b.w") if weights == "estimated" else ())


def data(family: str, weights: str, table: pd.DataFrame) -> dict[str, Any]:
    """Data by the program's names; rows of `table` are sorted by gid."""
    groups = table.drop_duplicates("gid")
    size = table.groupby("gid").size().to_numpy()
    last = np.cumsum(size)
    out: dict[str, Any] = {
        "n.l1": len(table),
        "n.l2": len(groups),
        "n": table["n"].to_numpy(float),
        "l1id": pd.factorize(table["pid"])[0] + 1,
        "n.ul1": table["pid"].nunique(),
        "l3id": pd.factorize(groups["cid"])[0] + 1,
        "n.l3": groups["cid"].nunique(),
        "l1i1": last - size + 1,
        "l1i2": last,
        "X.l1": table["finance"].to_numpy(float),
        "X.l2": groups["majority"].to_numpy(float),
    }
    if family == "condlogit":
        del out["l3id"], out["n.l3"]
    if weights == "estimated":
        out["X.w"] = table["pseat_z"].to_numpy(float)
        out |= {"l1i1.l1": np.repeat(last - size + 1, size), "l1i2.l1": np.repeat(last, size)}
    return out | _outcome(family, groups)


def _outcome(family: str, groups: pd.DataFrame) -> dict[str, Any]:
    time, event = groups["dur_wkb"].to_numpy(float), groups["event_wkb"].to_numpy(float)
    if family == "condlogit":
        formed = groups["formed"].to_numpy().reshape(-1, CHOICES)
        return {"n.s": len(formed), "n.k": CHOICES, "choice": formed.argmax(axis=1) + 1}
    if family == "gaussian":
        return {"y": groups["y"].to_numpy(float)}
    if family == "binomial":
        return {"y": event}
    if family == "weibull":  # NaN is JAGS's NA: a time to be imputed
        seen = event == 1
        limit = np.where(seen, time + 1, time)
        return {"t": np.where(seen, time, np.nan), "limit": limit, "censored": 1 - event}
    times = np.unique(time[event == 1])
    guess = event.sum() / time.sum() * np.diff(times, prepend=0.0)
    return {
        "n.times": len(times),
        "at.risk": (time[:, None] >= times).astype(float),
        "dN": ((time[:, None] == times) & (event[:, None] == 1)).astype(float),
        "guess": guess,
    }


def initial(family: str, weights: str, table: pd.DataFrame, chain: int) -> dict[str, Any]:
    """Starting values of one chain, near the data and apart from those of the other chains."""
    rng = np.random.default_rng(chain)
    out: dict[str, Any] = {
        "b.l1": rng.normal(0, 0.2),
        "b.l2": rng.normal(0, 0.2),
        "tau.l1": rng.uniform(1, 6),
    }
    if family != "condlogit":
        out["tau.l3"] = rng.uniform(1, 6)
    groups = table.drop_duplicates("gid")
    time, event = groups["dur_wkb"].to_numpy(float), groups["event_wkb"].to_numpy(float)
    if family == "weibull":
        out |= {"shape": rng.uniform(0.8, 1.4), "b0": np.log(time.mean()) + rng.normal(0, 0.2)}
        out["t"] = np.where(event == 1, np.nan, time + 1)
    if family == "cox":
        steps = len(np.unique(time[event == 1]))
        out["dL0"] = np.full(steps, event.sum() / time.sum())
    if weights == "estimated":
        out["b.w"] = rng.normal(0, 0.3)
    return out
