"""The labs in a real JupyterLab, in headless Chromium: a server of our own, and every control of a page
moved, with the time until its figure has new data.

`make lab-times` moves them all, prints the table, and writes it into tests/lab_times.json."""

import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from lla_course.core import repo_root

LABS = sorted((repo_root() / "nbs").glob("[1-8]9_*lab.ipynb"))
# without it JupyterLab asks, in a dialog
KERNEL = {"name": "python3", "display_name": "python3", "language": "python"}
DATA = """JSON.stringify([...document.querySelectorAll(
        '.jupyter-widgets .js-plotly-plot, .jupyter-widgets.js-plotly-plot')]
    .map(g => g._fullData.map(t => ['x', 'y', 'z'].map(k => Array.from(t[k] || []).flat()))))"""
PLAIN = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


@contextmanager
def jupyterlab(
    home,  # an empty folder
):  # its address, token and folder of notebooks
    "A JupyterLab of our own on the loopback: private settings, no news, no update check."
    token = secrets.token_hex(16)
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
        end(server)


def end(server):
    "Ask a process to go, and see that it does."
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


# ---- every control

WATCH = """() => {
    const boxes = [...document.querySelectorAll('.widget-gridbox')].filter(
        grid => grid.parentElement.querySelector('.js-plotly-plot'));
    const plain = (key, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
    const drawn = plot => JSON.stringify([plot.data, plot.layout], plain);
    const watch = window.watch = {controls: [], start: null, times: [], count: 0};
    for (const grid of boxes) {
        const plot = grid.parentElement.querySelector('.js-plotly-plot');
        const events = ['afterplot', 'redraw', 'restyle', 'relayout', 'update'];
        for (const name of events) plot.on('plotly_' + name, () => {
            watch.count++;
            if (watch.plot !== plot || watch.start === null) return;
            const now = performance.now();
            if (drawn(plot) !== watch.before) watch.times.push(now - watch.start); });
        for (const part of grid.querySelectorAll('.noUi-handle, select, input[type=checkbox]')) {
            const said = part.closest('.widget-inline-hbox').innerText.replace(/\u200b/g, '');
            const name = said.trim().split('\\n')[0];
            watch.controls.push({part, plot, name, kind: part.tagName === 'DIV' ? 'slider' :
                part.tagName === 'SELECT' ? 'list' : 'box', bench: boxes.indexOf(grid)}); } }
    for (const name of ['keydown', 'change', 'click']) document.addEventListener(name, event => {
        if (watch.armed) { watch.start = event.timeStamp; watch.armed = false; } }, true);
    watch.arm = at => {
        const control = watch.controls[at];
        Object.assign(watch, {plot: control.plot, before: drawn(control.plot), times: [], start: null,
            armed: true});
        control.part.scrollIntoView({block: 'center'});
        return control.part; };
    return watch.controls.map(({name, kind, bench}) => ({name, kind, bench})); }"""


def controls(page):
    "Watch the live figures of a page, and return their controls: name, kind and bench."
    page.wait_for_function("document.querySelector('.widget-gridbox .noUi-handle, .widget-gridbox select')")
    return page.evaluate(WATCH)


def press(
    page,
    at,  # number of the control
    kind,  # slider, list or box
    key,  # of a slider, as ArrowRight; for a list 1, -1 or the start of a word in it
):
    "One step of one control, watched."
    part = page.evaluate_handle("at => window.watch.arm(at)", at).as_element()
    if kind == "slider":
        part.focus()
        page.keyboard.press(key)
    elif kind == "list":
        words, chosen = part.evaluate("s => [[...s.options].map(o => o.text), s.selectedIndex]")
        step = lambda: (chosen + key) % len(words)
        start = lambda: next(i for i, word in enumerate(words) if word.startswith(key))
        part.select_option(index=step() if isinstance(key, int) else start())
    else:
        part.click()


def seconds_to_new_data(
    page,
    idle,  # whether the kernel is
    quiet,  # seconds without a drawing that end it
):  # seconds from the key or the click to the first new data and to the last; None: none came
    start, count = time.monotonic(), -1
    while True:
        page.wait_for_timeout(1000 * quiet)
        now, times = page.evaluate("[window.watch.count, window.watch.times]")
        if times and now == count and idle():
            return times[0] / 1000, times[-1] / 1000
        if not times and time.monotonic() > start + 1.5 and idle():
            return None
        assert time.monotonic() < start + 60, "the figure does not come to rest"
        count = now


SPOT = """at => ['valuenow', 'valuemax'].map(
    name => Number(window.watch.controls[at].part.getAttribute('aria-' + name)))"""


