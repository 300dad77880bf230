"""Sphinx builds the documentation from this folder: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `site_parts`, our extensions

import rmm

project = "rmm"
author = "The rmm authors"
copyright = "The rmm authors, MIT"
version = release = rmm.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "site_parts.mathml",
    "site_parts.generated",
    "site_parts.references",
    "site_parts.scrolling",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["site_parts"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4

default_role = "py:obj"
add_module_names = False
autodoc_typehints = "none"  # docstrings describe types in words
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True  # fields of data classes are attributes, too
napoleon_use_rtype = False
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = "rmm"
html_context = {"default_mode": "auto"}  # light or dark, as in the system settings
html_math_renderer = "mathml"
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_domain_indices = False  # the index has all names
html_show_sourcelink = False
html_sidebars = {"index": [], "benchmarks": []}  # pages without siblings
html_theme_options = {
    "logo": {"text": "rmm"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}
