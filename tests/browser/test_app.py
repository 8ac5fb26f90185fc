"A lab as an application: Voila serves it to who has the token, and its sliders move its figures."

import os
import re
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("lab")]
pytest.importorskip("voila", reason="needs the extra teach")
from labs import DATA, end, free_port, until

from lla_course.core import repo_root

SHOWN = re.compile(r"http://127\.0\.0\.1:\d+/\?token=(\w+)")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    "Lab 19, served by `lla-course lab --app`: its address, its token, and where it was started."
    here = tmp_path_factory.mktemp("app")
    home = {f"JUPYTER_{name}_DIR": str(here / name) for name in ("DATA", "RUNTIME")}
    env = {**os.environ, **home, "IPYTHONDIR": str(here), "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = str(repo_root())
    words = ["lab", "--app", "19", f"--port={free_port()}", "--Voila.port_retries=0"]
    with open(here / "log", "w") as log:
        command = [sys.executable, "-m", "lla_course.course.cli", *words]
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=here)
    said = lambda: (here / "log").read_text()
    try:
        until(lambda: server.poll() is not None or SHOWN.search(said()), 60, "Voila did not start")
        assert server.poll() is None, said()[-2000:]
        found = SHOWN.search(said())
        yield found[0].partition("/?")[0], found[1], here
    finally:
        end(server)


def status(address):
    "What is answered, and where one stands then."
    try:
        with urlopen(address, timeout=10) as answer:
            return answer.status, answer.url.partition("?")[0]
    except HTTPError as error:
        return error.code, address


def test_who_has_no_token_sees_nothing(app):
    address, token, here = app
    for key in "", "?token=", "?token=" + token[:-1] + "x":
        assert status(f"{address}/{key}") == (200, f"{address}/login")
    kernel = "-".join("a" * n for n in (8, 4, 4, 4, 12))
    (here / "mine.png").write_bytes(b"a picture of the working directory")
    for place in f"api/kernels/{kernel}", f"voila/api/shutdown/{kernel}", "voila/files/mine.png":
        assert status(f"{address}/{place}")[0] == 403


def test_a_slider_moves_the_figure_of_the_app(app, page):
    address, token, _ = app
    page.goto(f"{address}/?token={token}")
    page.wait_for_function(f"{DATA} !== '[]' && document.querySelector('.noUi-handle')", timeout=120_000)
    assert page.locator("h1").inner_text().startswith("The regression lab")
    assert page.locator(".jp-InputArea-editor, h1 ~ p > img:visible").count() == 0, (
        "no code, no still picture"
    )
    before = page.evaluate(DATA)
    page.locator(".noUi-handle").first.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    until(lambda: page.evaluate(DATA) != before, 60, "ten steps of a slider changed nothing")
    page.goto("about:blank")  # what was under way is no complaint
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith((address, "data:", "blob:", "about:"))] == []
