"""The pages as a site: python -m sphinx -W -b html docs site."""

project = "cascade_jax"
extensions = ["myst_parser"]
root_doc = "index"
source_suffix = {".md": "markdown"}
exclude_patterns = ["notebooks/*"]
html_theme = "furo"
html_title = "cascade_jax"
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files beside the pages, such as ../launch/configs/default.py
