"""Default priors of weight coefficients and their units, against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rmm.design.prepare import prepare
from rmm.design.priors.prior_scales import scales_of
from rmm.design.priors.weight_priors import scale_name, weight_priors, weight_units


def test_priors_and_units_of_two_blocks() -> None:
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(30), 3)
    data = pd.DataFrame({"g": g, "m": np.arange(90) % 14, "s": rng.normal(size=90) * 1e6})
    data["x"], data["y"] = rng.normal(size=90), rng.normal(size=30)[g]
    blocks = "mm(id(m, g), vars(x), fn(w ~ exp(b1*s)), name=p) + mm(id(m, g), RE=TRUE, name=q)"
    model = prepare(f"y ~ 1 + {blocks}", data)
    within = data["s"] - data.groupby("g")["s"].transform("mean")
    unit = 1 / np.sqrt((within**2).sum() / 60)
    part, member = model.spec.members[0], model.design.members[0]
    assert weight_priors(part, member.multiplier_scale)[0].values == pytest.approx((0.0, unit))
    units = weight_units(model.spec, scales_of(model.design).members)
    assert list(units) == [scale_name("b_w_p")] == ["scale_b_w_p"]
    assert units["scale_b_w_p"] == pytest.approx([unit])
