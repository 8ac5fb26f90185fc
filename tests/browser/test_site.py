"""The static site, driven as a reader would: formulas appear, sliders move without a kernel, links lead on,
and nothing is fetched from elsewhere."""

import json
import shutil
import threading
import time
from base64 import b64decode
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import numpy as np
import pytest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("site"),  # one worker builds the pages, another has the laboratory
    pytest.mark.filterwarnings("ignore:.*MystReferenceResolver"),
]
go = pytest.importorskip("plotly.graph_objects")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("myst_nb")
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lla_course.core import repo_root
from lla_course.course.runner import find_chapters
from lla_course.course.site import (
    PLOTLY,
    WIDGET,
    broken_links,
    build_site,
    figure_mark,
    lighten,
    picture_mark,
)

MATH = r"""# Averages

> What this chapter lets you do.

With $q_i$ and scale * q_i, scale * q_j, and $\alpha_{ij}$ we have

$$ \hat f(x) = \sum_i \boldsymbol{w}_i y_i $$

\begin{align} a &= b \\ c &= d \end{align}

It costs $5. See [the next one](11_second.ipynb) and [its end](11_second.ipynb#The-last-word)."""


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SVG = "data:image/svg+xml," + quote("<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>")


def slider_figure():
    ys = {k: [k * x**2 for x in range(6)] for k in (1, 2, 3, 4)}
    steps = [
        dict(
            method="animate",
            label=str(k),
            args=[
                [str(k)],
                dict(mode="immediate", frame=dict(duration=0, redraw=True), transition=dict(duration=0)),
            ],
        )
        for k in ys
    ]
    fig = go.Figure(
        go.Scatter(y=ys[2]), frames=[go.Frame(name=str(k), data=[go.Scatter(y=y)]) for k, y in ys.items()]
    )
    return fig.update_layout(width=2000, sliders=[dict(active=1, steps=steps)])


