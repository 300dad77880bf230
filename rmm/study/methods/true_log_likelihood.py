"""The log likelihood of a data set at its true parameters and effects, for its rank among draws.

Ranks of parameters alone can be uniform though a posterior ignores a part of the data; the rank of
the joint log likelihood shows it: Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman & Vehtari
(2023), Bayesian Analysis, doi 10.1214/23-BA1404. The true value is computed from the simulator's
own linear predictor with densities of SciPy, and shares no code with the likelihood of fits.
"""

from __future__ import annotations

import numpy as np

from rmm.simulation import OUTCOMES, Drawn

#: Name of the row in estimates.
LOG_LIKELIHOOD = "log_likelihood"


def true_log_likelihood(drawn: Drawn) -> float:
    """Sum over groups of log p(y | true parameters, true effects)."""
    density = OUTCOMES[drawn.truth.spec.family.name].log_density
    assert density is not None, "checked with the study file"
    return float(np.sum(density(drawn)))
