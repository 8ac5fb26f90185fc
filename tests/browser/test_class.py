"""A class on one machine, as deploy/ starts it: two users log in, each opens a lab and moves a slider, and
neither comes near the server or the files of the other."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("class")]
pytest.importorskip("jupyterhub", reason="needs the extra hub")
nbformat = pytest.importorskip("nbformat")
from labs import DATA, KERNEL, free_port, move_first_slider, run_all, until
from room import ROOT, enter, need_a_room
from test_lab import TINY

NAMES = ("ada", "bob")
# what the Dockerfile does, before the Hub starts
PREPARE = """set -eu
"$PYTHON" -m lla_course.course.cli copy /etc/skel/lla-course
mkdir -p /etc/jupyter/labconfig "$CLASS_HOMES"
cp "$DEPLOY/page_config.json" /etc/jupyter/labconfig
exec setpriv --no-new-privs --bounding-set "-all,$RIGHTS" "$DEPLOY/start" "$@"
"""
RIGHTS = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["hub"]["cap_add"]
PUT = """([address, file]) => fetch(address, {method: 'PUT', body: JSON.stringify(file), headers: {
    'X-XSRFToken': document.cookie.match(/_xsrf=([^;]+)/)[1]}}).then(answer => answer.status)"""
PEEK = """import os, pwd
from pathlib import Path
def attempt(do):
    try:
        return do()
    except OSError as error:
        return type(error).__name__
other = Path("{home}")
print("I am", pwd.getpwuid(os.getuid()).pw_name)
print("list", attempt(lambda: os.listdir(other)))
print("read", attempt((other / "lla-course" / "nbs" / "mine.txt").read_text))
print("write", attempt(lambda: (other / "theirs.txt").write_text("x")))
print("hub", attempt(lambda: os.listdir("{hub}")))
print("users", attempt(lambda: Path("{hub}/users").read_text()))
print("environment", attempt(lambda: Path("/proc/{pid}/environ").read_bytes()))"""


def hashed(password):
    "As deploy/compose.yaml says how."
    words = ["openssl", "passwd", "-6", "-stdin"]
    return subprocess.run(words, input=password, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def hub(node_modules, tmp_path_factory):
    "A Hub in a room of its own: its address, the passwords, where homes lie, and where it keeps its secrets."
    need_a_room()
    here, room = tmp_path_factory.mktemp("hub"), Path(tempfile.mkdtemp(prefix="lla-room-"))
    passwords = {name: secrets.token_hex(8) for name in NAMES}
    lines = [f"{name}:{hashed(word)}" for name, word in passwords.items()]
    (here / "users").write_text("# a class\n" + "\n".join(lines))
    (here / "users").chmod(0o600)
    port, homes = free_port(), room / "home"
    path = [str(Path(sys.executable).parent), str(node_modules / ".bin"), os.environ["PATH"]]
    env = {
        **os.environ,
        "PATH": os.pathsep.join(path),
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "DEPLOY": str(ROOT / "deploy"),
        "RIGHTS": ",".join(f"+{right.lower()}" for right in RIGHTS),
        "CLASS_USERS": str(here / "users"),
        "CLASS_HOMES": str(homes),
        "CLASS_PORT": str(port),
    }
    own = [
        f"--JupyterHub.hub_port={free_port()}",
        f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{free_port()}",
    ]
    with open(here / "log", "w") as log:
        words = enter(room, "sh", "-c", PREPARE, "sh", *own)
        server = subprocess.Popen(words, env=env, stdout=log, stderr=log, cwd=here)
    address = f"http://127.0.0.1:{port}"
    try:
        said = lambda: (here / "log").read_text()[-3000:]
        until(lambda: server.poll() is not None or up(f"{address}/hub/health"), 60, said)
        assert server.poll() is None, said()
        yield address, passwords, homes, here
    finally:
        server.kill()  # and with it goes all that runs in the room
        server.wait()
        room.rmdir()


def up(address):
    try:
        return urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def log_in(page, address, name, password):
    page.goto(f"{address}/hub/login")
    page.fill("#username_input", name)
    page.fill("#password_input", password)
    page.click("#login_submit")


@pytest.fixture
def second(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def test_who_is_not_of_the_class_stays_outside(hub, page):
    address, passwords, *_ = hub
    for name, password in ("ada", passwords["bob"]), ("root", ""):
        log_in(page, address, name, password)
        page.wait_for_selector(".login_error")
    assert page.request.get(f"{address}/user/ada/lab").url.startswith(f"{address}/hub/login")


def put(page, address, name, path, **file):
    assert page.evaluate(PUT, [f"{address}/user/{name}/api/contents/{path}", file]) == 201


def test_two_users_work_side_by_side_and_see_nothing_of_each_other(hub, page, second):
    address, passwords, homes, here = hub
    pages = dict(zip(NAMES, (page, second), strict=True))
    for name, each in pages.items():
        log_in(each, address, name, passwords[name])
    # bob writes a notebook that looks for the files of ada
    peek = PEEK.format(home=homes / "ada", hub=here, pid=1)
    cells = [nbformat.v4.new_code_cell(code) for code in (TINY, peek)]
    tiny = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    opened = {"ada": "19_regression_lab.ipynb", "bob": "tiny.ipynb"}
    for name, each in pages.items():
        each.wait_for_url(f"**/user/{name}/lab/tree/index.ipynb*", timeout=90_000)
        put(each, address, name, "mine.txt", type="file", format="text", content=f"of {name}")
        if name == "bob":
            put(each, address, name, "tiny.ipynb", type="notebook", content=json.loads(nbformat.writes(tiny)))
        run_all(each, (f"{address}/user/{name}", ""), opened[name])
        each.wait_for_function(f"{DATA} !== '[]' && document.querySelector('.noUi-handle')", timeout=60_000)
        move_first_slider(each)
    for name, other in zip(NAMES, reversed(NAMES), strict=True):
        mine, base = pages[name].request, f"{address}/user"
        assert mine.get(f"{base}/{name}/api/contents/mine.txt").json()["content"] == f"of {name}"
        for place in "lab", "api/contents", "api/contents/mine.txt", "api/kernels", "files/mine.txt":
            assert mine.get(f"{base}/{other}/{place}").status == 403, place
        assert mine.get(f"{address}/hub/api/users/{other}").status in (403, 404)
    (seen,) = [t for t in second.locator(".jp-OutputArea-output pre").all_inner_texts() if "I am" in t]
    seen = seen.splitlines()
    assert seen[0] == "I am bob"
    assert seen[1:] == [
        f"{what} PermissionError" for what in ("list", "read", "write", "hub", "users", "environment")
    ]
