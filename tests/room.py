"""A room of its own on this machine, for tests that add users: a private /etc, and nothing that stays.

Linux gives a process its own view of the file system (a mount namespace) and its own processes (a PID
namespace). In there, /etc is a copy, and folders that only root may enter are opened as far as Python needs;
outside nothing changes. When the first process ends, so do all others."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENTER = """set -eu
room=$1; shift
mount -t tmpfs -o mode=755 room "$room"
cp -a /etc "$room/etc"
n=0
for path in $OPEN; do n=$((n + 1)); mkdir "$room/$n"; mount --bind "$path" "$room/$n"; done
for path in $SHUT; do mount -t tmpfs -o mode=755 cover "$path"; done
n=0
for path in $OPEN; do n=$((n + 1)); mkdir -p "$path"; mount --bind "$room/$n" "$path"; done
mount --bind "$room/etc" /etc
exec "$@"
"""


def _may_enter(path):
    return path.stat().st_mode & 0o001


def _covers():
    "Folders that only root may enter, and what lies in them that everybody needs."
    needed = {Path(p).resolve() for p in (sys.base_prefix, sys.prefix, ROOT)}
    shut = {next((a for a in reversed(path.parents) if not _may_enter(a)), None): 0 for path in needed}
    shut.pop(None, None)
    inside = [path for path in needed if any(s in path.parents for s in shut)]
    return [p for p in inside if not any(q in p.parents for q in inside)], list(shut)


def need_a_room():
    "Skip the test where no room can be made."
    if not sys.platform.startswith("linux") or os.geteuid() or not shutil.which("unshare"):
        pytest.skip("no room here: it needs Linux, root and unshare, to add users in a private copy of /etc")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no room here: this container may not mount")


def enter(
    folder,  # an empty folder, which becomes the room
    *words,  # what runs in there
):  # the words of a command, which run there
    opened, shut = _covers()
    names = [f"{name}={' '.join(map(str, paths))}" for name, paths in (("OPEN", opened), ("SHUT", shut))]
    private = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["env", *names, *private, "sh", "-c", ENTER, "sh", str(folder), *map(str, words)]
