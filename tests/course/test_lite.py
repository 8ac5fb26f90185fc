"""The JupyterLab that runs in the browser. The whole of it needs a distribution of Pyodide, which no package
index carries: LLA_PYODIDE names its folder, and without it that one test is skipped."""

import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
from nbformat.v4 import new_markdown_cell, new_notebook

import lla_course.course.lite as lite
from lla_course.core import repo_root
from lla_course.course.cli import main
from lla_course.course.lite import (
    CHAPTERS,
    NEEDED,
    OTHER_REASONS,
    RUNTIME,
    build_lite,
    own_wheel,
    take_pyodide,
)
from lla_course.course.page_parts import CHAPTER
from lla_course.course.site import build_site

NBS = repo_root() / "nbs"


@pytest.fixture
def distribution(tmp_path):
    "A distribution of Pyodide in miniature: what is needed, something that it needs, and something else."
    folder, packages = tmp_path / "pyodide", {}
    folder.mkdir()
    for name in (*NEEDED, "prompt-toolkit", "torch"):
        file = f"{name}-1.0.whl"
        (folder / file).write_bytes(name.encode())
        needs = ["prompt_toolkit"] if name == "ipython" else []
        packages[name] = dict(version="1.0", file_name=file, depends=needs)
        packages[name]["sha256"] = hashlib.sha256(name.encode()).hexdigest()
    for name in RUNTIME:
        (folder / name).write_text("")
    (folder / "pyodide-lock.json").write_text(json.dumps({"info": {}, "packages": packages}))
    return folder


def test_of_pyodide_what_is_needed_is_taken_and_its_hashes_are_checked(distribution, tmp_path):
    taken = take_pyodide(distribution, tmp_path / "out")
    assert {*taken} == {*NEEDED, "prompt-toolkit"}
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert there == {*RUNTIME, "pyodide-lock.json", *(f"{name}-1.0.whl" for name in taken)}
    assert {*json.loads((tmp_path / "out" / "pyodide-lock.json").read_text())["packages"]} == {*taken}
    (distribution / "numpy-1.0.whl").write_bytes(b"numpy!")
    with pytest.raises(ValueError, match="numpy-1.0.whl.*the file that pyodide-lock.json names"):
        take_pyodide(distribution, tmp_path / "out")
    (distribution / "numpy-1.0.whl").unlink()
    with pytest.raises(ValueError, match="a folder with numpy-1.0.whl"):
        take_pyodide(distribution, tmp_path / "out")
    (distribution / "pyodide.js").unlink()
    with pytest.raises(ValueError, match="^pyodide=.*a folder with pyodide.js"):
        take_pyodide(distribution, tmp_path / "out")


def test_our_wheel_holds_every_module_and_asks_for_nothing(tmp_path):
    wheel = own_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.endswith(".py")}
        archive.extractall(tmp_path / "there")
    package = repo_root() / "lla_course"
    assert names >= {f"lla_course/{p.name}" for p in package.glob("*.py")} | {"lla_course/brite/model.py"}
    assert wheel.stat().st_size < 1e6
    code = "import lla_course.brite.algorithm as m, sys; assert 'torch' not in sys.modules; print(m.__file__)"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and str(tmp_path / "there") in done.stdout, done.stderr


@functools.cache
def needs_torch(module):
    "Whether a module of ours imports torch when it is imported, itself or through others."
    path = repo_root() / "lla_course" / (module.replace(".", "/") + ".py")
    return path.is_file() and asks_for_torch(path.read_text(encoding="utf-8"), module)


def asks_for_torch(source, module=""):
    if re.search(r"^(import|from) (torch|triton)\b", source, re.M):
        return True
    room = module.split(".")[:-1]
    for dots, rest, names in re.findall(r"^from (lla_course\.|\.\.?)([\w.]+) import ([\w, ]*)", source, re.M):
        base = ".".join([*{"lla_course.": [], "..": room[:-1], ".": room}[dots], rest])
        if any(map(needs_torch, (base, *(f"{base}.{name}" for name in names.replace(" ", "").split(","))))):
            return True
    names = re.findall(r"^from lla_course import ([\w, ]+)", source, re.M)
    return any({*line.replace(" ", "").split(",")} - {"check"} for line in names)


def test_the_chapters_that_run_in_the_browser_are_those_without_torch():
    free = set()
    for path in NBS.glob("*.ipynb"):
        if CHAPTER.match(path.stem) and not path.stem.endswith("_records"):
            cells = nbformat.read(path, 4).cells
            source = "\n".join(c.source for c in cells if c.cell_type == "code")
            free |= set() if asks_for_torch(source) else {path.stem}
    assert free == {*CHAPTERS, *OTHER_REASONS}


