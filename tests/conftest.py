"""Shared by all tests: seeds, one torch thread for each parallel worker, GPU tests only where there is a GPU,
and memory that starts as NaN."""

import os
import tempfile

import hypothesis
import pytest
import torch

# before any test imports triton
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# what tests pass is nobody's progress
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="lla-data-")

hypothesis.settings.register_profile("house", max_examples=30, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("house")
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    # for chapters and commands that are run: more threads than cores wait for one another, and small products
    # take ten times as long
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(items):
    # the chapters first, on all workers; what opens the whole book last, when it finds them run
    items.sort(
        key=lambda item: 0 if "test_notebooks" in item.nodeid else 2 if "browser" in item.nodeid else 1
    )
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def seeds():
    "Every test starts from the same random numbers, whichever ran before it."
    from lla_course.core import seed_everything

    return seed_everything(0)


def _poisoned(make):
    def empty(*args, **kwargs):
        t = make(*args, **kwargs)
        with torch.no_grad():
            if t.is_floating_point() or t.is_complex():
                t.fill_(float("nan"))
            elif t.dtype != torch.bool:
                t.fill_(torch.iinfo(t.dtype).max)
        return t

    return empty


@pytest.fixture
def nan_empty(monkeypatch):
    """What `torch.empty` and its relatives hand out holds NaN (integers: their largest value), so a kernel
    that leaves an entry unwritten is found out."""
    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, _poisoned(getattr(torch, name)))
    for name in ("new_empty", "new_empty_strided"):
        monkeypatch.setattr(torch.Tensor, name, _poisoned(getattr(torch.Tensor, name)))


@pytest.fixture(scope="session")
def executed():
    """Run a chapter at preset fast: `executed(chapter) -> Outcome`.

    Once for all parallel workers, and kept in build/ between runs of the suite while nothing it depends on
    has changed."""
    from filelock import FileLock

    from lla_course.core import repo_root
    from lla_course.course.runner import run_chapters

    locks = repo_root() / "build" / "locks"
    locks.mkdir(parents=True, exist_ok=True)

    outcomes = {}  # within a worker it is not even asked again whether all is as it was

    def run(chapter):
        if chapter.stem not in outcomes:
            with FileLock(locks / chapter.stem):
                outcomes[chapter.stem] = run_chapters([chapter], jobs=1)[0]
        return outcomes[chapter.stem]

    return run
