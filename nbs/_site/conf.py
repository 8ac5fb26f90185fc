"Sphinx's settings for the pages of the book; `lla_course.course.site` puts the folders named here beside it."

from pathlib import Path

from lla_course.course.site import MYST, TITLE, jupyter_slug

project = html_title = TITLE
language = "en"
root_doc = "index"
exclude_patterns = ["files"]
extensions = ["myst_nb", "sphinx_copybutton", "notfound.extension", "lla_course.course.page_parts"]
suppress_warnings = ["config.cache"]  # a function among the settings cannot be stored

html_theme = "furo"
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["house.css"]
html_js_files = ["slider.js", "house.js"]
html_favicon = "static/icon.svg"
html_copy_source = html_show_sphinx = html_show_copyright = html_use_index = False

mathjax_path = "tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}}

myst_enable_extensions = [*MYST]
myst_heading_anchors = 3
myst_heading_slug_func = jupyter_slug

copybutton_selector = "div.cell_input div.highlight > pre, section > div[class*=highlight-] > div > pre"

notfound_context = {
    "title": "No page here",
    "body": (
        "<h1>No page here</h1><p>The address leads to no page of this book. The list of chapters is at the"
        " side, and the search above it knows every word of them.</p>"
    ),
}

add_module_names = False  # a page of the reference says once which module it is about
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

nb_execution_mode = "off"  # the runner has run the chapters already
nb_merge_streams = True
nb_output_stderr = "remove"
nb_render_markdown_format = "myst"

references = Path(__file__).parent / "source" / "references.bib"
if references.is_file():
    from pybtex.plugin import register_plugin
    from pybtex.richtext import HRef, Text
    from pybtex.style.formatting.plain import Style

    class LeadsBack(Style):
        "BibTeX's plain style; each entry ends with links to the pages that cite it."

        def format_entry(self, label, entry, bib_data=None):
            done = super().format_entry(label, entry, bib_data)
            pages = entry.fields.get("cited", "").split()
            links = [HRef(f"{page}.html", page.split("_")[0]) for page in pages]
            if links:
                done.text = Text(done.text, " Cited in ", Text(", ").join(links), ".")
            return done

    register_plugin("pybtex.style.formatting", "leads_back", LeadsBack)
    extensions.append("sphinxcontrib.bibtex")
    bibtex_bibfiles = [str(references)]
    bibtex_default_style = "leads_back"