def shown(source, data):
    return new_code_cell(source, outputs=[new_output("display_data", data)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    first = [
        new_code_cell("#| default_exp regression.first"),
        new_markdown_cell(MATH),
        new_code_cell("seed = 0", metadata={"tags": ["parameters"]}),
        new_code_cell("injected = 1", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("#| hide\nsecret = 1"),
        new_code_cell("#| export\ndef average(x): return x.mean()"),
        shown("#| picture\nfigure", {PLOTLY: json.loads(slider_figure().to_json()), "text/plain": "Figure"}),
        shown("lab()", {WIDGET: {"model_id": "1"}, "text/plain": "VBox()"}),
        shown("wide", {"text/plain": "x" * 400}),
        new_markdown_cell("## A heading\n\nIt gives the page its column at the right."),
    ]
    second = [
        new_markdown_cell("# Second\n\nBack to [averages](10_first.ipynb).\n\n## The last word\n\nbandwidth")
    ]
    for name, cells in dict(first=first, second=second).items():
        nbformat.write(new_notebook(cells=cells), folder / f"{10 + (name == 'second')}_{name}.ipynb")
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Tools")]), folder / "00_tools.ipynb")
    return folder


@pytest.fixture(scope="module")
def site(runs, tmp_path_factory):
    return build_site(runs, tmp_path_factory.mktemp("built") / "site").parent


@pytest.fixture(params=["file", "http"])
def base(request, site):
    "The address of the small site: opened from the folder, and served."
    if request.param == "file":
        yield site.as_uri()
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SilentHandler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


DRAWN = """n => {
    const figure = document.querySelectorAll('.js-plotly-plot')[n];
    const layers = figure.querySelectorAll('.cartesianlayer, .polarlayer, .ternarylayer, .annotation');
    const numbers = figure._fullData.map(t =>
        ['x', 'y', 'z', 'a', 'b', 'c'].map(k => Array.from(t[k] || []).flat().slice(0, 200)));
    return [...layers].map(e => e.outerHTML).join('') + JSON.stringify(numbers);
}"""


# no frame waits or plays, and three pictures in a row are the same
AT_REST = f"""async n => {{
    const figure = document.querySelectorAll('.js-plotly-plot')[n], moves = figure._transitionData;
    const drawing = {DRAWN};
    let before = null;
    for (let alike = 0; alike < 3;) {{
        await new Promise(requestAnimationFrame);
        const now = (moves._frameQueue || []).length || moves._animationRaf ? null : drawing(n);
        alike = now !== null && now === before ? alike + 1 : 0;
        before = now;
    }}
    return before;
}}"""


def drawn(page, nth=0):
    "What a figure shows when it has come to rest."
    return page.evaluate(AT_REST, nth)


def until_equal(look, expected, seconds=10):
    "Look until it is what we expect; the last look is the one that is reported."
    end = time.monotonic() + seconds
    while (seen := look()) != expected and time.monotonic() < end:
        time.sleep(0.02)
    assert seen == expected


def with_sliders(page):
    return page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].map((g, i) =>"
        " g.closest('.figure-card').querySelector('input[type=range]') ? i : -1).filter(i => i >= 0)"
    )


def drag(page, nth=0):
    "Pull the slider to its left end and then to the right end; returns the drawings seen."
    figure = page.locator(".js-plotly-plot").nth(nth)
    card = figure.locator("xpath=ancestor::*[contains(concat(' ', @class, ' '), ' figure-card ')][1]")
    slider = card.locator("input[type=range]")
    slider.scroll_into_view_if_needed()
    seen = [drawn(page, nth)]
    for end, last in (("min", 0.01), ("max", 0.99)):
        rail = slider.bounding_box()
        at, last_step = int(slider.input_value()), int(slider.get_attribute("max"))
        where = lambda part, rail=rail: rail["x"] + 8 + part * (rail["width"] - 16)
        page.mouse.move(where(at / last_step), rail["y"] + rail["height"] / 2)
        page.mouse.down()
        page.mouse.move(where(last), rail["y"] + rail["height"] / 2, steps=5)
        page.mouse.up()
        assert slider.input_value() == slider.get_attribute(end)
        seen.append(drawn(page, nth))
    return seen


def settle(page, address):
    page.goto(address, wait_until="load")
    page.wait_for_function("!document.querySelector('.math') || document.querySelector('mjx-container svg')")
    page.wait_for_function("[...document.querySelectorAll('.plotly-graph-div')].every(g => g._fullLayout)")


def assert_quiet(page, base):
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith((base, "data:", "blob:"))] == []


def test_formulas_are_set_and_stars_stay_stars(page, base):
    settle(page, f"{base}/10_first.html")
    assert page.locator("mjx-container").count() == 4
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    text = page.inner_text("article")
    assert "scale * q_i, scale * q_j" in text and "It costs $5." in text
    assert_quiet(page, base)


def test_slider_moves_without_a_kernel(page, base):
    settle(page, f"{base}/10_first.html")
    curve = "Array.from(document.querySelector('.js-plotly-plot')._fullData[0].y)"
    page.wait_for_function("document.querySelector('.js-plotly-plot')._transitionData._frames.length === 4")
    drawn(page)
    assert page.evaluate(curve) == [2 * x**2 for x in range(6)], "the figure started by itself"
    assert len({*drag(page)}) == 3, "the slider did not move the curve"
    assert page.evaluate(curve) == [4 * x**2 for x in range(6)]
    assert_quiet(page, base)


def test_a_slider_takes_keys_and_says_its_value(page, base):
    settle(page, f"{base}/10_first.html")
    drawn(page)
    curve = "Array.from(document.querySelector('.js-plotly-plot')._fullData[0].y)[1]"
    slider = page.get_by_role("slider", name="position")
    slider.focus()
    for key, k in (("ArrowRight", 3), ("End", 4), ("ArrowRight", 4), ("Home", 1)):
        page.keyboard.press(key)
        until_equal(lambda: page.evaluate(f"[{curve}, document.activeElement.type]"), [k, "range"])
        assert slider.get_attribute("aria-valuetext") == page.inner_text("output") == str(k)
    assert_quiet(page, base)


def test_code_is_copied_at_the_press_of_a_button(page, base):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    settle(page, f"{base}/10_first.html")
    cell = page.locator("div.cell_input", has_text="def average")
    cell.hover()
    cell.get_by_role("button", name="Copy to clipboard").click()
    if base.startswith("http"):  # a page of a folder may write to the clipboard, but not read it
        until_equal(
            lambda: page.evaluate("navigator.clipboard.readText()"), "def average(x): return x.mean()"
        )
    assert page.locator("div.cell_output button.copybtn").count() == 0
    assert_quiet(page, base)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_keeps_a_reader_out_of_the_small_site(page, site, barriers, width):
    page.set_viewport_size({"width": width, "height": 900})
    found = {}
    for path in sorted(site.rglob("*.html")):
        if path.stem != "404" and "_static" not in path.parts:
            settle(page, path.as_uri())
            found |= {path.stem: seen} if (seen := barriers(page)) else {}
    assert found == {}


def test_axe_finds_what_is_wrong(page, barriers, tmp_path):
    "The check itself: a picture without words, pale letters, a slider without a name."
    bad = "<img src='data:,'><p style='color: #ccc'>pale</p><input type=range>"
    (tmp_path / "bad.html").write_text(
        f"<!doctype html><html lang=en><title>t</title><main>{bad}</main></html>"
    )
    page.goto((tmp_path / "bad.html").as_uri())
    assert {rule for _, rule, *_ in barriers(page)} >= {"image-alt", "color-contrast", "label"}


def test_a_lost_reader_is_led_back(page, site, tmp_path, barriers):
    "The page for addresses that lead nowhere: served from below the root, as a host of pages does."
    shutil.copytree(site, tmp_path / "home")

    class Lost(SilentHandler):
        def send_error(self, code, *args):
            body = (tmp_path / "home" / "404.html").read_bytes()
            self.send_response(code)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Lost, directory=str(tmp_path / "home")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page.goto(f"http://127.0.0.1:{server.server_port}/deep/down/gone.html")
        assert page.inner_text("h1") == "No page here"
        assert page.evaluate("getComputedStyle(document.querySelector('.sidebar-tree .caption')).display")
        assert len(page.complaints) == 2 and all("404" in text for text in page.complaints)
        assert barriers(page) == []
        page.locator(".sidebar-tree").get_by_role("link", name="11 Second").click()
        page.wait_for_url("**/11_second.html")
    finally:
        server.shutdown()
        server.server_close()


def test_paper_shows_the_text_alone(page, site):
    settle(page, f"{site.as_uri()}/10_first.html")
    page.emulate_media(media="print")
    gone = (".sidebar-drawer", ".chapter-links", ".figure-slider input", ".copybtn", ".related-pages")
    assert [part for part in gone if page.locator(part).first.is_visible()] == []
    assert page.locator(".js-plotly-plot").first.is_visible() and page.locator("h1").is_visible()


def test_links_lead_from_page_to_page(page, base):
    settle(page, f"{base}/10_first.html")
    page.get_by_role("link", name="its end").click()
    page.wait_for_url("**/11_second.html#*")
    assert page.evaluate("document.querySelector(':target').innerText").startswith("The last word")
    page.get_by_role("link", name="averages", exact=True).click()
    page.wait_for_url("**/10_first.html")
    assert_quiet(page, base)


def test_widgets_and_directives(page, base):
    settle(page, f"{base}/10_first.html")
    assert "make lab" in page.inner_text(".widget-note")
    text = page.inner_text("article")
    for gone in ("#|", "default_exp", "injected", "secret"):
        assert gone not in text
    assert "seed = 0" in text and "def average" in text
    mark = page.evaluate(
        "getComputedStyle(document.querySelector('.tag_exported .cell_input'), '::before').content"
    )
    assert "lla_course.regression.first" in mark
    assert page.locator(".tag_picture .js-plotly-plot").count() == 1  # the figure for the README


def test_parts_in_the_sidebar(page, base):
    page.goto(f"{base}/index.html")
    assert page.locator(".sidebar-tree .caption-text").all_inner_texts() in (
        ["PART 1 REGRESSION", "REFERENCE", "THE WORKSHOP"],
        ["Part 1 Regression", "Reference", "The workshop"],
    )
    assert page.locator(".sidebar-tree a").all_inner_texts() == [
        "10 Averages",
        "11 Second",
        "Reference",
        "00 Tools",
    ]


def test_search_needs_no_server(page, base):
    page.goto(f"{base}/search.html?q=bandwidth")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").first.inner_text() == "Second"
    page.wait_for_load_state("networkidle")
    assert_quiet(page, base)


@pytest.mark.parametrize("width", [1920, 1600, 1366, 1280, 800, 400])
def test_no_sideways_scrolling(page, site, width):
    page.set_viewport_size({"width": width, "height": 900})
    settle(page, f"{site.as_uri()}/10_first.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('.js-plotly-plot').getBoundingClientRect().right") <= width


FIT = """[...document.querySelectorAll('.js-plotly-plot')]
    .map((g, i) => [i, g._fullLayout.width, g.parentElement.clientWidth])
    .filter(([i, drawn, there]) => Math.abs(drawn - there) > 1)"""


@pytest.mark.parametrize("width", [1920, 1600, 1380, 1280, 800])
def test_figures_are_as_wide_as_their_place(page, site, width):
    "plotly draws while the page is read, before the column at the right exists."
    page.set_viewport_size({"width": width, "height": 900})
    settle(page, f"{site.as_uri()}/10_first.html")
    assert page.locator(".toc-drawer").count() == 1
    until_equal(lambda: page.evaluate(FIT), [])  # figure, width drawn, width of its place
    assert page.evaluate("document.querySelector('.js-plotly-plot')._fullLayout.height") == 450
    assert len({*drag(page)}) == 3, "the slider did not move the curve"


@pytest.mark.parametrize("width, height", [(390, 700), (1280, 450)])
def test_a_narrow_page_changes_what_the_figure_says(page, tmp_path, width, height):
    fig = slider_figure().update_layout(meta={"narrow": {"height": 700, "yaxis.domain": [0.5, 1]}})
    cells = [new_markdown_cell("# One"), shown("figure", {PLOTLY: json.loads(fig.to_json())})]
    (tmp_path / "runs").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "runs" / "10_one.ipynb")
    page.set_viewport_size({"width": width, "height": 900})
    settle(page, build_site(tmp_path / "runs", tmp_path / "site").with_name("10_one.html").as_uri())
    look = """(() => { const g = document.querySelector('.js-plotly-plot');
        return [g._fullLayout.height, g.parentElement.clientHeight, g._fullLayout.yaxis.domain[0]] })()"""
    until_equal(lambda: page.evaluate(look), [height, height, 0.5 if width == 390 else 0])


