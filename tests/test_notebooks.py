"Every notebook runs from top to bottom at preset fast, and leaves what the site can show."

import json

import pytest

from lla_course.course.runner import find_chapters


@pytest.mark.parametrize("chapter", find_chapters(), ids=lambda c: c.stem)
def test_runs(chapter, executed):
    outcome = executed(chapter)
    assert outcome.state in ("ok", "kept"), f"{chapter.stem}: {outcome.error}"
    notebook = json.loads(outcome.output.read_text())
    assert "widgets" not in notebook["metadata"]
    code = [c for c in notebook["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    assert all(c["execution_count"] for c in code)
    noise = [
        o["text"]
        for c in code
        for o in c["outputs"]
        if o.get("name") == "stderr" and "Warning" in "".join(o["text"])
    ]
    assert not noise, f"{chapter.stem} shows a warning: {noise[0]}"
