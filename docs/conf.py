"""Sphinx's settings for the documentation site. `python docs/make_site.py` builds it."""

from __future__ import annotations

import re
from pathlib import Path

_PROJECT = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text()

project = "warploom"
author = "the warploom developers"
copyright = author
version = release = re.findall(r'^version = "(.*)"', _PROJECT, re.MULTILINE)[0]

extensions = ["myst_parser"]
root_doc = "index"
nitpicky = True
myst_heading_anchors = 4  # links to headings are those that GitHub makes
highlight_language = "none"  # of blocks that name none
suppress_warnings = ["myst.header"]  # a page may begin a list of entries at its second level

smartquotes = False  # what stands in quotes is code

html_theme = "furo"
html_title = "warploom"
html_theme_options = {"navigation_with_keys": True, "source_view_link": ""}
html_show_sphinx = False
html_copy_source = False
