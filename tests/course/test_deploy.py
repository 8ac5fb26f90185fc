"The files with which a class is served: read by linters, and the script that makes the users, run."

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from room import ROOT, enter, need_a_room

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
BIN = Path(sys.executable).parent
LINTERS = {
    "Dockerfile": ["hadolint", "deploy/Dockerfile"],
    "start": ["shellcheck", "deploy/start", ".ci/run"],
    "compose": ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"],
    "workflows": ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / ".github" / "workflows").iterdir()
    )],
}  # fmt: skip


def lint(words, at=ROOT):
    program = BIN / words[0]
    if not program.is_file():
        pytest.skip(f"needs {words[0]}, which the extra dev brings")
    return subprocess.run([program, *words[1:]], cwd=at, capture_output=True, text=True)


@pytest.mark.parametrize("name", LINTERS)
def test_linters_find_nothing(name):
    done = lint(LINTERS[name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "words, name, old, new",
    [
        (["hadolint"], "Dockerfile", "WORKDIR /srv/hub", "RUN cd /srv/hub"),
        (["shellcheck"], "start", '"$name"', "$name"),
        (LINTERS["compose"][:3], "compose.yaml", "cap_drop: [ALL]", "cap_drops: [ALL]"),
    ],
)
def test_linters_find_a_fault(tmp_path, words, name, old, new):
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    assert lint([*words, name], at=tmp_path).returncode != 0


def test_the_class_is_served_to_this_machine_only():
    hub = COMPOSE["services"]["hub"]
    assert hub["ports"] == ["127.0.0.1:8000:8000"] and hub["cap_drop"] == ["ALL"]
    assert "docker.sock" not in json.dumps(COMPOSE) and "privileged" not in hub
    assert hub["secrets"] == ["users"] and COMPOSE["secrets"]["users"] == {"file": "./users"}
    assert "/home" in {v.partition(":")[2] for v in hub["volumes"]}
    ignored = (ROOT / ".gitignore").read_text().split()
    assert "deploy/users" in ignored and "deploy/users" in (ROOT / ".dockerignore").read_text().split()
    read = (DEPLOY / "jupyterhub_config.py").read_text() + (DEPLOY / "start").read_text()
    assert read.count("/run/secrets/users") == 2  # where compose puts the secret
    assert set(hub["environment"]) <= set(re.findall(r"CLASS_\w+", read))
    assert "cull_idle_timeout=3600" in read  # an hour, as chapter 06 says


def test_the_dockerfile_takes_what_is_there():
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for words in re.findall(r"(?m)^COPY (?!--from)(.*)", text):
        assert all((ROOT / name).is_file() for name in words.split()[:-1]), words
    extras = re.search(r"'/src\[([\w,]+)\]'", text)[1].split(",")
    settings = (ROOT / "settings.ini").read_text(encoding="utf-8")
    assert all(f"{extra}_requirements = " in settings for extra in extras)
    version = re.search(r"FROM python:([\d.]+)", text)[1]
    assert f"Python {version}, CPU" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    packages = json.loads((ROOT / "tests" / "browser" / "package.json").read_text())
    assert list(packages["dependencies"]) == ["configurable-http-proxy"]


def test_the_devcontainer_sets_up_what_make_does():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    version = re.search(r"python:([\d.]+)-", container["image"])[1]
    assert f"Python {version}, CPU" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert container["postCreateCommand"].endswith("make setup")
    assert "chromium" in container["postCreateCommand"]
    interpreter = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"


def test_no_other_user_can_listen_to_a_kernel():
    zmq = pytest.importorskip("zmq")
    manager = pytest.importorskip("jupyter_client").KernelManager
    assert (
        "MappingKernelManager.transport_encryption=required" in (DEPLOY / "jupyterhub_config.py").read_text()
    )
    kernel = manager(transport_encryption="required")
    kernel.start_kernel(extra_arguments=["--HistoryManager.enabled=False"])
    try:
        client = kernel.client()
        client.start_channels()
        client.wait_for_ready(60)
        with zmq.Context() as context, context.socket(zmq.SUB) as spy:
            spy.subscribe(b"")
            spy.connect(f"tcp://{kernel.ip}:{kernel.iopub_port}")
            client.execute_interactive("1", timeout=30)
            assert not spy.poll(500)
        client.stop_channels()
    finally:
        kernel.shutdown_kernel(now=True)


# ---- who has which number

SHOW = """#!/bin/sh
umask
stat -c '%n %u %a %U' "$CLASS_HOMES"/*
getent shadow ada bob eve | cut -d: -f1,2
"""


@pytest.fixture
def start(tmp_path):
    "Run deploy/start on a list of users, in a new container of sorts, with homes that stay."
    need_a_room()
    for name in "room", "home", "bin":
        (tmp_path / name).mkdir()
    (tmp_path / "bin" / "jupyterhub").write_text(SHOW)
    (tmp_path / "bin" / "jupyterhub").chmod(0o755)
    variables = [f"CLASS_USERS={tmp_path}/users", f"CLASS_HOMES={tmp_path}/home"]

    def run(*lines, mode=0o600):
        (tmp_path / "users").write_text("\n".join(lines))
        (tmp_path / "users").chmod(mode)
        words = ["env", *variables, "sh", "-c", f'PATH={tmp_path}/bin:$PATH; exec "$0"', DEPLOY / "start"]
        return subprocess.run(enter(tmp_path / "room", *words), capture_output=True, text=True)

    run.homes = tmp_path / "home"
    return run


def owners(said):
    rows = [line.split() for line in said.splitlines() if line.startswith("/")]
    return {Path(home).name: (int(number), mode, owner) for home, number, mode, owner in rows}


def test_users_keep_their_numbers_and_so_their_files(start):
    first = start("# a class", "", "ada:$6$a$x", "bob:$6$b$y")
    assert first.returncode == 0, first.stderr
    assert owners(first.stdout) == {"ada": (2000, "700", "ada"), "bob": (2001, "700", "bob")}
    assert "ada:$6$a$x" in first.stdout.splitlines()
    # another container, another order, somebody new, a new password; nobody gets the number of who has left
    later = start("eve:$6$e$z", "ada:$6$new$x")
    assert later.returncode == 0, later.stderr
    found = owners(later.stdout)
    assert (found["ada"][0], found["eve"][0]) == (2000, 2002) and found["eve"][1:] == ("700", "eve")
    assert found["bob"] == (2001, "700", "UNKNOWN")
    shadow = [line for line in later.stdout.splitlines() if not line.startswith("/")]
    assert shadow == ["0077", "ada:$6$new$x", "eve:$6$e$z"]  # what the Hub writes is its own


@pytest.mark.parametrize("line", ["root:$6$a$x", "../ada:$6$a$x", "a b:$6$a$x", "Ada:$6$a$x"])
def test_a_name_that_is_no_users_stops_it(start, line):
    done = start(line)
    assert done.returncode == 1 and done.stderr.startswith("start: ") and done.stdout == ""
    assert list(start.homes.iterdir()) == []


def test_a_list_that_students_could_read_stops_it(start):
    done = start("ada:$6$a$x", mode=0o644)
    assert done.returncode == 1 and "chmod 600" in done.stderr and list(start.homes.iterdir()) == []
