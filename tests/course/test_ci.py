"In CI, a test that needs a browser fails where there is none; elsewhere it is skipped with the reason."

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1] / "browser"


@pytest.mark.parametrize("ci", ["1", "true", ""])
def test_without_chromium(tmp_path, ci):
    text = (HERE / "conftest.py").read_text()
    assert "/usr/bin/chromium" in text
    (tmp_path / "conftest.py").write_text(text.replace("/usr/bin/chromium", "/nowhere/chromium"))
    (tmp_path / "test_page.py").write_text("def test_page(page): pass\n")
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "--continue-on-collection-errors"],
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert "needs Chromium at /nowhere/chromium: apt-get install chromium" in said
    assert "no_such_package" in said
    assert (done.returncode != 0) == bool(ci), said
    assert ("2 skipped" in said) != bool(ci) and ("nothing may be skipped" in said) == bool(ci), said


def test_the_gate_needs_chromium(tmp_path):
    "The gate ends before `make test` where the browser cannot be installed."
    script = (
        (HERE.parents[1] / ".ci" / "run").read_text().replace("/usr/bin/chromium", str(tmp_path / "chromium"))
    )
    for name, body in {"apt-get": "exit 1", "make": "touch made", "sudo": "exit 1", "id": "echo 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_text(script)
    run = lambda: subprocess.run(
        ["bash", ".ci/run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    refused = run()
    assert refused.returncode == 1 and "chromium could not be installed" in refused.stderr
    assert not (tmp_path / "made").exists()
    (tmp_path / "apt-get").write_text(
        f"#!/bin/bash\ntouch {tmp_path}/chromium; chmod +x {tmp_path}/chromium\n"
    )
    assert run().returncode == 0 and (tmp_path / "made").exists()