@pytest.mark.parametrize("width", [390, 1280])
def test_a_figure_that_asks_for_room_is_moved_sideways_on_a_narrow_page(page, tmp_path, width):
    said = "A line that rises slowly, above a long row of words."
    meta = {"alt": said, "narrow": {"width": 700, "dragmode": False}}
    cells = [
        new_markdown_cell("# One"),
        shown("figure", {PLOTLY: json.loads(slider_figure().update_layout(meta=meta).to_json())}),
    ]
    (tmp_path / "runs").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "runs" / "10_one.ipynb")
    page.set_viewport_size({"width": width, "height": 900})
    settle(page, build_site(tmp_path / "runs", tmp_path / "site").with_name("10_one.html").as_uri())
    look = """(() => { const g = document.querySelector('.js-plotly-plot'), box = g.closest('[role=img]');
        return [g._fullLayout.width === 700, box.scrollWidth > box.clientWidth,
            document.querySelector('figcaption').clientWidth <= innerWidth,
            document.documentElement.scrollWidth <= innerWidth] })()"""
    narrow = width == 390
    until_equal(lambda: page.evaluate(look), [narrow, narrow, True, True])


def test_a_page_without_figures_does_not_load_plotly(page, site):
    settle(page, f"{site.as_uri()}/11_second.html")
    assert not [url for url in page.requests if "plotly" in url]


