"Every way to install: from a zip archive, a checkout without links, an sdist, in place, and as usual."

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
SPEC = "import importlib.util as u; print(u.find_spec('lla_course.kernels.lla_decode').origin)"
USE = (
    "from lla_course import flash_lla, lla_decode; import lla_course.kernels.runtime as s; print(s.__file__)"
)


def python(*words, at, path=(), program=sys.executable):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([program, *map(str, words)], cwd=at, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def tree(folder, *, link):
    "A copy of what is installed. Without links, git and unzip leave a text file with the link's target."
    leave = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(ROOT / "lla_course", folder / "lla_course", ignore=leave)
    shutil.copytree(ROOT / "kernels", folder / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
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


WAYS = {
    "zip archive": lambda here, out: Path(shutil.make_archive(out / "m", "zip", here.parent, here.name)),
    "no links": lambda here, out: here,
    "links": lambda here, out: here,
    "sdist": sdist,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_wheel_holds_every_module(tmp_path, way):
    here = tree(tmp_path / "here", link=way in ("links", "sdist"))
    for name in ("out", "wheels"):
        (tmp_path / name).mkdir()
    built = wheel(WAYS[way](here, tmp_path / "out"), tmp_path / "wheels")
    python("-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site", built, at=tmp_path)
    found = {
        p.relative_to(tmp_path / "site").as_posix() for p in (tmp_path / "site" / "lla_course").rglob("*.py")
    }
    assert found == MODULES
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
