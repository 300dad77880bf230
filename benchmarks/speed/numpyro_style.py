"""A NumPyro program of the models on coalitions, as a user would write it; NUTS, four chains.

usage: python numpyro_style.py FAMILY DATA.npz DRAWS.npz WARM-UP DRAWS

Runs in an environment of its own (`requirements-peers.txt`) and imports nothing of ours. The data
are those of `bml_style.data`. Effects are standard normals times their standard deviation, which
NUTS needs; everything else is written down as the model reads, with NumPyro's defaults (32-bit
numbers, target acceptance .8, a diagonal mass matrix). Prints one line of JSON. NumPyro compiles
in each run, which JAX's cache on disk makes short from the second run on; the CPU seconds are those
of a second run less those of a second run of one warm-up and one draw.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

CHAINS = 4
KEPT = ("b_l1", "sigma_l1", "b_w")


def member_weights(d: dict[str, Any], groups: int) -> Any:
    """Return weights that add up to one in each group: 1/n, or estimated from seats."""
    if "X.w" not in d:
        return 1 / d["n"]
    b_w = numpyro.sample("b_w", dist.Normal(0, 1))
    raw = 1 / (1 + (d["n"] - 1) * jnp.exp(-b_w * d["X.w"]))
    return raw / jax.ops.segment_sum(raw, d["group"], groups)[d["group"]]


def linear_predictor(d: dict[str, Any], groups: int, intercept: bool) -> Any:
    """Return the predictor of each group: weighted members, a covariate, the country."""
    b_l1 = numpyro.sample("b_l1", dist.Normal(0, 100))
    b_l2 = numpyro.sample("b_l2", dist.Normal(0, 100))
    sigma_l1 = numpyro.sample("sigma_l1", dist.HalfCauchy(25))
    with numpyro.plate("members", int(d["n.ul1"])):
        effect = sigma_l1 * numpyro.sample("z_l1", dist.Normal(0, 1))
    w = member_weights(d, groups)
    term = w * (b_l1 * d["X.l1"] + effect[d["l1id"] - 1])
    eta = b_l2 * d["X.l2"] + jax.ops.segment_sum(term, d["group"], groups)
    if "n.l3" in d:
        sigma_l3 = numpyro.sample("sigma_l3", dist.HalfCauchy(25))
        with numpyro.plate("countries", int(d["n.l3"])):
            country = sigma_l3 * numpyro.sample("z_l3", dist.Normal(0, 1))
        eta = eta + country[d["l3id"] - 1]
    if intercept:
        eta = eta + numpyro.sample("b0", dist.Normal(0, 100))
    return eta


def model(family: str, d: dict[str, Any], groups: int) -> None:
    """The model of one family."""
    eta = linear_predictor(d, groups, family not in ("cox", "condlogit"))
    if family == "gaussian":
        sigma_l2 = numpyro.sample("sigma_l2", dist.HalfCauchy(25))
        numpyro.sample("y", dist.Normal(eta, sigma_l2), obs=d["y"])
    elif family == "binomial":
        numpyro.sample("y", dist.BernoulliLogits(eta), obs=d["y"])
    elif family == "weibull":
        shape = numpyro.sample("shape", dist.Gamma(0.01, 0.01))
        log_hazard = jnp.log(shape) + (shape - 1) * jnp.log(d["time"]) - shape * eta
        cumulative = jnp.exp(shape * (jnp.log(d["time"]) - eta))
        numpyro.factor("survival", jnp.sum(d["event"] * log_hazard - cumulative))
    elif family == "cox":  # partial likelihood, ties after Breslow; groups sorted, latest first
        at_risk = jax.lax.cumlogsumexp(eta[d["latest_first"]])[d["last_at_risk"]]
        numpyro.factor("partial", jnp.sum(d["event"] * (eta - at_risk)))
    else:
        logits = eta.reshape(int(d["n.s"]), int(d["n.k"]))
        numpyro.sample("choice", dist.Categorical(logits=logits), obs=d["choice"] - 1)


def run(family: str, d: dict[str, Any], warmup: int, draws: int) -> tuple[MCMC, float]:
    """Return a run of all chains and its CPU seconds, those of compiling included."""
    cpu = time.process_time()
    mcmc = MCMC(
        NUTS(model),
        num_warmup=warmup,
        num_samples=draws,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(1), family, d, len(d["X.l2"]))
    jax.block_until_ready(mcmc.get_samples())
    return mcmc, time.process_time() - cpu


def keep_compiled(folder: str) -> None:
    """Let JAX keep all that it compiles."""
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def main() -> None:
    """Fit, and write the draws."""
    family, data, out, warmup, draws = sys.argv[1:]
    with np.load(data) as file:
        d = {name: np.asarray(file[name]) for name in file.files}
    with tempfile.TemporaryDirectory() as cache:
        keep_compiled(cache)
        found = {}
        for lengths in ((1, 1), (int(warmup), int(draws))):
            run(family, d, *lengths)
            found[lengths] = run(family, d, *lengths)
    (_, compiling), (mcmc, seconds) = found.values()
    kept = {k: np.asarray(v) for k, v in mcmc.get_samples(group_by_chain=True).items()}
    np.savez(out, **{k: v for k, v in kept.items() if k in KEPT})
    print(
        json.dumps(
            {
                "cpu_seconds": seconds - compiling,
                "compiling": compiling,
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "divergences": int(mcmc.get_extra_fields()["diverging"].sum()),
                "versions": f"numpyro {numpyro.__version__}, jax {jax.__version__}",
            }
        )
    )


if __name__ == "__main__":
    main()