def test_small_and_complete(site):
    size = sum(f.stat().st_size for f in site.rglob("*") if f.is_file())
    assert size < 9e6
    assert [p.name for p in site.parent.iterdir()] == ["site"], "the build left something behind"
    for word in ("cdn.", "googleapis", "unpkg", "fontawesome"):
        assert [p.name for p in site.glob("*.html") if word in p.read_text()] == []


def test_pictures_in_prose_are_shown(tmp_path, page):
    "Pasted into a cell, written out, lying beside; opened from a folder."
    text = f"# P\n\n![a](attachment:plot.png) ![b](pic.png) ![c](data:image/png;base64,{PNG}) ![d]({SVG})"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pic.png").write_bytes(b64decode(PNG))
    cells = [new_markdown_cell(text + " <img src='pic.png'>", attachments={"plot.png": {"image/png": PNG}})]
    nbformat.write(new_notebook(cells=cells), tmp_path / "runs" / "10 #1 ü.ipynb")
    site = build_site(tmp_path / "runs", tmp_path / "site").parent
    page.goto((site / "index.html").as_uri())
    page.locator(".sidebar-tree").get_by_role("link", name="10 P").click()
    page.wait_for_selector("article img")
    widths = "[...document.querySelectorAll('article img')].map(i => i.complete && i.naturalWidth)"
    assert page.evaluate(widths) == [1, 1, 1, 8, 1]
    assert_quiet(page, site.as_uri())


