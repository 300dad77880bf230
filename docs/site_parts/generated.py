"""The directive `generated`: a part of a page that is generated from the code in each build.

```{generated} study-keys
```
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from site_parts import (
    api,
    command_line,
    data_checks,
    language,
    speed_at_a_glance,
    study_keys,
    warning_texts,
)

WRITERS: dict[str, Callable[[], str]] = {
    "study-keys": study_keys.tables,
    "measures": study_keys.measures,
    "closed-forms": study_keys.closed_forms,
    "weight-functions": language.weight_functions,
    "aggregates": language.aggregates,
    "table-functions": language.table_functions,
    "bases": language.bases,
    "prior-families": language.prior_families,
    "plots": language.plots,
    "estimands": language.estimands,
    "warnings": warning_texts.warnings_table,
    "data-checks": data_checks.data_checks,
    "commands": command_line.commands,
    "speed-at-a-glance": speed_at_a_glance.sentences,
    "cluster": lambda: cluster(),
    **{f"api-{part}": writer for part, writer in api.WRITERS.items()},
}


def cluster() -> str:
    """Return a link to the page on clusters, if it exists."""
    there = (Path(__file__).parents[1] / "cluster.md").exists()
    return "```{toctree}\n:maxdepth: 1\n\n/cluster\n```" if there else ""


class Generated(SphinxDirective):
    """Replace the directive by the Markdown of the named writer."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse the Markdown, including sections."""
        name = self.arguments[0]
        if name not in WRITERS:
            raise self.error(f"Nothing is generated as {name!r}. Known: {', '.join(WRITERS)}.")
        return self.parse_text_to_nodes(WRITERS[name](), allow_section_headings=True)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
