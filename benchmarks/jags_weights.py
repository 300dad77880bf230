"""Which samplers JAGS chooses with estimated weights, for three formulations of the weights.

Usage: python benchmarks/jags_weights.py

Prints nodes by sampler, CPU seconds and the ESS of the weight coefficient, for known and for
estimated weights. 120 groups of 3 from 30 members.
"""

from __future__ import annotations

import warnings

import rmm

FORMULA = "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ {}), RE = TRUE)"
ESTIMATED = "1/(1 + (n-1)*exp(-(b1*power)))"
TRUTH = {"b_l2[Intercept]": 0, "b_l2[z]": 0.5, "b_l1[x]": 0.5, "b_w[b1]": 1, "sigma_l1": 1}
MEMBERS = "first[j]:last[j]"
#: Parts of the generated program -> parts of a formulation without nodes of normalised weights.
RECIPROCAL = {
    "    w[r] <- uw[r] / total[group[r]]\n": "",
    f"total[j] <- sum(uw[{MEMBERS}])": f"inv[j] <- 1 / sum(uw[{MEMBERS}])",
    f"inprod(w[{MEMBERS}], ": f"inv[j] * inprod(uw[{MEMBERS}], ",
}


def formulations(program: str) -> dict[str, str]:
    """Programs of one posterior, by name."""
    reciprocal = program
    for old, new in RECIPROCAL.items():
        assert old in reciprocal, old
        reciprocal = reciprocal.replace(old, new)
    quotient = reciprocal.replace("inv[j] <- 1 / sum", "total[j] <- sum")
    for what in (f"u_l1[member[{MEMBERS}]])", f"X_l1[{MEMBERS}, k])"):
        product = f"inv[j] * inprod(uw[{MEMBERS}], {what}"
        quotient = quotient.replace(product, product.removeprefix("inv[j] * ") + " / total[j]")
    return {"as generated": program, "sums * 1/total": reciprocal, "sums / total": quotient}


def main() -> None:
    """Fit and print."""
    warnings.simplefilter("ignore")
    for family in ("gaussian", "binomial"):
        truth = TRUTH | ({"sigma_l2": 1} if family == "gaussian" else {})
        data = rmm.simulate(
            FORMULA.format(ESTIMATED),
            truth,
            family=family,
            membership={
                "kind": "synthetic",
                "groups": 120,
                "members": 30,
                "size": 3,
                "overlap": 1.0,
            },
            covariates={
                "x": {"level": "member"},
                "z": {"level": "group"},
                "power": {"level": "membership"},
            },
            seed=1,
        ).data
        for weights in ("1/n", ESTIMATED):
            formula = FORMULA.format(weights)
            generated = rmm.program(formula, family, "jags", data=data)
            known = {"known weights": generated}
            for name, program in (known if weights == "1/n" else formulations(generated)).items():
                fit = rmm.fit(
                    formula,
                    data,
                    family,
                    backend="jags",
                    program=program,
                    chains=2,
                    draws=2000,
                    seed=1,
                    cores=1,
                    progress=False,
                )
                engine, table = fit.run.engine, fit.summary()
                ess = table.loc["b_w[b1]", "ess_bulk"] if "b_w[b1]" in table.index else None
                print(family, name, dict(engine["samplers"]), sep="; ", end="; ")
                print(f"CPU {engine['seconds_cpu']:.2f} s", end="; ")
                print("" if ess is None else f"ESS of b_w {ess:.0f}", flush=True)


if __name__ == "__main__":
    main()
