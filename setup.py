"""Packaging: every value comes from settings.ini.

The kernels are named by hand, with their folder: find_packages follows no links, and an archive has none.
The book travels in the package: it is copied while a wheel is made, and lies in the repository once."""

import re
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

config = ConfigParser(delimiters=["="], interpolation=None)
config.read("settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
lib = cfg["lib_name"]
course = cfg["course_requirements"].split()
extras = ("transformers", "pretrained", "lite", "trl", "teach", "hub", "dask", "kernels", "baselines")
more = {extra: cfg[f"{extra}_requirements"].split() for extra in extras}
dev = course + more["teach"] + more["hub"] + more["dask"] + more["kernels"] + cfg["dev_requirements"].split()

# On PyPI a relative link of the README leads nowhere; pictures are shown from the raw file.
home, branch = cfg["git_url"], cfg["branch"]
readme = Path("README.md").read_text(encoding="utf-8")
readme = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\g<1>{home}/raw/{branch}/", readme)
readme = re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{home}/blob/{branch}/", readme)

BOOK = ["settings.ini", "LICENSE", "nbs/*.ipynb", "nbs/references.bib", "nbs/glossary.md"]
BOOK += ["nbs/pictures/*.png", "nbs/_site/*.*", "nbs/data/*.json"]
BOOK += ["nbs/results/*/*.json", "nbs/results/*/*.npz"]


class BuildWithBook(build_py):
    "Puts notebooks, records, references and pictures into lla_course/book, where `core.repo_root` looks."

    def run(self):
        super().run()
        if self.editable_mode:  # the checkout is the book
            return
        book = Path(self.build_lib) / lib / "book"
        shutil.rmtree(book, ignore_errors=True)  # what an earlier build has left
        for path in (path for pattern in BOOK for path in sorted(Path().glob(pattern))):
            (book / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, book / path)


setup(
    name=lib,
    version=cfg["version"],
    description=cfg["description"],
    license="Apache-2.0",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=home,
    project_urls={
        "Documentation": cfg["doc_host"] + cfg["doc_baseurl"],
        "Source": home,
        "Changelog": f"{home}/blob/{branch}/CHANGELOG.md",
        "Issues": f"{home}/issues",
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *[f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)],
        "Topic :: Education",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords=cfg["keywords"],
    long_description=readme,
    long_description_content_type="text/markdown",
    packages=find_packages(include=[lib, lib + ".*"]) + [lib + ".kernels"],
    package_dir={lib + ".kernels": "kernels"},
    package_data={lib: ["py.typed"]},
    cmdclass={"build_py": BuildWithBook},
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={"course": course, "dev": dev, **more},
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    zip_safe=False,
)
