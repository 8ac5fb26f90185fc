"""The programs in examples/ run at a tiny size, say what they do, and print what a user wants to see."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples"
TINY = {  # program -> its words at a tiny size, and what it prints
    "swap_attention_in_a_llama.py": (
        "--width 16 --steps 3 --ridge-steps 1 --half 3",
        r"softmax attention, trained: +loss \d.*ridge +1000: +loss \d.*ridges of the first layer: \d",
    ),
    "train_bytes_packed.py": (
        "--width 16 --steps 2 --lines 2",
        r"step +0 +\d+ bytes in 2 lines +\d\.\d\d bits a byte\nstep +1",
    ),
    "decode_with_a_cache.py": (
        "--prompt 12 --new 3 --width 32",
        r"difference \d.*15 tokens kept\n.*differs from its own call by \d",
    ),
    "two_process_context_parallel.py": (
        "--tokens 10 --heads 1 --head-size 4",
        r"answers +relative difference \d.*e-\d\d.*gradient of v +relative difference \d.*e-\d\d",
    ),
}


def run(name, words, folder):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    env.pop("TRITON_INTERPRET", None)
    command = [sys.executable, str(FOLDER / name), *words.split()]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_every_example_is_run():
    assert set(TINY) == {path.name for path in FOLDER.iterdir() if path.suffix == ".py"}
    for path in FOLDER.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert source.startswith('"""') and len(source.splitlines()) < 60, path.name
        assert "ArgumentParser(description=__doc__)" in source, path.name


@pytest.mark.parametrize("name", TINY)
def test_an_example_runs_at_a_tiny_size(name, tmp_path):
    if "llama" in name:
        pytest.importorskip("transformers")
    words, said = TINY[name]
    done = run(name, words, tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(said, done.stdout, re.S), done.stdout
