"""Notes on methods whose scale differs from the truth's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rmm.study.methods.regressions import (
    REGRESSIONS,
)

if TYPE_CHECKING:
    from rmm.study.design.study import Study


def scale_notes(study: Study) -> list[str]:
    """Where a regression's estimates are compared with a truth that is on another scale.

    An estimand whose `truth` is a number in the file is the user's to choose.
    """
    if all(isinstance(e.truth, (int, float)) for e in study.estimands):
        return []
    families = dict.fromkeys(s.recipe.truth.spec.family.name for s in study.scenarios)
    notes = []
    for method in study.methods:
        row = REGRESSIONS.get(method.backend)
        other = [f for f in families if row is not None and not row.estimates(f)]
        if other:
            own = [n for f in other for n, r in REGRESSIONS.items() if r.estimates(f)]
            better = [n for n in own if n in method.kind.backends]
            notes.append(
                f"Method {method.name}: the estimates of backend {method.backend} are not on the "
                f"scale of the parameters of family {', '.join(other)}. So its bias, mean squared "
                "error and coverage compare numbers on two scales; only a slope of 0 means the "
                "same on both. These backends estimate on the scale of the truth: "
                f"{', '.join(dict.fromkeys(better)) or 'none of this kind'}. Or give each "
                f"estimand a `truth` that is a number on the scale of {method.backend}."
            )
    return notes