def test_a_page_says_whether_its_chapter_runs_here(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in ("40_a", "10_b", "18_records", "03_tool"):
        nbformat.write(new_notebook(cells=[new_markdown_cell(f"# {name}")]), runs / f"{name}.ipynb")
    lite = tmp_path / "lite"
    with pytest.raises(ValueError, match="^lite="):
        build_site(runs, tmp_path / "site", lite=lite)
    for file in ("lab/index.html", "files/40_a.ipynb"):
        (lite / file).parent.mkdir(parents=True)
        (lite / file).write_text("lite")
    out = build_site(runs, tmp_path / "site", lite=lite).parent
    read = lambda page: (out / f"{page}.html").read_text()
    assert 'href="lite/lab/index.html?path=40_a.ipynb">run it here</a>' in read("40_a")
    assert "not in the browser: it needs PyTorch" in read("10_b")
    assert not [p for p in ("18_records", "03_tool", "index") if "in the browser" in read(p)]
    assert (out / "lite" / "lab" / "index.html").read_text() == "lite"
    out = build_site(runs, tmp_path / "site").parent
    assert "run it here" not in read("40_a") and "PyTorch" not in read("10_b") and not (out / "lite").exists()


def test_the_command_refuses_what_is_taken_or_not_whole(distribution, tmp_path, capsys):
    pytest.importorskip("jupyterlite_core")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert main(["lite", str(tmp_path / "full"), "--pyodide", str(distribution)]) == 2
    assert "out=" in capsys.readouterr().err
    assert main(["lite", str(tmp_path / "new"), "--pyodide", str(tmp_path / "full")]) == 2
    assert "pyodide=" in capsys.readouterr().err and not (tmp_path / "new").exists()


class Served(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".wasm": "application/wasm"}

    def log_message(self, *args):
        pass


LOOK = """() => [
    [...document.querySelectorAll('.jp-InputArea-prompt')].filter(p => p.innerText.includes('*')).length,
    [...document.querySelectorAll('.jp-InputArea-prompt')].filter(p => /\\d/.test(p.innerText)).length,
    [...document.querySelectorAll('[data-mime-type="application/vnd.jupyter.error"]')].map(e => e.innerText),
]"""


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("LLA_PYODIDE"), reason="LLA_PYODIDE names no distribution of Pyodide")
def test_a_chapter_runs_in_the_browser_to_its_last_cell(tmp_path):
    "Without a server of Jupyter, and without one address elsewhere."
    pytest.importorskip("jupyterlite_core")
    api = pytest.importorskip("playwright.sync_api")
    build_lite(NBS, tmp_path / "lite", pyodide=Path(os.environ["LLA_PYODIDE"]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=str(tmp_path / "lite")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home, away = f"http://127.0.0.1:{server.server_port}", []
    with api.sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        page = play.chromium.launch(executable_path="/usr/bin/chromium", args=flags).new_page()
        page.on("request", lambda r: r.url.startswith((home, "data:", "blob:")) or away.append(r.url))
        page.goto(f"{home}/lab/index.html?path={CHAPTERS[0]}.ipynb")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        page.wait_for_timeout(3000)
        page.locator(".lm-MenuBar-item", has_text="Run").first.click()
        page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
        end = time.monotonic() + 600
        while True:  # JupyterLab shows the prompts of the cells that are in sight: the last ones
            page.wait_for_timeout(3000)
            waiting, done, errors = page.evaluate(LOOK)
            assert errors == [] and time.monotonic() < end, (waiting, errors)
            if done and not waiting:
                break
        page.locator(".jp-Notebook").first.evaluate("n => n.scrollTo(0, 0)")
        assert page.locator(".js-plotly-plot").count() > 0
    server.shutdown()
    server.server_close()
    assert away == []


@pytest.mark.parametrize(
    "lock", ["[", "[]", "{}", '{"packages": {"numpy": {}}}', '{"packages": 3}', "\u00ff"]
)
def test_a_list_of_packages_that_is_none_is_named(distribution, tmp_path, capsys, lock):
    (distribution / "pyodide-lock.json").write_text(lock)
    with pytest.raises(ValueError, match="^pyodide=.*pyodide-lock.json.*: expected JSON with packages"):
        take_pyodide(distribution, tmp_path / "out")
    assert main(["lite", str(tmp_path / "site"), "--pyodide", str(distribution)]) == 2
    assert "expected JSON with packages" in capsys.readouterr().err
    assert not (tmp_path / "site").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_site_that_is_stopped_leaves_nothing(tmp_path, monkeypatch, there):
    site, out = tmp_path / "work" / "site", tmp_path / "a b" / "out"
    (site / "lab").mkdir(parents=True)
    for name in ("a.js", "lab/index.html"):
        (site / name).write_text("x")
    if there:
        out.mkdir(parents=True)

    def stop(*args):
        copy(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        copy = lite.shutil.copytree
        m.setattr(lite.shutil, "copytree", stop)
        with pytest.raises(KeyboardInterrupt):
            lite._put(site, out)
    assert not list((out if there else out.parent).iterdir())
    lite._put(site, out)
    assert sorted(p.name for p in out.iterdir()) == ["a.js", "lab"] and (out / "lab/index.html").is_file()
    assert list(out.parent.iterdir()) == [out]
