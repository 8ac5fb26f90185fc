"""Every way to install: from a zip archive, a checkout without links, an sdist, in place, and as usual.
The book comes along, and works from any folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("setup.py", "pyproject.toml", "settings.ini", "MANIFEST.in", "README.md", "LICENSE")
PACKAGES = sysconfig.get_paths()["purelib"]  # torch, setuptools and pip
MODULES = {f"lla_course/{p.relative_to(ROOT / 'lla_course')}" for p in (ROOT / "lla_course").rglob("*.py")}
MODULES |= {f"lla_course/kernels/{p.name}" for p in (ROOT / "kernels").glob("*.py")}
SKIP = ("build", "__pycache__", ".*")
SPEC = "import importlib.util as u; print(u.find_spec('lla_course.kernels.lla_decode').origin)"
USE = (
    "from lla_course import flash_lla, lla_decode; import lla_course.kernels.runtime as s; print(s.__file__)"
)


def python(*words, at, path=(), program=sys.executable):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([program, *map(str, words)], cwd=at, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def tree(folder, *, link, book=False):
    "A copy of what is installed. Without links, git and unzip leave a text file with the link's target."
    leave = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(ROOT / "lla_course", folder / "lla_course", ignore=leave)
    shutil.copytree(ROOT / "kernels", folder / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    if book:
        shutil.copytree(ROOT / "nbs", folder / "nbs", ignore=shutil.ignore_patterns(*SKIP))
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    if link:
        (folder / "lla_course" / "kernels").symlink_to("../kernels")
    else:
        (folder / "lla_course" / "kernels").write_text("../kernels")
    return folder


def sdist(source, folder):
    python("-c", "import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])", folder, at=source)
    return next(folder.glob("*.tar.gz"))


def wheel(source, folder):
    python("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source, at=folder)
    return next(folder.glob("*.whl"))


def book(folder):
    "What a reader gets: notebooks, records, references and pictures."
    found = {p.relative_to(folder).as_posix() for p in (folder / "nbs").rglob("*") if p.is_file()}
    found = {name for name in found if not any(part.startswith((".", "__")) for part in name.split("/"))}
    return {name: (folder / name).read_bytes() for name in {"settings.ini", "LICENSE", *found}}


WAYS = {
    "zip archive": lambda here, out: Path(shutil.make_archive(out / "m", "zip", here.parent, here.name)),
    "no links": lambda here, out: here,
    "links": lambda here, out: here,
    "sdist": sdist,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_wheel_holds_every_module(tmp_path, way):
    here = tree(tmp_path / "here", link=way in ("links", "sdist"), book=True)
    for name in ("out", "wheels"):
        (tmp_path / name).mkdir()
    built = wheel(WAYS[way](here, tmp_path / "out"), tmp_path / "wheels")
    python("-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site", built, at=tmp_path)
    package = tmp_path / "site" / "lla_course"
    found = {p.relative_to(tmp_path / "site").as_posix() for p in package.rglob("*.py")}
    assert found == MODULES | {"lla_course/book/nbs/_site/conf.py"}
    assert book(package / "book") == book(ROOT)
    assert built.stat().st_size < 18e6
    assert not (tmp_path / "site" / "kernels").exists(), "Hugging Face has a package of that name"
    assert python("-c", SPEC, at=tmp_path, path=[tmp_path / "site"]).startswith(
        str(tmp_path / "site" / "lla_course")
    )


@pytest.mark.parametrize("link", [True, False], ids=["links", "no links"])
def test_an_editable_install_is_used_in_place(tmp_path, link):
    here, venv = tree(tmp_path / "here", link=link), tmp_path / "venv"
    python("-m", "venv", "--without-pip", venv, at=tmp_path)
    python(
        "-m",
        "pip",
        "--python",
        venv / "bin" / "python",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-e",
        here,
        at=tmp_path,
        path=[PACKAGES],
    )
    own = next(venv.rglob("site-packages"))
    (own / "zz_torch.pth").write_text(PACKAGES)
    use = python("-c", USE if not link else SPEC, at=tmp_path, program=venv / "bin" / "python")
    assert Path(use).resolve().parent == here / "kernels"
    assert {p.name for p in (venv / "bin").iterdir()} >= {"lla-course"}


@pytest.mark.parametrize("link", [True, False], ids=["links", "no links"])
def test_the_hashes_of_the_sources_cover_the_kernels(tmp_path, link):
    from lla_course.course.runner import _library_hash

    here = tree(tmp_path / "here", link=link)
    show = (
        "import lla_course.attention.flash as flash; from lla_course.records import code_hash;"
        " print(code_hash(flash))"
    )

    def hashes():
        return _library_hash(here), python("-c", show, at=tmp_path, path=[here])

    before = hashes()
    with open(here / "kernels" / "lla_decode.py", "a") as file:
        file.write("changed = 1\n")
    after = hashes()
    assert before[0] != after[0] and before[1] != after[1]


# ---- the course from pip


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    "The library as pip installs it; what it needs is found where it is."
    folder = tmp_path_factory.mktemp("installed")
    built = wheel(tree(folder / "here", link=True, book=True), folder)
    shutil.rmtree(folder / "here")
    python("-m", "pip", "install", "-q", "--no-deps", "--target", folder / "site", built, at=folder)
    return folder / "site"


def snapshot(site):
    files = (p for p in site.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p: p.stat().st_mtime_ns for p in files}


def papermill(stem, at, site):
    "Run one notebook that lies alone in a folder, and return what its cells say."
    out = at / "out.ipynb"
    python("-m", "papermill", "--no-progress-bar", at / f"{stem}.ipynb", out, at=at, path=[site])
    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    return json.dumps([cell.get("outputs") for cell in cells])


@pytest.mark.slow
def test_an_installed_book_runs_from_an_empty_folder(installed, tmp_path):
    def course(*words, at=tmp_path):
        return python(installed / "bin" / "lla-course", *words, at=at, path=[installed])

    before, runs = snapshot(installed), tmp_path / "build" / "runs" / "fast"
    chapters = course("list")
    assert "\n11   " in chapters and "\n28b  " in chapters
    assert "2 ok, 0 kept, 0 failed" in course("run", "08", "18", "--jobs", "1")
    assert {p.name for p in runs.iterdir()} == {"08_first_steps.ipynb", "18_records.ipynb"}
    assert "NVIDIA H200" in (runs / "18_records.ipynb").read_text(encoding="utf-8")
    course("copy", "mine")
    assert book(tmp_path / "mine") == book(ROOT)
    assert "1 ok, 0 kept, 0 failed" in course("run", "08", at=tmp_path / "mine" / "nbs")
    assert next((tmp_path / "mine" / "build" / "runs" / "fast").iterdir()).name == "08_first_steps.ipynb"
    assert snapshot(installed) == before


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["27c_decoding_measured", "28b_records"])
def test_a_notebook_alone_finds_its_records(installed, tmp_path, stem):
    shutil.copy(ROOT / "nbs" / f"{stem}.ipynb", tmp_path)
    said = papermill(stem, tmp_path, installed)
    assert "not recorded yet" not in said and "NVIDIA H200" in said


# ---- the course on a borrowed machine


def test_binder_installs_the_course_with_the_pinned_versions():
    "Binder runs pip in the root of the repository; the path of the constraints counts from the file itself."
    folder = ROOT / "binder"
    lines = [line for line in (folder / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    address, pins, project = lines
    assert address.startswith("--extra-index-url=https://")  # with "=", as repo2docker reads it
    assert pins.startswith("-c ") and (folder / pins[3:]).resolve() == ROOT / "constraints.txt"
    assert project == "-e .[course]" and "course_requirements" in (ROOT / "settings.ini").read_text()
    version = (folder / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f"Python {version}, CPU" in (ROOT / "constraints.txt").read_text()
