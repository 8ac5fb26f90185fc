"The fragments lab, driven by setting widget values."

import pytest

from helpers import parts
from lla_course.ftct.graph import ALPHABET
from lla_course.ftct.lab import (
    explorer_figure,
    explorer_lab,
    sentence_figure,
    sentence_lab,
    surgery_figure,
    surgery_lab,
    switch_figure,
    switch_lab,
    world_of,
)
from lla_course.ftct.training import cells
from lla_course.records import load

recorded = pytest.mark.skipif(
    any(load(f"51_ftct_training/small_s{s}", cells("fast")[f"small_s{s}"]) is None for s in range(3)),
    reason="not recorded",
)


def text(figure):
    return [a.text for a in figure.layout.annotations]


@pytest.mark.parametrize("vertex", [0, 1, 14])
def test_the_explorer_says_the_parent_and_the_range(vertex):
    world, said = world_of(3), text(explorer_figure(vertex, 3))[-1]
    assert (
        ALPHABET[world.letter[vertex]] in said
        and f"values {100 + world.offset[vertex]} to {119 + world.offset[vertex]}" in said
    )
    if vertex:
        assert f"= {ALPHABET[world.letter[world.parent[vertex]]]} " in said


def test_a_click_chooses_a_vertex():
    lab = explorer_lab()
    controls, message, figure = parts(lab)
    before = text(figure)
    from plotly.callbacks import Points

    figure.data[0]._dispatch_on_click(
        Points(point_inds=[9], xs=[5.0], ys=[0.5], trace_name="", trace_index=0), None
    )
    assert controls["vertex"].value == 9 and text(figure) != before and message.value == ""


@pytest.mark.parametrize(
    "make, control, value",
    [
        (explorer_lab, "vertex", 2),
        (explorer_lab, "graph", 4),
        (sentence_lab, "sentence", 8),
        (sentence_lab, "longest M", 7),
        (sentence_lab, "graph", 2),
    ],
)
def test_every_control_of_the_graph_moves_something(make, control, value):
    controls, message, figure = parts(make())
    before = (text(figure), figure.data[0].marker.color)
    controls[control].value = value
    assert message.value == "" and (text(figure), figure.data[0].marker.color) != before


@recorded
@pytest.mark.parametrize("control, value", [("operation", "other branch"), ("model", 2), ("prompt", 5)])
def test_every_control_of_the_operating_table_moves_something(control, value):
    controls, message, figure = parts(surgery_lab())
    before = text(figure)
    controls[control].value = value
    assert message.value == "" and text(figure) != before


@recorded
@pytest.mark.parametrize("head", ["layer 0, head 0", "layer 0, head 1", "layer 1, head 0", "layer 1, head 1"])
def test_every_switch_costs_something_and_comes_back(head):
    controls, message, figure = parts(switch_lab())
    before = list(figure.data[0].x)
    controls[head].value = False
    off = list(figure.data[0].x)
    assert message.value == "" and sum(off) < sum(before) and head[6] + "." + head[-1] in figure.data[0].name
    controls[head].value = True
    assert list(figure.data[0].x) == before


@recorded
def test_places_and_models_matter():
    values = lambda **how: list(switch_figure(h00=False, h01=False, **how).data[0].x)
    assert (
        values(place="letters")[1] < 0.2
        and values(place="values")[1] > 0.95
        and values(place="values")[0] < 0.6
    )
    assert list(switch_figure(1).data[0].x) != list(switch_figure(2).data[0].x)


def test_impossible_settings_are_named():
    with pytest.raises(ValueError, match="vertex"):
        explorer_figure(15)
    with pytest.raises(ValueError, match="kind"):
        surgery_figure("none")
    with pytest.raises(ValueError, match="M"):
        sentence_figure(M=9)
