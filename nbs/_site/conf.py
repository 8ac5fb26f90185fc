"Sphinx's settings for the pages of the book; `lla_course.course.site` puts the folders named here beside it."

from lla_course.course.site import MYST, TITLE, jupyter_slug

project = html_title = TITLE
language = "en"
root_doc = "index"
exclude_patterns = ["files"]
extensions = ["myst_nb"]
suppress_warnings = ["config.cache"]  # a function among the settings cannot be stored

html_theme = "furo"
pygments_style = "tango"
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["house.css"]
html_js_files = ["house.js"]
html_favicon = "static/icon.svg"
html_copy_source = html_show_sphinx = html_show_copyright = html_use_index = False

mathjax_path = "tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}}

myst_enable_extensions = [*MYST]
myst_heading_anchors = 3
myst_heading_slug_func = jupyter_slug

nb_execution_mode = "off"  # the runner has run the chapters already
nb_merge_streams = True
nb_output_stderr = "remove"
nb_render_markdown_format = "myst"