def test_a_dead_link_stops_the_build_and_keeps_the_old_site(runs, tmp_path):
    out = build_site(runs, tmp_path / "site").parent
    before = (out / "10_first.html").read_bytes()
    other = tmp_path / "runs"
    other.mkdir()
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("# One\n\n[gone](77_gone.ipynb)")]), other / "10_one.ipynb"
    )
    with pytest.raises(ValueError, match="10_one.ipynb links to 77_gone.ipynb"):
        build_site(other, out)
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("# One\n\n[gone](10_one.ipynb#Nowhere)")]),
        other / "10_one.ipynb",
    )
    with pytest.raises(ValueError, match="10_one.ipynb.*Nowhere"):
        build_site(other, out)
    assert (out / "10_first.html").read_bytes() == before


def test_strange_folders_are_refused(runs, tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(ValueError, match="out="):
        build_site(runs, tmp_path)
    with pytest.raises(ValueError, match="runs="):
        build_site(tmp_path, tmp_path / "site")
    assert (tmp_path / "precious").read_text() == "mine"


def test_an_index_notebook_is_the_front_page(runs, tmp_path, page):
    folder = tmp_path / "runs"
    folder.mkdir()
    for path in runs.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("# The book\n\n- [Averages](10_first.ipynb)")]),
        folder / "index.ipynb",
    )
    page.goto(build_site(folder, tmp_path / "site").as_uri())
    assert page.inner_text("h1").startswith("The book")
    page.locator("article").get_by_role("link", name="Averages").click()
    page.wait_for_url("**/10_first.html")


def test_lightening_changes_nothing_visible():
    figure = json.loads(
        go.Figure(go.Scatter(x=np.linspace(0, 1, 100), y=np.exp(-(np.linspace(0, 50, 100) ** 2)))).to_json()
    )
    light = lighten(figure)
    assert light["data"][0]["x"]["dtype"] == light["data"][0]["y"]["dtype"] == "f4"
    large = json.loads(go.Figure(go.Scatter(y=np.array([1e60, 1.0]))).to_json())
    assert lighten(large) == large
    packed = lambda values: json.loads(go.Figure(go.Heatmap(z=np.array(values))).to_json())
    assert lighten(packed([[-1.0, 0.0], [1.0, 127.0]])) == packed(np.array([[-1, 0], [1, 127]], "i1"))
    for wide in ([[0.0, 128.0]], [[0.0, np.nan]], [[0.0, 0.5]]):
        assert lighten(packed(wide))["data"][0]["z"]["dtype"] == "f4"


