"""Pictures of the first pages: who is a member of what, and the first fit of the README.

usage: PYTHONPATH=docs .venv/bin/python -m site_parts.example_pictures

Each picture of memberships has members in a row below, and groups with their outcome above.
Members of several groups are filled. The pictures of the fit come from the code of the README.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image

from rmm.posterior.plots.style import INK, LOOKS, RULE, SETTINGS
from site_parts.pages import ROOT, blocks

FOLDER = ROOT / "docs" / "figures"
MEMBER, OUTCOME = LOOKS[0].colour, LOOKS[1].colour


@dataclass(frozen=True)
class Memberships:
    """Groups with their members, and words for both, for the outcome and for line widths."""

    groups: dict[str, dict[str, float]]  # group -> member -> width of the line, in points
    group_word: str
    member_word: str
    outcome_word: str
    labels: dict[tuple[str, str], str] = field(default_factory=dict)  # (group, member) -> text

    @property
    def members(self) -> list[str]:
        """Members of all groups, sorted."""
        return sorted({m for members in self.groups.values() for m in members})

    def shared(self, member: str) -> bool:
        """Whether a member is in several groups."""
        return sum(member in members for members in self.groups.values()) > 1


def _equal(**groups: str) -> dict[str, dict[str, float]]:
    return {name.replace("_", " "): dict.fromkeys(m.split(), 1.6) for name, m in groups.items()}


PICTURES: dict[str, Memberships] = {
    "members_governments": Memberships(
        {
            "Cabinet 1": {"A": 3.6, "B": 1.0},
            "Cabinet 2": {"B": 1.2, "C": 2.8, "D": 0.8},
            "Cabinet 3": {"A": 2.8, "D": 1.8},
        },
        "governments", "parties", "days in office",
    ),
    "members_friends": Memberships(
        {
            "Ada": {"Ben": 3.0, "Cem": 1.2},
            "Eva": {"Cem": 3.0, "Dan": 2.0, "Finn": 1.0},
            "Gil": {"Finn": 3.0, "Ben": 1.4},
        },
        "pupils", "their friends", "test score",
        {("Ada", "Ben"): "1st", ("Ada", "Cem"): "2nd"},
    ),
    "members_companies": Memberships(
        {"Kim": {"X": 3.6}, "Lee": {"X": 1.0, "Y": 2.8}, "Max": {"Y": 2.0, "Z": 2.0}},
        "workers", "companies of the year", "pay",
        {("Lee", "X"): "¼", ("Lee", "Y"): "¾"},
    ),
    "members_papers": Memberships(
        _equal(Paper_1="Q R S", Paper_2="S T", Paper_3="R T U V"),
        "papers", "authors", "citations",
    ),
    "members_areas": Memberships(
        {
            "Area 1": {"2": 3.0, "3": 1.2},
            "Area 2": {"1": 3.0, "3": 2.2},
            "Area 3": {"2": 2.2, "1": 1.2, "4": 3.0},
        },
        "areas", "their neighbours", "rent",
    ),
    "members_nested": Memberships(
        _equal(Class_1="A B C", Class_2="D E", Class_3="F G H"),
        "classes", "pupils", "",
    ),
}  # fmt: skip


def draw(picture: Memberships) -> Any:
    """Groups above, members below, a line for each membership."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.1), layout="constrained")
    cell = figure.subplots()
    members, groups = picture.members, list(picture.groups)
    at = {member: (k + 0.5) / len(members) for k, member in enumerate(members)}
    over = {group: (k + 0.5) / len(groups) for k, group in enumerate(groups)}
    for group, lines in picture.groups.items():
        for member, width in lines.items():
            ends = ([at[member], over[group]], [0, 1])
            cell.plot(*ends, color=RULE, lw=width, zorder=1, solid_capstyle="round")
            if text := picture.labels.get((group, member)):
                middle = ((at[member] + over[group]) / 2, 0.5)
                box = {"fc": "white", "ec": "none", "pad": 1}
                cell.text(*middle, text, ha="center", va="center", color=INK, size=8, bbox=box)
    for member, x in at.items():
        filled = picture.shared(member)
        cell.plot(x, 0, "o", ms=19, mfc=MEMBER if filled else "white", mec=MEMBER, mew=1.5)
        ink = "white" if filled else INK
        cell.text(x, -0.005, member, ha="center", va="center", color=ink, size=7.5)
    for group, x in over.items():
        box = {"boxstyle": "round,pad=0.35", "fc": "#f2f2f2", "ec": INK, "lw": 1.0}
        cell.text(x, 1, group, ha="center", va="center", color=INK, size=9, bbox=box)
        if picture.outcome_word:
            words = {"ha": "center", "va": "center", "color": OUTCOME, "size": 8}
            cell.text(x, 1.33, picture.outcome_word, weight="bold", **words)
    side = {"ha": "right", "va": "center", "color": INK, "size": 8, "style": "italic"}
    cell.text(-0.02, 1, picture.group_word, **side)
    cell.text(-0.02, 0, picture.member_word.replace(" ", "\n", 1), **side)
    if picture.outcome_word:
        cell.text(-0.02, 1.33, "outcome", **side)
    cell.set(xlim=(-0.28, 1.02), ylim=(-0.3, 1.5))
    cell.axis("off")
    return figure


def first_fit() -> dict[str, Any]:
    """Figures of the fit in the README: its code is run, as printed."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Try it\n")[1]
    code = next(b.code for b in blocks(text) if b.language == "python")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  (our own documentation)
    fit = names["fit"]
    return {"first_fit": fit.plot("forest"), "first_weights": fit.plot_weights()}


def write_memberships(folder: Path = FOLDER) -> None:
    """Write the pictures of memberships as SVG."""
    for name, picture in PICTURES.items():
        with mpl.rc_context({**SETTINGS, "svg.hashsalt": name}):
            draw(picture).savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def write_first_fit(folder: Path = FOLDER) -> None:
    """Write the figures of the fit as PNG of few colours."""
    for name, figure in first_fit().items():
        drawn = BytesIO()
        figure.savefig(drawn, format="png", dpi=100)
        image = Image.open(drawn).convert("RGB")
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=32).save(
            folder / f"{name}.png", optimize=True
        )


if __name__ == "__main__":
    mpl.use("Agg")
    write_memberships()
    write_first_fit()
