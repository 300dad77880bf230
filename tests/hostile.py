"""Labels from untrusted files, and what they must not become in pages, figures and tables."""

from __future__ import annotations

import csv
import io
import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

SCRIPT = "<script>alert(1)</script>"
LABELS = (
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "</svg><script>alert(2)</script>",
    "]]><script>",
    "{{ config }}{% raw %}",
    "$\\frac{$",
    "\\input{/etc/passwd}",
    "=1+1",
    "@SUM(A1)",
    "a\x1b[2Jb",
    "&lt;b&gt;",
    "-->",
    "größe ж",
    "x\ny",
)
_PIECES = (
    *LABELS, "'", '"', "`", "<", ">", "&", "&#60;", "<!--", "</style>", "</title>", "</table>",
    "<svg onload=alert(1)>", "<a href=javascript:alert(1)>", 'style="x:url(//evil)"', "<![CDATA[",
    "<?xml", "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>", "&e;",
    "\\write18{touch made}", "\\end{tabular}", "\\\\", "%", "#", "_", "^", "~", "$", "$$", "&amp",
    "=cmd|' /C calc'!A0", "+1", "-1", "\t=1", "\r=1", '",=1', "\n=1",
    "{wildcards.x}", "{params}", "{{", "}", "{0}", "%s", "$(touch made)", "`touch made`",
    "; touch made", "| touch made", "../../made", "/tmp/made", "~/made", "C:\\made", "CON",
    "\x00", "\x07", "\x08", "\x0b", "\x1b]0;t\x07", "\x7f", "\x85", "\x9b2J", "\r", "\n", "\t",
    "\u2028", "\u202e", "\u2066", "\u200f", "\ufeff", "\ufffe", "\uffff", "𝔵", "e\u0301",
    " ", ".", "..", "", "nan", "None", "0", "1e999",
)  # fmt: skip


def hostile_label(draw: random.Random, without: str = "") -> str:
    """One to three pieces in a row, and now and then 300 characters.

    Parameters
    ----------
    draw : random.Random
    without : str
        Characters that are dropped, such as those that the format cannot hold.
    """
    pieces = draw.choices(_PIECES, k=draw.randrange(1, 4))
    if draw.random() < 0.03:
        pieces.append(draw.choice("xж ") * 300)
    return "".join(c for c in "".join(pieces) if c not in without)


def hostile_labels(draw: random.Random, number: int, without: str = "") -> list[str]:
    """Some labels, all different, none empty."""
    found: dict[str, None] = {}
    while len(found) < number:
        found[hostile_label(draw, without) or "x"] = None
    return list(found)


#: Attributes that are shown, read aloud or part of the address of the page; they load nothing.
_TEXT = ("aria-label", "alt", "data-key", "data-label", "title")


class Elements(HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self, text: str = "") -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.pairs: set[tuple[str, str]] = set()
        self.code: list[str] = []
        self.odd: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.pairs |= {(tag, ""), *((tag, name) for name, _ in attrs)}
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.code.append(data)

    def handle_comment(self, data: str) -> None:
        self.odd.append(data)

    def handle_pi(self, data: str) -> None:
        self.odd.append(data)

    def unknown_decl(self, data: str) -> None:
        self.odd.append(data)

    @property
    def links(self) -> list[str]:
        """Addresses that the page leads to or loads."""
        names = ("href", "src", "xlink:href", "action")
        return [value for name, value in self.attributes if name in names]


def page_faults(text: str, harmless: Elements, pages: Iterable[str]) -> Iterator[str]:
    """What a page has that the same page with harmless labels does not have.

    Parameters
    ----------
    text : str
        Of the page.
    harmless : Elements
    pages : iterable of str
        That the page may lead to.
    """
    page = Elements(text)
    if more := page.pairs - harmless.pairs:
        yield f"elements or attributes: {sorted(more)[:3]}"
    if page.found.count("script") != harmless.found.count("script"):
        yield f"{page.found.count('script')} scripts"
    scripts = [code for code in page.code if "function" in code]
    if scripts != [code for code in harmless.code if "function" in code]:
        yield "another script"
    if page.odd and not harmless.odd:
        yield f"comments or declarations: {page.odd[0][:80]!r}"
    known = {"", *pages}
    if more_links := [link for link in page.links if link.partition("#")[0] not in known]:
        yield f"links: {more_links[:3]}"
    loading = (value for name, value in page.attributes if name not in _TEXT)
    if any("url(" in value.replace("url(#", "") for value in loading):
        yield "an address in an attribute"


#: Elements of figures.
_SVG = {"svg", "defs", "style", "g", "path", "use", "clipPath", "rect", "pattern", "image", "text",
        "tspan", "metadata", "marker", "RDF", "Work", "format", "type", "title", "agent",
        "creator", "Agent"}  # fmt: skip


def figure_faults(file: Path) -> Iterator[str]:
    """What an SVG file has that figures do not have."""
    try:
        tree = ElementTree.parse(file)
    except ElementTree.ParseError as error:
        yield f"{file.name} cannot be parsed: {error}"
        return
    tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
    if tags - _SVG:
        yield f"{file.name} has elements {tags - _SVG}"
    names = {name.rpartition("}")[2] for element in tree.iter() for name in element.attrib}
    if found := {name for name in names if name.startswith("on")}:
        yield f"{file.name} has attributes {found}"


def csv_faults(file: Path) -> Iterator[str]:
    """Cells that a spreadsheet would compute."""
    text = file.read_text(encoding="utf-8")
    for row in csv.reader(io.StringIO(text, newline="")):
        for cell in row:
            number = re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?|-?inf", cell)
            if not number and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
                yield f"{file.name} has the cell {cell[:80]!r}"


#: Commands in LaTeX tables.
_LATEX = {"begin", "end", "toprule", "midrule", "bottomrule", "addlinespace", "multicolumn",
          "textbackslash", "textless", "textgreater", "textbar", "textasciitilde",
          "textasciicircum", "textquotedbl", "alpha", "le", "times", "infty"}  # fmt: skip


def latex_faults(file: Path) -> Iterator[str]:
    """Commands and characters that tables do not have."""
    source = file.read_text(encoding="utf-8")
    if odd := [c for c in source if not (c.isprintable() or c == "\n")]:
        yield f"{file.name} has the character {odd[0]!r}"
    source = re.sub(r"^%.*$", "", source, flags=re.MULTILINE)
    if found := set(re.findall(r"\\([a-zA-Z]+)", source)) - _LATEX:
        yield f"{file.name} has commands {found}"
    if len(re.findall(r"\\begin\{tabular\}", source)) != 1:
        yield f"{file.name} is not one table"


def report_faults(folder: Path, harmless: Path) -> Iterator[str]:
    """What labels have become in a report.

    Parameters
    ----------
    folder : Path
        The report.
    harmless : Path
        The same report with harmless labels.
    """
    pages = ("index.html", "numbers.html")
    for name in pages:
        reference = Elements((harmless / name).read_text(encoding="utf-8"))
        text = (folder / name).read_text(encoding="utf-8")
        yield from (f"{name}: {fault}" for fault in page_faults(text, reference, pages))
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    if odd := [name for name in names if not re.fullmatch(r"[\w./-]{1,80}", name, re.ASCII)]:
        yield f"files: {odd[:3]}"
    checks = {".svg": figure_faults, ".csv": csv_faults, ".tex": latex_faults}
    for file in sorted(folder.rglob("*.*")):
        if check := checks.get(file.suffix):
            yield from check(file)
