"""The site: `make docs`. Its pages are the Markdown files of the repository, wherever they lie."""

import cmw_pipeline

project = "cmw-pipeline"
version = release = cmw_pipeline.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The source folder is the repository's root: links between pages are the same here and there.
root_doc = "docs/index"
include_patterns = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "results/*.md"]
exclude_patterns = [".*", "build", "tests", "workflow", "cmw_pipeline"]

myst_heading_anchors = 3
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings give shapes and dtypes
napoleon_use_ivar = True

html_theme = "furo"
html_show_copyright = False
html_title = "cmw-pipeline"
html_show_sourcelink = False
html_copy_source = False
html_additional_pages = {"index": "start.html"}
templates_path = ["."]
