"""Which numbers laplace gives, for results that are kept; apart, as importing that is slow."""

from __future__ import annotations

#: Raised only when estimates change by more than their Monte Carlo errors: by the engine, or by
#: default priors. Kept results of another number are made again (`tools/keep-reference`).
#: 2: default priors of weights follow from the spread within groups; those of the logit and
#: log-duration scales are narrower.
RESULTS_VERSION = 2
