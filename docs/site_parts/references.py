"""Links that Sphinx does not resolve, and types that must not become links."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.nodes import make_refnode

import rmm.errors


def leave_words(app: Any, doctree: nodes.document) -> None:
    """Keep types that are plain words, such as "path", from becoming links to attributes."""
    del app
    for node in list(doctree.findall(pending_xref)):
        if node["refdomain"] == "py" and node["reftype"] == "class" and node["reftarget"].islower():
            node.replace_self(node.children)


def link_errors(app: Any, env: Any, node: pending_xref, text: nodes.Node) -> nodes.Node | None:
    """Link errors and warnings to their page."""
    del env
    name = node["reftarget"].rpartition(".")[2]
    known = getattr(rmm.errors, name, None)
    if node.get("refdomain") != "py" or not isinstance(known, type):
        return None
    return make_refnode(app.builder, node["refdoc"], "reference/errors", name.lower(), text)


def setup(app: Any) -> dict[str, bool]:
    """Register both."""
    app.connect("doctree-read", leave_words)
    app.connect("missing-reference", link_errors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
