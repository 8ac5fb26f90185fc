"""Pictures for the README: a page of the site, a lab in JupyterLab, a slide. `make pictures` takes them.

The site must be built (`lla-course site`); the slides of Part 1 are made from its runs."""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from labs import LABS, controls, jupyterlab, run_all
from playwright.sync_api import sync_playwright

from lla_course.core import repo_root

OUT = repo_root() / ".github" / "pictures"
SIZE = {"width": 1200, "height": 760}
MOST = 150_000  # bytes of a picture
DRAWN = "document.querySelector('.js-plotly-plot .main-svg')"

FIRST_SLIDER = """() => {
    const slider = document.querySelector('.figure-slider input');
    slider.value = Math.round(slider.max / 3);
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    let figure = slider;
    while (!figure.querySelector('.js-plotly-plot')) figure = figure.parentElement;
    figure.scrollIntoView({block: 'center'}); }"""


def new_page(browser):
    return browser.new_context(viewport=SIZE, color_scheme="light").new_page()


def page_of_the_site(browser, site):
    page = new_page(browser)
    page.goto((site / "11_local_linear.html").resolve().as_uri())
    page.wait_for_function(DRAWN)
    page.evaluate(FIRST_SLIDER)
    return page


def lab_in_jupyterlab(browser, lab):
    page, source = new_page(browser), next(path for path in LABS if path.stem.startswith("19"))
    shutil.copy(source, lab[2])
    run_all(page, lab, source.name)
    controls(page)
    page.keyboard.press("Control+b")  # the list of files goes
    page.locator(".widget-gridbox").first.evaluate("grid => grid.scrollIntoView({block: 'start'})")
    return page


def slide(browser, deck):
    page = new_page(browser)
    page.goto(deck.as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    for number in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate(f"Reveal.slide({number})")
        page.wait_for_timeout(400)
        if page.locator("section.present .figure-slider input").count():
            break
    return page


def main(site="build/site"):
    with TemporaryDirectory() as home, jupyterlab(Path(home)) as lab, sync_playwright() as play:
        command = [sys.executable, "-m", "lla_course.course.cli", "slides", f"{home}/slides", "1"]
        subprocess.run(command, check=True, cwd=repo_root())
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu"]
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        pages = {
            "page": page_of_the_site(browser, repo_root() / site),
            "lab": lab_in_jupyterlab(browser, lab),
            "slide": slide(browser, Path(home) / "slides" / "part-1.html"),
        }
        for name, page in pages.items():
            page.wait_for_timeout(2000)
            shot = page.screenshot()
            assert len(shot) <= MOST, f"{name}: {len(shot):,} bytes"
            (OUT / f"{name}.png").write_bytes(shot)
            print(OUT / f"{name}.png", len(shot))


if __name__ == "__main__":
    main(*sys.argv[1:])
