"""The site: Sphinx reads the pages of this folder. `scripts/docs` builds it."""

project = "dvtool"
author = "the dvtool authors"
extensions = ["myst_parser", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "dvtool"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["reference/json.schema.json"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
myst_heading_anchors = 4
nitpicky = True
# Commands and code only: dashes and quotation marks stay as they are typed.
smartquotes = False
# A console block has commands and what they print; not all of it is a language.
highlight_language = "none"
# The button copies what is typed, and not what is printed.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
