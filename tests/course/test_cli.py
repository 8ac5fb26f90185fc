"The words of the command: what is refused, in one line and with status 2, and what is shown."
import json, os, subprocess, sys
from pathlib import Path
import pytest
from miniature import chapter
from lla_course import course
from lla_course.course import main, select_chapters

@pytest.mark.parametrize("words, named", [
    ("run 77", "chapter='77'"), ("run nothing", "chapter='nothing'"), ("run lab", "19_a_lab, 29_b_lab"), ("run ../00_core.ipynb", "00_core.ipynb"),
    ("run --preset large", "preset='large': expected one of 'fast', 'full'"), ("run --jobs 0", "jobs=0"), ("run --jobs two", "two"),
    ("run 00 -p seeed=1", "parameter='seeed'"), ("run -p seeed=1", "seeed"), ("run 00 19 -p seed=1", "19_a_lab"), ("run 00 -p seed", "NAME=VALUE"), ("run 00 -p =1", "NAME=VALUE"),
    ("run 00 -p seed=half", "seed='half': expected int"), ("run 00 -p seed=0.5", "seed=0.5: expected int"), ("run 00 -p seed=True", "seed=True: expected int"),
    ("run 00 -p width=wide", "width='wide': expected float"), ("run 00 -p width=True", "width=True"), ("run 00 -p preset=full", "--preset"),
    ("run 00 --fast", "--fast"), ("run 00 --pre full", "--pre"), ("fly", "fly"), ("", "command"), ("list 00", "00")])
def test_refused(root, capfd, words, named):
    for stem, module in ("19_a_lab", "a.lab"), ("29_b_lab", "b.lab"): chapter(root, stem, "1", module=module)
    assert main(words.split()) == 2
    said = capfd.readouterr()
    assert said.err.startswith("lla-course: ") and said.err.count("\n") == 1 and said.out == ""
    assert named in said.err
    assert not (root/"build").exists()

def test_names_of_a_chapter(root):
    path = chapter(root, "12_bias", "1", module="regression.bias_variance")
    for name in "12", "012", "12_bias", "bias_variance", "regression.bias_variance", str(path), "nbs/12_bias.ipynb":
        found, = select_chapters([name, name])
        assert (found.stem, found.number, found.module, found.room) == ("12_bias", 12, "regression.bias_variance", "bias_variance")
        assert (found.title, found.summary) == ("Title of 12_bias", "What 12_bias does.")

def test_list(root, capsys):
    chapter(root, "12_bias", "1", module="regression.bias_variance")
    for stem in "index", "_draft", ".hidden": chapter(root, stem, "1")
    runs, results = root/"build"/"runs"/"fast", root/"nbs"/"results"/"bias_variance"
    for folder in runs, results: folder.mkdir(parents=True)
    (results/"d2.json").touch(); (results/"d1.json").touch()
    (runs/"00_core.ipynb").write_text('{"metadata": {"lla_course": {"key": "old", "seconds": 3.25}}}')
    (runs/"index.ipynb").write_text('{"metadata": {"lla_cou')   # half a file is no run
    assert main(["list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == ["00 Title of 00_core - stale 3.2 s -".split(), "12 Title of 12_bias regression.bias_variance never d1, d2".split(), "Title of index - never -".split()]

def test_lab(root, monkeypatch):
    called = {}
    monkeypatch.setattr(os, "execve", lambda path, command, env: called.update(command=command, env=env))
    main(["lab", "--port=9999", "--no-browser", "00_core.ipynb"])
    assert called["command"][1:] == ["-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={root/'nbs'}", "--port=9999", "--no-browser", "00_core.ipynb"]
    assert called["env"]["PYTHONPATH"].split(os.pathsep)[0] == str(root)
    settings, = Path(called["env"]["JUPYTER_CONFIG_DIR"]).rglob("notification.jupyterlab-settings")
    assert json.loads(settings.read_text()) == {"fetchNews": "false"} and settings.is_relative_to(root/"build"/"lab")

def test_site(root, monkeypatch, capsys):
    from lla_course import site
    from lla_course.course import Outcome
    built = []
    monkeypatch.setattr(site, "build_site", lambda runs, out, **more: built.append((runs, out, more)) or out/"index.html")
    def outcome(state): return lambda plan, jobs, out, root: iter([Outcome(plan[0][0], state, 1., out/"x.ipynb", "" if state == "ok" else "cell 1: Oh: no")])
    monkeypatch.setattr(course, "_outcomes", outcome("failed"))
    assert main(["site"]) == 1 and not built and "cell 1: Oh: no" in capsys.readouterr().out
    monkeypatch.setattr(course, "_outcomes", outcome("ok"))
    more = dict(chapters=["00_core"], folder=root/"nbs")
    assert main(["site"]) == 0 and built == [(root/"build"/"runs"/"fast", root/"build"/"site", more)]
    assert capsys.readouterr().out.endswith(f"{root/'build'/'site'/'index.html'}\n")

def test_missing_papermill_is_said_at_once(root, monkeypatch, capsys):
    monkeypatch.setattr(course, "find_spec", lambda name: None)
    assert main(["run"]) == 2 and "papermill is not installed" in capsys.readouterr().err

def test_the_module_is_a_command(root):
    env = {**os.environ, "PYTHONPATH": str(Path(course.__file__).parents[1])}
    run = lambda *words: subprocess.run([sys.executable, "-m", "lla_course.course", *words], cwd=root, env=env, capture_output=True, text=True)
    assert (done := run("list")).returncode == 0 and "Title of 00_core" in done.stdout and done.stderr == ""
    assert run("--help").returncode == 0