def test_code_spans_are_not_links():
    notebook = new_notebook(
        cells=[new_markdown_cell("`[x](77_gone.ipynb)`\n\n```\n[x](78_gone.ipynb)\n```\n[y](1_a.ipynb#b)")]
    )
    assert broken_links({"0_x": notebook}) == ["0_x.ipynb links to 1_a.ipynb"]


# -- the real book
# -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book(executed, tmp_path_factory):
    "The whole book at preset fast, built as a reader gets it."
    outcomes = [executed(chapter) for chapter in find_chapters()]
    assert not (failed := [o.chapter.stem for o in outcomes if o.state == "failed"]), failed
    out = tmp_path_factory.mktemp("book") / "site"
    return build_site(outcomes[0].output.parent, out, folder=repo_root() / "nbs").parent


def test_every_page_of_the_book_opens_quietly_and_its_sliders_move(book, page):
    stuck, base = [], book.as_uri()
    for chapter in sorted(book.glob("*.html")):
        if chapter.stem in ("search", "genindex", "404"):
            continue
        assert chapter.stat().st_size <= 1e6, f"{chapter.name} weighs {chapter.stat().st_size:,} bytes"
        settle(page, chapter.as_uri())
        assert page.complaints == [], chapter.name
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0, (
            f"{chapter.name}: a formula that MathJax cannot read"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280, (
            f"{chapter.name} scrolls sideways"
        )
        for nth in with_sliders(page):
            if len({*drag(page, nth)}) < 2:
                stuck.append(f"{chapter.name}: figure {nth}")
    assert stuck == []
    assert_quiet(page, base)


FIGURES = """[...document.querySelectorAll('.js-plotly-plot')]
    .map(g => g.closest('[role=img]')?.getAttribute('aria-label') || '')"""


def test_nothing_keeps_a_reader_out_of_the_book(book, page, barriers):
    "axe-core on every page, and words for every figure."
    found = {}
    for path in sorted(book.glob("*.html")) + sorted((book / "reference").glob("*.html")):
        if path.stem == "404":
            continue
        settle(page, path.as_uri())
        seen = barriers(page)
        seen += [words for words in page.evaluate(FIGURES) if len(words.split()) < 8]
        found |= {path.stem: seen} if seen else {}
    assert found == {}


def test_the_front_page_moves_and_leads_to_each_part(book, page):
    settle(page, (book / "index.html").as_uri())
    assert with_sliders(page) == [0] and len({*drag(page)}) >= 2  # it opens at one end
    cards = page.locator("a.card")
    assert cards.count() == 6
    assert page.evaluate(
        "[...document.querySelectorAll('.card img')].every(i => i.complete && i.naturalWidth && i.alt)"
    )
    for text in cards.all_inner_texts():
        assert "chapters, about" in text
    cards.nth(2).click()
    page.wait_for_url("**/30_models.html")
    assert_quiet(page, book.as_uri())


def test_every_picture_is_of_todays_figure(book, page):
    "What GitHub shows under a title is the figure that the page shows: `make pictures` takes it anew."
    old = {}
    for picture in sorted((repo_root() / "nbs" / "pictures").glob("[1-8]*.png")):
        page.goto((book / f"{picture.stem}.html").as_uri())
        marked, every = page.locator(".tag_picture .js-plotly-plot"), page.locator(".js-plotly-plot")
        assert page.locator("article img[src*=pictures]").count() == 0
        mark = figure_mark((marked if marked.count() else every).first)
        if picture_mark(picture.read_bytes()) != mark:
            old[picture.name] = mark
    assert old == {}
