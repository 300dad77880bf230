"""Equations as MathML, which browsers draw themselves: no script, no fonts, no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

# TeX leaves a thin space beside the name of a function where no bracket stands; browsers do not.
_SPACE = '<mspace width="0.1667em"></mspace>'
_AFTER = re.compile(r"(<mo>&ApplyFunction;</mo>)(?!\s*(?:<mrow>\s*)?<mo[^>]*>\(|\s*<mspace)")
_BEFORE = re.compile(
    r"(</(?:mi|mn|msub|msup|msubsup|munder|mfrac|mrow)>|>\)</mo>)"
    r"(\s*<mi>\w+</mi>\s*<mo>&ApplyFunction;)"
)


def mathml(tex: str, **options: bool) -> str:
    """An equation; "log x" and "2 log x" with spaces."""
    text = _AFTER.sub(rf"\1{_SPACE}", tex2mathml(tex, **options))
    return _BEFORE.sub(rf"\1{_SPACE}\2", text)


def inline(translator: Any, node: nodes.math) -> None:
    """An equation within a line."""
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """An equation of its own; wide ones scroll on narrow screens, by the keyboard, too."""
    text = mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="equation" tabindex="0">{text}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer as `html_math_renderer = "mathml"`."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
