"The labs in a real JupyterLab: run all cells, press a slider's arrow key, and see the figure change."

import json
import re
import shutil

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("lab")]
for package in ("jupyterlab", "anywidget", "ipywidgets"):
    pytest.importorskip(package)
nbformat = pytest.importorskip("nbformat")

from labs import DATA, KERNEL, LABS, STORED, jupyterlab, limit, move_all, move_first_slider, run_all, until

from lla_course.core import repo_root

BENCHES = re.compile(r'^    "(\w+_lab\(\))"$', re.M)  # a cell that is a live figure

TINY = """
from lla_course.figures import add_curve, add_points, canvas, live, slider
def draw(k):
    fig = canvas("x", f"height {k}", alt="A line rises from left to right, steeper with each step.")
    add_curve(fig, [1, 2, 3], [k, 2 * k, 3 * k], "lla", dash=[None, "dot"][k % 2])
    if k % 2:
        fig.update_xaxes(range=[0, 10 * k]).update_layout(title_text=f"title {k}")
        fig.add_annotation(text="odd", x=1, y=1)
        add_points(fig, [1, 2], [k, k], name="points")
    return fig
live(draw, k=slider("k", 0, 0, 9, 1))"""
WHOLE = """(() => {
    const g = document.querySelector('.jupyter-widgets .js-plotly-plot, .jupyter-widgets.js-plotly-plot');
    const l = g._fullLayout;
    return [l.yaxis.title.text,
            g.querySelector('.gtitle')?.textContent || '', g._fullData[0].line.dash, g._fullData.length,
            l.xaxis.range[1] > 5, (l.annotations || []).length]; })()"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with jupyterlab(tmp_path_factory.mktemp("lab")) as served:
        yield served


def write_tiny(path):
    cell = nbformat.v4.new_code_cell(TINY)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": KERNEL}), path)


def test_all_of_a_live_figure_follows_its_slider(lab, page):
    "Ranges, titles, dashes, annotations and traces come and go on the screen."
    write_tiny(lab[2] / "whole.ipynb")
    run_all(page, lab, "whole.ipynb")
    page.wait_for_function(f"{DATA} !== '[]' && document.querySelector('.noUi-handle')", timeout=60_000)
    handle = page.locator(".noUi-handle").first
    for k, key in (0, None), (1, "ArrowRight"), (2, "ArrowRight"), (3, "ArrowRight"), (2, "ArrowLeft"):
        odd = k % 2
        expected = [f"height {k}", f"title {k}" * odd, "dot" if odd else "solid", 1 + odd, bool(odd), odd]
        if key:
            handle.focus()
            page.keyboard.press(key)
        until(
            lambda expected=expected: page.evaluate(WHOLE) == expected,
            30,
            lambda expected=expected: f"{page.evaluate(WHOLE)} is not {expected}",
        )
    assert not page.complaints


def test_a_slider_moves_the_figure(lab, page):
    write_tiny(lab[2] / "tiny.ipynb")
    run_all(page, lab, "tiny.ipynb")
    page.wait_for_function(f"{DATA} !== '[]' && document.querySelector('.noUi-handle')", timeout=60_000)
    move_first_slider(page)


def test_every_control_was_in_time():
    "The stored table: the fastest of a few steps to new values, on a machine that others use too."
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert sorted(set(stored) - {"date", "machine", "load", "meaning"}) == [path.stem for path in LABS]
    late = {
        (path.stem, bench, name): min(took)
        for path in LABS
        for bench, name, took in stored[path.stem]
        if min(took) > limit(path.stem, bench)
    }
    assert late == {}


@pytest.mark.parametrize("source", LABS, ids=lambda path: path.stem)
def test_every_control_moves_its_figure(source, lab, page):
    for path in source, repo_root() / "nbs" / "pictures" / f"{source.stem}.png":
        target = lab[2] / path.relative_to(repo_root() / "nbs")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    moved = {(bench, name): seconds for bench, name, seconds in move_all(page, lab, source)}
    assert [where for where, seconds in moved.items() if not seconds] == []
    stored = json.loads(STORED.read_text(encoding="utf-8"))[source.stem]
    assert set(moved) == {(bench, name) for bench, name, _ in stored}, "make lab-times measures them"
    assert {bench for bench, _ in moved} == set(range(len(BENCHES.findall(source.read_text()))))
    own = f"failed: {lab[0]}/lab/tree/pictures/"  # where JupyterLab looks first for a picture
    assert [said for said in page.complaints if not said.startswith(own)] == []
