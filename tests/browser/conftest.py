"""Headless Chromium for the tests of this folder: pip's playwright drives Debian's browser, in fresh
profiles.

Without the browser they are skipped, but not where the variable CI is set: there a skipped test fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CI = os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


def _required(report):
    "In CI, what cannot be tested has not passed, but for what only root can do."
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        if "no room here" in str(reason):
            return report
        report.outcome, report.longrepr = "failed", f"nothing may be skipped where CI is set: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return _required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return _required((yield))


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"needs Chromium at {CHROMIUM}: apt-get install chromium")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that writes down every complaint of the browser and every address it asks for:
    `page.complaints`, `page.requests`."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.complaints, page.requests = [], []
    page.on("console", lambda m: m.type == "error" and page.complaints.append(m.text))
    page.on("pageerror", lambda e: page.complaints.append(str(e)))
    left = "net::ERR_ABORTED"  # a page that is left asks no longer for what it lacks
    page.on("requestfailed", lambda r: r.failure != left and page.complaints.append(f"failed: {r.url}"))
    page.on("response", lambda r: r.status >= 400 and page.complaints.append(f"{r.status}: {r.url}"))
    page.on("request", lambda r: page.requests.append(r.url))
    yield page
    context.close()


@pytest.fixture(scope="session")
def node_modules():
    "What these tests take from npm, as package-lock.json pins it."
    here, kept = Path(__file__).parent, Path(__file__).parents[2] / "build" / "npm"
    locked = (here / "package-lock.json").read_bytes()
    ready = lambda: (kept / ".ready").is_file() and (kept / ".ready").read_bytes() == locked
    if not ready() and not shutil.which("npm"):
        pytest.skip("needs npm")
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept / ".lock"):  # two workers may come at once
        if not ready():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(here / name, kept / name)
            install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(install, cwd=kept, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            (kept / ".ready").write_bytes(locked)
    return kept / "node_modules"


@pytest.fixture(scope="session")
def axe(node_modules):
    "The source of axe-core, the checker of accessibility."
    return (node_modules / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


RULES = """([nodes, rules]) => axe.run(nodes || document, {resultTypes: ["violations"], ...rules})
    .then(found => found.violations
        .filter(v => ["serious", "critical"].includes(v.impact))
        .map(v => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 200)]))"""
# one element with text of each look that was not seen before: all of one look have one contrast
LOOKS = """seen => {
    const known = new Set(seen), fresh = new Map();
    for (const e of document.body.querySelectorAll("*")) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
        if (!e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) continue;
        let behind = e;
        while (behind.parentElement && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)")
            behind = behind.parentElement;
        const s = getComputedStyle(e), back = getComputedStyle(behind);
        const own = [s.color, s.fontSize, s.fontWeight, s.opacity];
        const look = [...own, back.backgroundColor, back.opacity].join();
        known.has(look) || fresh.has(look) || fresh.set(look, e);
    }
    return {looks: [...fresh.keys()], nodes: [...fresh.values()]};
}"""
CONTRAST = {"runOnly": ["color-contrast"]}
ALL_ELSE = {"rules": {"color-contrast": {"enabled": False}}}


@pytest.fixture
def barriers(axe):
    """What keeps readers out of an open page, light or dark: `barriers(page)` lists what axe-core calls
    serious or critical. A contrast is judged once for each look of a text that a test meets."""
    seen = set()

    def contrast(page):
        found = page.evaluate_handle(LOOKS, sorted(seen))
        looks = found.get_property("looks").json_value()
        seen.update(looks)
        return page.evaluate(RULES, [found.get_property("nodes"), CONTRAST]) if looks else []

    def look(page):
        page.emulate_media(color_scheme="light")
        page.evaluate(axe)
        light = page.evaluate(RULES, [None, ALL_ELSE]) + contrast(page)
        page.emulate_media(color_scheme="dark")  # only colours change
        return light + contrast(page)

    return look
