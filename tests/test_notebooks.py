"Every notebook runs from top to bottom at preset fast, and leaves what the site can show."

import json

import pytest

from lla_course.course.runner import find_chapters
from lla_course.course.site import PLOTLY


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


def figures(notebook):
    "The plotly figures that a run shows, in their order."
    outputs = [o.get("data", {}) for c in notebook["cells"] for o in c.get("outputs", [])]
    return [data[PLOTLY] for data in outputs if PLOTLY in data]


CAPTIONED = [c for c in find_chapters() if "08" <= c.stem < "70"]  # the front page and all parts


@pytest.mark.parametrize("chapter", CAPTIONED, ids=lambda c: c.stem)
def test_every_figure_says_what_to_see(chapter, executed):
    outcome = executed(chapter)
    assert outcome.state in ("ok", "kept"), f"{chapter.stem}: {outcome.error}"
    shown = figures(json.loads(outcome.output.read_text()))
    said = [(f["layout"].get("meta") or {}).get("alt", "") for f in shown]
    for i, sentence in enumerate(said, 1):
        assert len(sentence.split()) >= 8 and sentence.endswith("."), f"figure {i}: {sentence!r}"
    assert len({*said}) == len(said), f"{chapter.stem}: two figures share a sentence"