def move(
    page,
    at,  # number of the control
    kind,  # slider, list or box
    idle,  # whether the kernel is
    steps=1,  # to values that were not there before; then it goes back, but a slider after one stays
    quiet=0.1,  # seconds without a drawing that end a step
):  # seconds to the first and to the last new data of each step that changed the figure
    "Move one control; where a step changes nothing, farther."
    there, back, ladder = (1, -1, [1]) if kind == "list" else (None, None, [None])
    if kind == "slider":
        value, most = page.evaluate(SPOT, at)
        there, back = ("ArrowLeft", "ArrowRight") if value >= most else ("ArrowRight", "ArrowLeft")
        ladder = [there, "PageDown" if value >= most else "PageUp", "Home", "End"]
    found = []
    for key in ladder:
        press(page, at, kind, key)
        if time_ := seconds_to_new_data(page, idle, quiet):
            found.append(time_)
            break
    if kind == "box" or not found or key != there or kind == "slider" and steps == 1:
        return found
    for _ in range(steps - 1):
        press(page, at, kind, there)
        found += filter(None, [seconds_to_new_data(page, idle, quiet)])
    for _ in found:
        press(page, at, kind, back)
        seconds_to_new_data(page, idle, quiet)
    return found


# what has no effect where its bench begins: (lab, bench, control) -> a control that gives it one, and how
FIRST = {
    ("39_tasks_lab", 0, "the world comes back"): ("tokens read", "End"),
    ("39_tasks_lab", 4, "seed"): ("keys", 1),  # random ones
    ("59_ftct_lab", 3, "silent at"): ("layer 0, head 0", None),  # switched off
    ("69_auction_lab", 2, "rival, item 1"): ("RegretNet", "two"),  # bidders
    ("69_auction_lab", 2, "rival, item 2"): ("RegretNet", "two"),
}


def move_all(
    page,
    lab,  # address and token
    source,  # the notebook of a lab
    **how,  # steps and quiet of `move`
):  # bench, control and its seconds, as they come
    "Open a lab, run it, and move every control of it."
    run_all(page, lab, source.name)
    idle = lambda: kernel_is_idle(page, lab[0], source.name)
    found = controls(page)
    numbers = {(c["bench"], c["name"]): (at, c["kind"]) for at, c in enumerate(found)}
    assert len(numbers) == len(found), "two controls of a bench have one name"
    for (bench, name), (at, kind) in numbers.items():
        if first := FIRST.get((source.stem, bench, name)):
            press(page, *numbers[bench, first[0]], first[1])
            seconds_to_new_data(page, idle, 0.1)
        yield bench, name, move(page, at, kind, idle, **how)


# ---- the table

STORED = repo_root() / "tests" / "lab_times.json"
MODEL = {  # benches at which a step trains, solves or runs networks; at the others it draws
    *(("29_attention_lab", 1), ("39_tasks_lab", 1), ("39_tasks_lab", 3)),
    *(("59_ftct_lab", 2), ("59_ftct_lab", 3)),
    *(("69_auction_lab", bench) for bench in range(3)),
}


def limit(
    stem,  # of a lab
    bench,
):  # seconds from an input to new data
    return 1.0 if (stem, bench) in MODEL else 0.3


def measure(
    names,  # numbers of labs, as 29; none: all
    steps=3,  # of each control, to new values
):  # by lab: bench, control, seconds of each step
    "Move every control of these labs in a browser."
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as home, jupyterlab(Path(home)) as lab, sync_playwright() as play:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu"]
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        for source in LABS:
            if names and source.stem[:2] not in names:
                continue
            shutil.copy(source, lab[2])
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            moved = move_all(page, lab, source, steps=steps, quiet=0.4)
            yield source.stem, [(bench, name, [last for _, last in took]) for bench, name, took in moved]
            page.context.close()


def main(*names):
    stored = json.loads(STORED.read_text(encoding="utf-8")) if names else {}
    found = {path.stem: stored.get(path.stem, []) for path in LABS}
    load = [os.getloadavg()[0], *stored.get("load", [])]
    print(f"{'lab':20}  bench  {'control':22}  {'best':>6}  {'worst':>6}  limit")
    for stem, rows in measure(names):
        load.append(os.getloadavg()[0])
        found[stem] = [[bench, name, [round(t, 3) for t in took]] for bench, name, took in rows]
        for bench, name, took in rows:
            most = limit(stem, bench)
            late = " *" if min(took) > most else ""
            times = f"{min(took):6.3f}  {max(took):6.3f}  {most:5}{late}"
            print(f"{stem:20}  {bench:5}  {name:22}  {times}", flush=True)
    about = dict(
        date=date.today().isoformat(),
        machine=f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}",
        load=[round(least, 1) for least in (min(load), max(load))],
        meaning="lab -> [bench, control, seconds from an input to the last new data, for each of its steps]",
    )
    lines = [f"  {json.dumps(stem)}: {json.dumps(rows, ensure_ascii=False)}" for stem, rows in found.items()]
    STORED.write_text(
        json.dumps(about, indent=1)[:-2] + ",\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
