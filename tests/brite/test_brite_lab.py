"The BRiTE lab, driven by setting widget values."

import numpy as np
import pytest

from helpers import parts
from lla_course.brite.lab import (
    brite_lab,
    coverage_figure,
    coverage_lab,
    digit_writer,
    half_rounds,
    spoken_figure,
    spoken_lab,
    spoken_texts,
    step_holds,
    texts_figure,
    texts_lab,
    thoughts_figure,
    written_texts,
)


def test_half_rounds_are_distributions_and_thinking_is_faithful_more_often():
    path, ends = half_rounds(2, 7, 1.0), digit_writer(2)[1]
    for p in path:
        assert p.min() >= 0 and p.sum() == pytest.approx(1)
    assert path[0][ends == 7].sum() == pytest.approx(0.0394, abs=1e-3) and path[1][
        ends == 7
    ].sum() == pytest.approx(0.769, abs=1e-3)
    assert path[-2][ends == 7].sum() > 0.99


def test_thinking_keeps_what_leads_to_the_answer_and_habits_bring_some_of_the_rest_back():
    path, ends = half_rounds(2, 7, 1.0), digit_writer(2)[1]
    faithful = [p[ends == 7].sum() for p in path[:12]]
    for before, thought, learned in zip(faithful[::2], faithful[1::2], faithful[2::2]):
        assert before < learned < thought - 0.001


def test_start_and_answer_decide_which_way_survives_and_a_high_temperature_lets_none():
    favourite = lambda *setting: half_rounds(*setting)[-2].argmax()
    fate = favourite(2, 7, 1.0)
    assert favourite(2, 3, 1.0) != fate != favourite(5, 7, 1.0)
    after_two_rounds = [half_rounds(2, 7, beta)[4][fate] for beta in (0.2, 0.5, 1.0)]
    assert favourite(2, 7, 0.2) == favourite(2, 7, 0.5) == fate
    assert after_two_rounds == sorted(after_two_rounds, reverse=True) and after_two_rounds[0] > 0.5
    assert half_rounds(2, 7, 1.0)[-2].max() > 0.99 > 0.01 > half_rounds(2, 7, 1.5)[-2].max()


@pytest.mark.parametrize("control, value", [("half rounds", 6), ("β", 0.2), ("start", 5), ("answer", 3)])
def test_every_control_moves_the_bars(control, value):
    controls, message, figure = parts(brite_lab())
    before = np.array(figure.data[0].x)
    controls[control].value = value
    assert message.value == "" and not np.array_equal(before, figure.data[0].x)


def test_coverage_bench():
    controls, message, figure = parts(coverage_lab())
    before = np.array(figure.data[0].y, float)
    controls["samples N"].value = 300
    assert message.value == "" and (np.array(figure.data[0].y, float) >= before).all()
    with pytest.raises(ValueError, match="half=99"):
        thoughts_figure(half=99)
    with pytest.raises(ValueError, match="start=12"):
        thoughts_figure(start=12)
    with pytest.raises(ValueError, match="beta=0"):
        thoughts_figure(beta=0)
    assert len(coverage_figure(draws=1).data) == 3


def test_reader_of_recorded_texts():
    controls, message, figure = parts(texts_lab())
    said = lambda: [a.text for a in figure.layout.annotations]
    controls["run"].value = "n8_0"
    controls["method"].value = "psi"
    assert said().count("right, reasoned") == 8 and np.all(
        np.nan_to_num(np.array(figure.data[0].z, float), nan=1.0) == 1
    )
    controls["method"].value = "psi_told"
    assert message.value == "" and said().count("right by luck") >= 6
    assert figure.layout.margin.l + figure.layout.margin.r < 40  # on a phone the tokens have the whole width
    kept, words = written_texts("n8_0")["rs, kept"]
    assert all(r["right"] for r in kept) and words.startswith("kept")
    with pytest.raises(ValueError, match="^run="):
        texts_figure("n9_0")
    with pytest.raises(ValueError, match="^method="):
        texts_figure("n8_0", "guess")


def test_a_step_is_true_or_false_or_no_equation():
    assert step_holds("12 + 30 = 42") and step_holds("-7 - 3 = -10") and step_holds("3 * 8 = 24")
    assert step_holds(" 12 + 30 = 43") is False
    assert [step_holds(line) for line in ("#### 42", "c h e e p y", "12 + 30", "")] == [None] * 4


def test_reader_of_a_language_model():
    controls, message, figure = parts(spoken_lab())
    assert message.value == "" and len(figure.data[0].y) >= 4
    for run in controls["run"].options:
        controls["run"].value = run
        name = run[1] if isinstance(run, tuple) else run
        assert message.value == "" and len(figure.data[0].y) == len(spoken_texts(name)) > 0
    assert len(controls["run"].options) == 10
    texts = spoken_texts("chain_0")
    for i in range(24):
        fig = spoken_figure("chain_0", i)
        for name, row, last in zip(fig.data[0].y, fig.data[0].z, fig.data[0].text):
            method, grade = name.split(", ")
            judged = [z for z in row if z is not None]
            assert [line for line in texts[method][i].split("\n") if line] == [
                line.replace("<br>", " ") for line in last if line
            ]
            assert (judged[-1] == 1) == (grade in ("faithful", "lucky"))
            assert grade != "faithful" or min(judged) == 1
        assert [a.text for a in fig.layout.annotations] == [*fig.data[0].y]
    assert fig.layout.margin.l + fig.layout.margin.r < 40  # on a phone the lines have the whole width
    with pytest.raises(ValueError, match="^run="):
        spoken_figure("chain_9")
    with pytest.raises(ValueError, match="^problem="):
        spoken_figure("chain_0", 24)
