"""How Sphinx makes the site; `heal_lib.site` calls it on a folder with these pages and the executed notebooks."""

import re

project, author, copyright = "HEAL, reconstructed", "the heal-lib authors", "the heal-lib authors, Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme, html_title, html_show_sphinx = "furo", "HEAL, reconstructed", False
html_extra_path, html_static_path, html_css_files = ["extra"], ["_static"], ["site.css"]
html_theme_options = {"navigation_with_keys": True}
nb_execution_mode = "off"  # outputs are those of results/<scale>
nb_ipywidgets_js = {}  # nothing is fetched at view time
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # tables among outputs; CommonMark has none
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
suppress_warnings = ["docutils", "myst.header", "mystnb.unknown_mime_type", "ref.python"]


def as_rst(app, what, name, obj, options, lines):
    """Docstrings are plain text with code in single backquotes: nothing else in them is markup."""
    parts = (re.split("`+", line) for line in lines)
    lines[:] = ["".join(f"``{part}``" if i % 2 and part else re.sub(r"([*|\\\\_])", r"\\\1", part)
                        for i, part in enumerate(row)) for row in parts]


def setup(app):
    app.connect("autodoc-process-docstring", as_rst)
