"""Coalition governments that never were: as many as the real ones, more evenly spread."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.simulation import simulate

if TYPE_CHECKING:
    import pandas as pd

#: The formula that the outcome is simulated from, with family "weibull".
FORMULA = (
    "Surv(days, ended) ~ 1 + majority"
    " + mm(id(party, government), vars(finance),"
    " fn(w ~ 1/(1 + (n-1)*exp(-(b1*seats)))), RE = TRUE)"
    " + hm(id = country)"
)
#: True value of every parameter.
TRUTH = {
    "b_l2[Intercept]": 6.4,
    "b_l2[majority]": 0.5,
    "b_l1[finance]": 0.3,
    "b_w[b1]": 3.0,
    "sigma_l1": 0.3,
    "sigma_l3": 0.3,
    "shape": 1.5,
}
_SEED = 20260605
_IDS = {"member": "party", "group": "government", "nesting": "country"}
# Of 100 coalitions, so many have 2, 3, ... parties.
_SIZES = {2: 35, 3: 22, 4: 28, 5: 10, 6: 2, 7: 1, 8: 1, 9: 1}


def coalitions() -> pd.DataFrame:
    """628 simulated governments of 29 countries; the same at every call."""
    roster = _roster()
    with tempfile.TemporaryDirectory() as folder:  # the simulator takes real rosters from files
        roster.to_parquet(Path(folder) / "roster.parquet")
        simulated = simulate(
            FORMULA,
            TRUTH,
            family="weibull",
            membership={"kind": "empirical", "file": "roster.parquet", **_IDS},
            covariates={name: {"column": name} for name in ("finance", "seats", "majority")},
            censoring={"share": 0.6},
            seed=_SEED + 1,
            root=folder,
        )
    outcome = simulated.data[["government", "days", "ended"]].drop_duplicates("government")
    outcome["government"] = outcome["government"].astype(roster["government"].dtype)
    return roster.merge(outcome, on="government", validate="many_to_one")


def _roster() -> pd.DataFrame:
    """Who governs with whom, and their covariates. Seats are shares of a coalition's seats."""
    membership: dict[str, Any] = {
        "kind": "synthetic",
        "groups": 628,
        "members": 312,
        "units": 29,
        "activity": 1,
        **_IDS,
        "size": {
            "distribution": "table",
            "values": list(_SIZES),
            "probabilities": list(_SIZES.values()),
        },
    }
    drawn = simulate(
        "y ~ 1 + majority + mm(id(party, government), vars(finance, strength), fn(w ~ 1/n))"
        " + hm(id = country)",
        {
            "b_l2[Intercept]": 0,
            "b_l2[majority]": 0,
            "b_l1[finance]": 0,
            "b_l1[strength]": 0,
            "sigma_l2": 1,
            "sigma_l3": 1,
        },
        membership=membership,
        covariates={
            "size": {"level": "member"},
            "strength": {"level": "membership", "sd": 0.3, "around": "size"},
            "finance": {"level": "member", "distribution": "skew"},
            "majority": {"level": "group", "distribution": "binary", "probability": 0.8},
        },
        seed=_SEED,
    ).data
    table = drawn[["country", "government", "party", "finance", "majority"]].copy()
    votes = np.exp(drawn["strength"])
    coalition = votes.groupby(drawn["government"])
    table["seats"] = (votes / coalition.transform("sum")).round(4)
    table["prime"] = votes == coalition.transform("max")
    table["n"] = coalition.transform("size")
    return table.assign(finance=table["finance"].round(4), majority=table["majority"].astype(int))
