"The labs in a real JupyterLab: run all cells, press a slider's arrow key, and see the figure change."

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("lab")]
for package in ("jupyterlab", "anywidget", "ipywidgets"):
    pytest.importorskip(package)
nbformat = pytest.importorskip("nbformat")

from lla_course.core import repo_root

LABS = sorted((repo_root() / "nbs").glob("[1-8]9_*lab.ipynb"))
# without it JupyterLab asks, in a dialog
KERNEL = {"name": "python3", "display_name": "python3", "language": "python"}
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
DATA = """JSON.stringify([...document.querySelectorAll(
        '.jupyter-widgets .js-plotly-plot, .jupyter-widgets.js-plotly-plot')]
    .map(g => g._fullData.map(t => ['x', 'y', 'z'].map(k => Array.from(t[k] || []).flat()))))"""
PLAIN = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab of our own on the loopback: private settings, no news, no update check.

    Yields its address, token and folder."""
    home, token = tmp_path_factory.mktemp("lab"), secrets.token_hex(16)
    for plugin, values in PLAIN.items():
        path = home / "settings" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    (home / "work").mkdir()
    port = free_port()
    folders = {f"JUPYTER_{n}_DIR": home / n.lower() for n in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "IPYTHONDIR": home / "ipython",
    }
    env = {
        **os.environ,
        **{k: str(v) for k, v in folders.items()},
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(repo_root()),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={home / 'work'}",
        "--ServerApp.terminals_enabled=False",
        "--LabApp.extension_manager=readonly",
    ]
    with open(home / "log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=home)
    address = f"http://127.0.0.1:{port}"
    try:
        until(
            lambda: server.poll() is not None or sessions(address, token) is not None,
            60,
            "JupyterLab did not start",
        )
        assert server.poll() is None, (home / "log").read_text()[-2000:]
        yield address, token, home / "work"
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def sessions(address, token):
    try:
        return json.loads(urlopen(f"{address}/api/sessions?token={token}", timeout=5).read())
    except OSError:
        return None


def until(true, seconds, complaint):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, complaint() if callable(complaint) else complaint
        time.sleep(0.2)


def kernel_is_idle(page, address, name):
    "The page's own light says idle too early; the server knows, and who looks at the page may ask it."
    return any(
        s["path"] == name and s["kernel"]["connections"] > 0 and s["kernel"]["execution_state"] == "idle"
        for s in page.request.get(f"{address}/api/sessions").json()
    )


def run_all(
    page,
    lab,  # address, and a token or "" for who has logged in
    name,
):
    address, token = lab[:2]
    page.goto(f"{address}/lab/tree/{name}?reset" + (token and f"&token={token}"))
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    until(lambda: kernel_is_idle(page, address, name), 60, "no kernel came up")
    page.locator(".lm-MenuBar-item", has_text="Run").first.click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    # a folded cell shows no prompt of its own; the others wait for it, and so does the server's light
    page.wait_for_function(
        """() => {
        const text = (cell, part) => cell.querySelector(part)?.innerText.trim();
        const cells = [...document.querySelectorAll('.jp-CodeCell')].filter(c => text(c, '.cm-content'));
        return cells.length && cells.every(c => /\\[\\d+\\]/.test(text(c, '.jp-InputArea-prompt'))); }""",
        timeout=240_000,
    )
    until(lambda: kernel_is_idle(page, address, name), 240, "the kernel is still at work")
    error = page.locator(
        '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"],'
        ' .jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'
    )
    assert not [t for t in error.all_inner_texts() if "Traceback" in t or "Error" in t]


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


@pytest.mark.parametrize("source", [None, *LABS], ids=lambda p: p.stem if p else "tiny")
def test_slider_moves_the_figure(source, lab, page):
    name = source.name if source else "tiny.ipynb"
    if source:
        shutil.copy(source, lab[2] / name)
    else:
        write_tiny(lab[2] / name)
    run_all(page, lab, name)
    page.wait_for_function(f"{DATA} !== '[]' && document.querySelector('.noUi-handle')", timeout=60_000)
    move_first_slider(page)


def move_first_slider(page):
    before = page.evaluate(DATA)
    handle = page.locator(".noUi-handle").first

    def moved():
        # a slow machine may lay the page out once more and lose the first keys
        if time.monotonic() > moved.next:
            handle.scroll_into_view_if_needed()
            handle.focus()
            for _ in range(10):
                page.keyboard.press("ArrowRight")
            moved.next = time.monotonic() + 20
        return page.evaluate(DATA) != before

    moved.next = 0.0
    until(moved, 120, "sixty steps of the first slider changed nothing in the figure")
