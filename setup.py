"""Packaging: every value comes from settings.ini.

The kernels are named by hand, with their folder: find_packages follows no links, and an archive has none."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read("settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
lib = cfg["lib_name"]
course = cfg["course_requirements"].split()
dev = course + cfg["dev_requirements"].split()
more = {extra: cfg[f"{extra}_requirements"].split() for extra in ("trl", "baselines")}

setup(
    name=lib,
    version=cfg["version"],
    description=cfg["description"],
    license="Apache-2.0",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    keywords=cfg["keywords"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=[lib, lib + ".*"]) + [lib + ".kernels"],
    package_dir={lib + ".kernels": "kernels"},
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={"course": course, "dev": dev, **more},
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    zip_safe=False,
)
