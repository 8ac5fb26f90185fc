"The slides of Part 1 in a browser: each is turned, figures are drawn at their width, and nothing is fetched."

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("slides")]
pytest.importorskip("sphinx_revealjs", reason="needs the extra teach")

from lla_course.course.site import read_notebook
from lla_course.course.slides import deck, part_chapters, tagged, write_slides

TURN = """async count => {
  const seen = [];
  for (let i = 0; i < count; i++) {
    Reveal.slide(i);
    await new Promise(done => setTimeout(done, 250));
    const slide = Reveal.getCurrentSlide();
    const plots = [...slide.querySelectorAll('.js-plotly-plot')];
    seen.push({high: slide.scrollHeight, wide: slide.scrollWidth,
      plots: plots.map(p => p.querySelector('.main-svg').getBoundingClientRect().width),
      slides: !!slide.querySelector('.figure-slider input'),
      text: slide.innerText.length, raw: /\\\\$[^$]*\\\\$/.test(slide.innerText)});
  }
  return seen;
}"""
MOVE = """async () => {
  const slide = Reveal.getCurrentSlide(), plot = slide.querySelector('.js-plotly-plot');
  const state = () => JSON.stringify(plot.data.map(t => [t.visible, t.y, t.z]));
  const before = state(), input = slide.querySelector('.figure-slider input');
  input.value = Number(input.value) === Number(input.max) ? 0 : input.max;
  input.dispatchEvent(new Event('input', {bubbles: true}));
  await new Promise(done => setTimeout(done, 500));
  return before !== state();
}"""


def test_part_1_is_shown_without_a_network(executed, page, tmp_path):
    books = [(chapter, read_notebook(executed(chapter).output)) for chapter in part_chapters("1")]
    count = 1 + sum(begins for _, book in books for begins, _, _ in tagged(book))
    out = write_slides(tmp_path / "out", {"1": deck("1", books)})
    page.goto((out / "part-1.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady() && window.MathJax && MathJax.startup")
    page.evaluate("MathJax.startup.promise")
    assert page.evaluate("Reveal.getTotalSlides()") == count and 30 <= count <= 40
    seen = page.evaluate(TURN, count)
    assert not [s for s in seen if s["high"] > 700 or s["wide"] > 970], "all fits"
    assert all(s["text"] > 10 and not s["raw"] for s in seen)
    widths = [w for s in seen for w in s["plots"]]
    figures = sum(kind == "figure" for _, book in books for _, kind, _ in tagged(book))
    assert len(widths) >= figures - 2 and min(widths) > 500, "a table or two are no figures"
    at = next(i for i, s in enumerate(seen) if s["slides"])
    page.evaluate(f"Reveal.slide({at})")
    assert page.evaluate(MOVE), "a slider moves its figure"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.getState().indexh") == at + 1
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
