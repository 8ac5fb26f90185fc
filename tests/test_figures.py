"""Figures: arrays in, a plotly Figure out; colours by role, axes in words, sliders that need no kernel and
hold the axes still."""

import itertools
import json
import re

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lla_course.core import bad_argument
from lla_course.figures import (
    DIVERGING,
    RISING,
    ROLES,
    Live,
    add_band,
    add_curve,
    add_points,
    add_query,
    add_weights,
    as_table,
    canvas,
    colour,
    described,
    graph,
    heat_map,
    live,
    log_axes,
    log_log,
    remembered,
    simplex,
    tiles,
    when_narrow,
    with_slider,
)

SAID = "The curve rises to the right and ends at one."
X, Y = np.linspace(0, 1, 5), np.array([1.0, -2, 0, 4, 3])
ADD = [
    add_points,
    add_curve,
    add_weights,
    lambda fig, x, y, role="data", name=None, **k: add_band(
        fig, x, y, np.asarray(y) + 1, role, "data" if name is None else name, **k
    ),
]


def numbers(values):
    return np.asarray(values, float)


def drawn(fig):
    return json.loads(fig.to_json())  # what the browser gets


# ---- colours


def test_a_role_has_one_colour_and_the_three_estimators_differ():
    assert all(re.fullmatch("#[0-9A-Fa-f]{6}", c) for c in ROLES.values())
    assert (
        ROLES["softmax"] == ROLES["local_constant"]
        and ROLES["lla"] == ROLES["local_linear"]
        and ROLES["mesa"] == ROLES["global_linear"]
    )
    assert (
        len(
            {
                ROLES[r]
                for r in (
                    "truth",
                    "data",
                    "local_constant",
                    "local_linear",
                    "global_linear",
                    "error",
                    "variance",
                    "light",
                )
            }
        )
        == 8
    )
    assert colour("truth") == "rgba(0,0,0,1)" and colour("local_linear", 0.18) == "rgba(0,114,178,0.18)"


# how a colour, in linear light, looks with each form of colour blindness (Machado and others, 2009)
SIGHT = {
    "full": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def seen(role, sight):
    "The colour of a role in CIE Lab, as somebody sees it."
    c = np.array([int(ROLES[role][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    c = np.clip(SIGHT[sight] @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    c = to_xyz @ c / [0.9505, 1, 1.089]
    x, y, z = np.where(c > 0.008856, np.cbrt(c), 7.787 * c + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_query_error_and_negative_weight_can_be_told_apart(sight):
    for a, b in itertools.combinations(("query", "error", "negative", "lla", "softmax", "truth"), 2):
        assert np.linalg.norm(seen(a, sight) - seen(b, sight)) > 15, (a, b)


def test_unknown_roles():
    for role in ("blue", "", None):
        with pytest.raises(ValueError, match="^role=.*truth, data"):
            colour(role)
    for add in ADD:
        with pytest.raises(ValueError, match="^role='blue'"):
            add(canvas("x", "y", "w", alt=SAID), X, Y, "blue")


# ---- the canvas and what stands on it


def test_what_is_done_to_a_canvas_stays_on_it():
    draw = lambda: canvas("x", "y", "w", heights=[0.75, 0.25], alt=SAID)
    before, fig = draw().to_dict(), draw()
    fig.update_layout(height=10, font_size=9, legend_x=0.5).update_xaxes(range=[0, 1], title_text="other")
    fig.update_yaxes(domain=[0, 0.1]).add_annotation(text="odd", x=1, y=1)
    add_curve(fig, X, Y, "lla", row=2)
    assert draw().to_dict() == before != fig.to_dict()


@pytest.mark.parametrize("y", [(), ("y",), ("y", "w"), ("a", "b", "c")])
def test_a_canvas_titles_every_axis(y):
    fig = canvas("position x (m)", *y, alt=SAID)
    rows = max(len(y), 1)
    axes = [fig.layout[f"yaxis{i or ''}"] for i in (None, *range(2, rows + 1))]
    assert [a.title.text for a in axes] == list(y or [""]) and fig.layout[
        f"xaxis{rows if rows > 1 else ''}"
    ].title.text == "position x (m)"
    assert (
        fig.layout.height == (360 if rows == 1 else 230 * rows)
        and canvas("x", *y, height=100, alt=SAID).layout.height == 100
    )
    if rows > 1:
        assert fig.layout.xaxis.matches, "rows share their horizontal axis"


def test_relative_heights():
    span = lambda axis: axis.domain[1] - axis.domain[0]
    fig = canvas("x", "y", "w", heights=[0.75, 0.25], alt=SAID)
    assert span(fig.layout.yaxis) == pytest.approx(3 * span(fig.layout.yaxis2))


@pytest.mark.parametrize("add", ADD)
@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_adding_returns_the_same_figure_and_keeps_the_data(add, kind):
    x, y = kind(X.tolist()), kind(Y.tolist())
    fig = canvas("x", "y", "w", alt=SAID)
    assert add(fig, x, y, "local_linear", row=2) is fig and len(fig.data) == 1 and fig.data[0].yaxis == "y2"
    assert np.array_equal(numbers(x), X) and np.array_equal(numbers(y), Y)
    assert add(fig, x, y, "data", row=1).data[1].yaxis in ("y", None)
    shown = drawn(fig)["data"][0]
    assert shown["xaxis"] == "x2"


@pytest.mark.parametrize("add", ADD)
def test_names_and_legends(add):
    trace = lambda name: add(canvas("x", "y", "w", alt=SAID), X, Y, "local_constant", name).data[0]
    assert trace("words").name == "words" and trace("words").showlegend and not trace("").showlegend
    if add in ADD[:3]:
        assert trace(None).name == "local constant" and trace(None).showlegend


def test_points_and_curves_draw_what_they_got():
    fig = add_curve(
        add_points(canvas("x", "y", alt=SAID), X, Y, size=9, symbol="x"),
        X,
        Y,
        "error",
        dash="dot",
        markers=True,
    )
    points, curve = fig.data
    assert (
        points.mode == "markers"
        and points.marker.color == colour("data")
        and (points.marker.size, points.marker.symbol) == (9, "x")
    )
    assert curve.mode == "lines+markers" and curve.line.color == colour("error") and curve.line.dash == "dot"
    for trace in (points, curve):
        assert np.array_equal(trace.x, X) and np.array_equal(trace.y, Y)
    assert add_curve(canvas("x", "y", alt=SAID), X, Y, "truth").data[0].mode == "lines"


def test_a_band_encloses_what_lies_between():
    low, high = Y - 1, Y + 2
    band = add_band(canvas("x", "y", alt=SAID), X, low, high, "local_linear").data[0]
    assert band.fill == "toself" and band.fillcolor == colour("local_linear", 0.18) and not band.showlegend
    corners = set(zip(band.x, band.y))
    assert (
        corners == set(zip(X, low)) | set(zip(X, high))
        and len(band.x) == 10
        and list(band.x[:5]) == list(X)
        and list(band.x[5:]) == list(X[::-1])
    )


@given(arrays(float, st.integers(0, 6), elements=st.floats(-5, 5)))
def test_one_stem_a_weight_from_zero(weights):
    x = np.arange(len(weights)) / 3
    trace = add_weights(canvas("x", "y", "w", alt=SAID), x, weights, "lla").data[0]
    stems = numbers(trace.y).reshape(-1, 3)
    places = numbers(trace.x).reshape(-1, 3)
    assert (
        trace.yaxis == "y2"
        and np.array_equal(stems[:, 0], 0 * weights)
        and np.array_equal(stems[:, 1], weights)
        and np.isnan(stems[:, 2]).all()
    )
    assert (
        np.array_equal(places[:, 0], x) and np.array_equal(places[:, 1], x) and np.isnan(places[:, 2]).all()
    )


def test_a_query_is_a_line_through_all_rows():
    fig = canvas("x", "y", "w", alt=SAID)
    add_points(fig, X, Y)
    add_weights(fig, X, Y, "lla")
    assert add_query(fig, 0.3) is fig and [(s.x0, s.x1) for s in fig.layout.shapes] == [(0.3, 0.3)] * 2
    assert {s.line.color for s in fig.layout.shapes} == {colour("query")}


# ---- sliders


def frame(k, rows=1, at=None):
    fig = add_curve(canvas("x", *["y", "w"][:rows], alt=SAID), X + k, k * Y, "lla")
    if rows == 2:
        add_weights(fig, X[:2], k * Y[:2], "data")
    return fig if at is None else add_query(fig, at)


def test_a_slider_carries_every_figure():
    fig = with_slider({k: frame(k, at=k) for k in range(5)}, name="factor k")
    assert [f.name for f in fig.frames] == list("01234") and [
        s.label for s in fig.layout.sliders[0].steps
    ] == list("01234")
    for k, f in enumerate(fig.frames):
        assert np.array_equal(f.data[0].y, k * Y) and f.layout.shapes[0].x0 == k
        assert list(fig.layout.sliders[0].steps[k].args[0]) == [str(k)]
    assert (
        fig.layout.sliders[0].active == 2
        and np.array_equal(fig.data[0].y, 2 * Y)
        and fig.layout.sliders[0].currentvalue.prefix == "factor k: "
    )
    assert len(drawn(fig)["frames"]) == 5
    assert with_slider({0: canvas("x", "y", height=500, alt=SAID)}, name="k").layout.height == 570, (
        "room for the slider below"
    )


@pytest.mark.parametrize("active", [0, 1, 4])
def test_the_slider_stands_at_the_figure_that_is_shown(active):
    fig = with_slider({k: frame(k) for k in range(5)}, name="k", active=active)
    assert fig.layout.sliders[0].active == active and np.array_equal(fig.data[0].y, active * Y)


@pytest.mark.parametrize("active", [5, -1, 1.5, "0"])
def test_a_slider_cannot_stand_beside_its_figures(active):
    with pytest.raises(ValueError, match="active"):
        with_slider({k: frame(k) for k in range(5)}, name="k", active=active)


def test_frames_must_fit_together():
    for frames in ({}, {0: frame(0), 1: add_points(frame(1), X, Y)}):
        with pytest.raises(ValueError, match="^frames=.*at least one figure"):
            with_slider(frames, name="k")


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("log", [False, True])
def test_axes_stand_still_and_hold_every_point(rows, log):
    figures = {k: frame(k, rows) for k in range(1, 5)}
    if log:
        figures = {k: f.update_yaxes(type="log") for k, f in figures.items()}
    fig = with_slider(figures, name="k")
    for f in fig.frames:
        assert not any(
            "range" in json.dumps(f.layout.to_plotly_json().get(a, {})) for a in ("xaxis", "yaxis")
        )
        for trace in f.data:
            for letter in "xy":
                axis = fig.layout[(trace[f"{letter}axis"] or letter).replace(letter, f"{letter}axis")]
                axis = fig.layout[axis.matches.replace(letter, f"{letter}axis")] if axis.matches else axis
                values = numbers(trace[letter])
                values = values[np.isfinite(values)]
                if axis.type == "log":
                    values = np.log10(values[values > 0])
                assert (
                    axis.range is not None and axis.range[0] <= values.min() and values.max() <= axis.range[1]
                )


def test_a_range_that_is_set_is_kept_and_frames_may_be_empty():
    figures = {k: frame(k).update_yaxes(range=[-1, 1]) for k in range(3)}
    assert list(with_slider(figures, name="k").layout.yaxis.range) == [-1, 1]
    empty = {k: add_curve(canvas("x", "y", alt=SAID), [], [], "lla") for k in range(2)}
    assert len(with_slider(empty, name="k").frames) == 2
    constant = with_slider(
        {0: add_curve(canvas("x", "y", alt=SAID), [1.0], [2.0], "lla")}, name="k"
    ).layout.yaxis.range
    assert constant[0] < 2 < constant[1]


def test_a_frame_holds_what_moves_and_nothing_else():
    still = lambda k: add_curve(frame(k, at=0.5), X, Y, "truth")
    fig = with_slider({k: still(k) for k in range(3)}, name="k")
    assert [(f.traces, len(f.data)) for f in fig.frames] == [((0,), 1)] * 3
    assert all(f.layout.to_plotly_json() == {} for f in fig.frames) and len(fig.layout.shapes) == 1
    assert np.array_equal(fig.frames[2].data[0].y, 2 * Y) and np.array_equal(fig.data[1].y, Y)
    alike = with_slider({k: frame(1) for k in range(2)}, name="k")
    assert [len(f.data) for f in alike.frames] == [0, 0] and np.array_equal(alike.data[0].y, Y)


def test_the_figures_given_are_not_changed():
    figures = {k: frame(k) for k in range(3)}
    before = [drawn(f) for f in figures.values()]
    with_slider(figures, name="k")
    assert [drawn(f) for f in figures.values()] == before


# ---- live figures


def test_a_live_figure_follows_its_controls():
    seen = []

    def draw(k, shift):
        seen.append((k, shift))
        if k > 3:
            raise ValueError("k=4: expected <= 3")
        return add_query(add_curve(canvas("x", "y", alt=SAID), X + shift, k * Y, "lla", f"k = {k}"), k)

    k, shift = ipywidgets.IntSlider(value=1, max=9), ipywidgets.FloatText(value=0.0)
    lab = live(draw, k=k, shift=shift)
    grid, message, shown = lab.children
    assert (lab.message, lab.figure) == (message, shown)
    assert grid.children == (k, shift) and seen == [(1, 0)] and np.array_equal(shown.data[0].y, Y)
    k.value = 2
    shift.value = 0.5
    assert (
        seen[1:] == [(2, 0), (2, 0.5)]
        and np.array_equal(shown.data[0].y, 2 * Y)
        and np.array_equal(shown.data[0].x, X + 0.5)
    )
    assert shown.data[0].name == "k = 2" and shown.layout.shapes[0].x0 == 2 and message.value == ""
    k.value = 4
    assert "k=4: expected &lt;= 3" in message.value and np.array_equal(shown.data[0].y, 2 * Y), (
        "the last good figure stays, and says why"
    )
    k.value = 3
    assert message.value == "" and np.array_equal(shown.data[0].y, 3 * Y)


def test_whatever_goes_wrong_is_said():
    def draw(k):
        if k == 1:
            raise KeyError("<gone>")
        if k == 2:
            bad_argument("k", k, "another one")
        if k == 3:
            return {}["no figure"]
        if k == 4:
            return None
        return add_curve(canvas("x", "y", alt=SAID), X, k * Y, "lla")

    k = ipywidgets.IntSlider(value=0, max=9)
    _, message, shown = live(draw, k=k).children
    for value, said in (
        (1, "KeyError: &#x27;&lt;gone&gt;&#x27;"),
        (2, "k=2: expected another one"),
        (3, "KeyError: &#x27;no figure&#x27;"),
        (4, "AttributeError: "),
    ):
        k.value = value  # the last good figure stays, and says why
        assert said in message.value and np.array_equal(shown.data[0].y, 0 * Y)
    k.value = 5
    assert message.value == "" and np.array_equal(shown.data[0].y, 5 * Y)


STYLES = (None, "dot", "dash")


def everything(k):
    "A drawing of which each position of a slider changes another part."
    fig = add_curve(canvas("x", f"height {k}", height=300 + k, alt=SAID), X, k * Y, "lla", dash=STYLES[k % 3])
    if k % 2:
        fig.update_xaxes(range=[0, k]).update_layout(title_text=f"title {k}", showlegend=False)
    if k in (2, 3, 7):
        add_points(fig, X, Y, size=k).update_traces(hovertext=f"{k}", selector=dict(mode="markers"))
    if k in (3, 5):
        fig.add_trace(go.Heatmap(z=k * np.eye(2)))
    if k == 4:
        log_axes(add_query(fig, 1.0), "y").add_annotation(text="four", x=1, y=1)
    if k == 5:
        fig = go.Figure(go.Heatmap(z=np.eye(3), colorscale=[(0, "red"), (1, "blue")], showscale=False))
    if k == 6:
        fig = add_curve(canvas("a", "b", "c", alt=SAID), X, Y, "mesa", row=2)
    return fig


def content(figure):
    "A figure without the names that widgets give to traces."
    plain = [{k: v for k, v in t.to_plotly_json().items() if k != "uid"} for t in figure.data]
    layout = figure.layout.to_plotly_json()
    for part in layout.values():
        if isinstance(part, dict) and part.get("autorange") is True:  # as an axis without a range has it
            del part["autorange"]
    return plain, layout


def empty(value):
    if isinstance(value, (dict, list, tuple)):
        return all(map(empty, value.values() if isinstance(value, dict) else value))
    return value is None


def alike(a, b):
    "Whether two parts of a figure say the same; what is empty says nothing."
    if isinstance(a, dict) and isinstance(b, dict):
        return all(alike(a.get(k), b.get(k)) for k in {*a, *b})
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    return empty(a) and empty(b) or bool(np.array_equal(a, b))


@settings(max_examples=15)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_a_live_figure_is_the_one_that_would_be_drawn(moves):
    "Whatever was shown before: axes, titles, dashes, and traces that come, go and change their kind."
    k = ipywidgets.IntSlider(value=0, max=9)
    lab = live(everything, k=k)
    for k.value in moves:
        assert lab.message.value == "" and all(map(alike, content(lab.figure), content(everything(k.value))))


def test_ranges_titles_and_dashes_move():
    k = ipywidgets.IntSlider(value=0, max=9)
    lab = live(everything, k=k)
    assert isinstance(lab, Live) and lab.controls == {"k": k} and lab.values == {"k": 0}
    shown = lab.figure
    k.value = 1
    assert tuple(shown.layout.xaxis.range) == (0, 1) and shown.layout.title.text == "title 1"
    assert shown.layout.yaxis.title.text == "height 1" and shown.data[0].line.dash == "dot"
    assert shown.layout.height == 301 and shown.layout.showlegend is False
    k.value = 2
    assert shown.layout.xaxis.range is None and shown.layout.title.text is None
    assert shown.data[0].line.dash == "dash" and len(shown.data) == 2 and shown.data[1].hovertext == "2"
    k.value = 0
    assert shown.data[0].line.dash is None and len(shown.data) == 1 and shown is lab.figure


def test_what_a_reader_has_changed_stays_until_the_drawing_changes_it():
    k = ipywidgets.IntSlider(value=0, max=9)
    lab = live(everything, k=k)
    curve = lab.figure.data[0]
    lab.figure.update_xaxes(range=[0.2, 0.3])
    curve.visible = "legendonly"
    k.value = 2
    assert tuple(lab.figure.layout.xaxis.range) == (0.2, 0.3) and curve.visible == "legendonly"
    assert lab.figure.data[0] is curve  # so that a click on it is still heard
    k.value = 3
    assert tuple(lab.figure.layout.xaxis.range) == (0, 3)


def test_a_figure_that_is_changed_in_place_moves_too():
    fig, k = everything(0), ipywidgets.IntSlider(value=0, max=9)
    lab = live(lambda k: fig.update_layout(title_text=f"now {k}"), k=k)
    k.value = 4
    assert lab.figure.layout.title.text == "now 4"


def test_a_live_matrix():
    n = ipywidgets.IntSlider(value=1)
    shown = live(lambda n: heat_map(n * np.eye(2), x="j", y="i", alt=SAID), n=n).children[2]
    n.value = 5
    assert np.array_equal(shown.data[0].z, 5 * np.eye(2))


def test_live_markers_and_surfaces():
    n = ipywidgets.IntSlider(value=1)

    def draw(n):
        return add_points(canvas("x", "y", alt=SAID), X[:n], Y[:n], size=n * np.arange(1.0, n + 1)).add_trace(
            go.Surface(z=n * np.eye(2))
        )

    shown = live(draw, n=n).children[2]
    n.value = 3
    assert (
        np.array_equal(shown.data[0].marker.size, [3, 6, 9])
        and shown.data[0].marker.color == colour("data")
        and np.array_equal(shown.data[1].z, 3 * np.eye(2))
    )


def test_what_is_remembered_is_computed_once_and_what_cannot_be_is_handed_on():
    calls = []

    @remembered(4)
    def slow(x, y=0):
        "Words."
        calls.append(x)
        if isinstance(x, list):
            raise ValueError("x=[]: expected a number")
        return x, y

    assert slow.__doc__ == "Words." and slow(1) == slow(1) == (1, 0) and calls == [1]
    assert (slow(True), slow(1.0), slow(1, y=2)) == ((1, 0), (1, 0), (1, 2))  # other arguments, all of them
    assert calls == [1, True, 1.0, 1] and [type(x) for x in calls[:3]] == [int, bool, float]
    for _ in range(2):
        with pytest.raises(ValueError, match="^x="):
            slow([])
    slow.cache_clear()
    assert slow(1) == (1, 0) and len(calls) == 7


# ---- rates, matrices, tiles


def test_rates_have_reference_lines_of_their_slope_through_the_last_point():
    n = np.array([10, 100, 1000])
    errors = {"lla": 5 / n, "softmax": n**-0.5}
    fig = log_log(
        list(n),
        errors,
        x="n",
        y="error",
        slopes={"lla": -1.0, "softmax": -0.75},
        names={"lla": "line"},
        alt=SAID,
    )
    assert fig.layout.xaxis.type == fig.layout.yaxis.type == "log" and [t.name for t in fig.data] == [
        "line",
        "slope -1",
        "softmax",
        "slope -0.75",
    ]
    for (role, error), reference, slope in zip(errors.items(), fig.data[1::2], (-1, -0.75)):
        assert reference.y[-1] == pytest.approx(error[-1]) and np.allclose(
            np.diff(np.log(reference.y)) / np.diff(np.log(n)), slope
        )
        assert reference.line.color == colour(role) and reference.line.dash == "dot"
    assert len(log_log(n, errors, x="n", y="e", alt=SAID).data) == 2


@given(arrays(float, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(-5, 5)))
def test_a_heat_map_has_row_zero_on_top_and_zero_white(values):
    fig = heat_map(values, x="j", y="i", bar="w", alt=SAID)
    trace = fig.data[0]
    assert (
        np.array_equal(trace.z, values)
        and fig.layout.yaxis.autorange == "reversed"
        and trace.zmax >= np.abs(values).max()
        and trace.zmax > 0
    )
    scale = [tuple(s) for s in trace.colorscale]
    if (values < 0).any():
        assert trace.zmin == -trace.zmax and scale == DIVERGING and dict(DIVERGING)[0.5] == "#ffffff"
    else:
        assert trace.zmin == 0 and scale == RISING and dict(RISING)[0] == "#ffffff"
    assert (
        heat_map(values, x="j", y="i", signed=True, alt=SAID).data[0].zmin < 0
        and heat_map(np.abs(values), x="j", y="i", signed=False, alt=SAID).data[0].zmin == 0
    )


def test_a_heat_map_of_tensors_and_gaps():
    assert (
        heat_map(torch.eye(2), x="j", y="i", alt=SAID).data[0].zmax == 1
        and heat_map([[np.nan, 2]], x="j", y="i", alt=SAID).data[0].zmax == 2
    )


def test_every_state_of_a_tile_has_its_shade():
    fig = tiles([[0, 1], [2, 3]], x="key tile", y="query tile", alt=SAID)
    trace = fig.data[0]
    shade = lambda v: next(
        c
        for (low, c), (high, _) in zip(trace.colorscale[::2], trace.colorscale[1::2])
        if low <= (v - trace.zmin) / (trace.zmax - trace.zmin) < high
    )
    assert len({shade(v) for v in range(4)}) == 4 and shade(1) == "#ffffff" and shade(3) == ROLES["softmax"]
    assert (
        fig.layout.yaxis.autorange == "reversed"
        and fig.layout.yaxis.scaleanchor == "x"
        and fig.layout.xaxis.title.text == "key tile"
    )


# ---- graphs and simplices


def test_a_graph_draws_vertices_and_arrows():
    places = {"A": (0, 1), "B": (2, 3), 7: (4, 5)}
    fig = graph(places, [("A", "B"), ("B", 7)], roles={"A": "query"}, alt=SAID)
    trace = fig.data[0]
    assert list(trace.text) == ["A", "B", "7"] and list(zip(trace.x, trace.y)) == list(places.values())
    assert list(trace.marker.color) == [colour("query"), colour("data"), colour("data")]
    assert [((a.ax, a.ay), (a.x, a.y)) for a in fig.layout.annotations] == [
        ((0, 1), (2, 3)),
        ((2, 3), (4, 5)),
    ] and all(a.showarrow for a in fig.layout.annotations)
    with pytest.raises(ValueError, match="^role='blue'"):
        graph(places, [], roles={"A": "blue"}, alt=SAID)
    with pytest.raises((ValueError, KeyError)):
        graph(places, [("A", "Z")], alt=SAID)


def test_a_simplex_draws_the_path_in_its_order():
    p = np.array([[1, 0, 0], [0.2, 0.3, 0.5]])
    fig = simplex(p, ("sun", "cloud", "rain"), role="lla", name="path", alt=SAID)
    trace = fig.data[0]
    assert (
        np.array_equal(np.c_[trace.a, trace.b, trace.c], p)
        and trace.line.color == colour("lla")
        and trace.showlegend
    )
    ternary = fig.layout.ternary
    assert [ternary[f"{a}axis"].title.text for a in "abc"] == ["sun", "cloud", "rain"] and ternary.sum == 1
    for wrong in ([[0.5, 0.5]], [0.2, 0.3, 0.5]):
        with pytest.raises((ValueError, TypeError)):
            simplex(wrong, ("a", "b", "c"), alt=SAID)


def test_controls_choose_their_kind():
    from lla_course.figures import choice, slider

    assert isinstance(slider("n", 3, 1, 9, 1), ipywidgets.IntSlider) and isinstance(
        slider("x", 0.5, 0.0, 1.0, 0.1), ipywidgets.FloatSlider
    )
    assert isinstance(choice("kernel", ["a", "b"], "a"), ipywidgets.Dropdown) and isinstance(
        choice("ridge", [0.1, 1.0], 0.1), ipywidgets.SelectionSlider
    )
    assert choice("kernel", ["a", "b"], "b").value == "b" and slider("n", 3, 1, 9, 1).description == "n"


def test_only_powers_of_ten_are_written_along_many_decades():
    words = lambda x, which="x": [
        t
        for t in log_axes(add_curve(canvas("x", "y", alt=SAID), x, x, "lla"), which)
        .layout[f"{which}axis"]
        .ticktext
        if t
    ]
    assert {"1", "2", "5", "10"} <= {*words([1, 20])} and {"1", "2", "5", "10"} <= {*words([1, 1000], "y")}
    assert "10" in words([1, 1000]) and not {"2", "5", "0.5"} & {*words([1, 1000])}


def test_a_figure_says_what_changes_on_a_narrow_page():
    said = SAID
    fig = described(when_narrow(canvas("x", "y", alt=said), height=700, yaxis__domain=[0, 0.5]), said)
    assert fig.layout.meta == {"alt": said, "narrow": {"height": 700, "yaxis.domain": [0, 0.5]}}


def test_a_figure_says_what_to_see():
    said = SAID
    shown = [
        canvas("x", "y", alt=said),
        heat_map([[1.0]], x="a", y="b", alt=said),
        tiles([[1]], x="a", y="b", alt=said),
        graph({"A": (0, 0)}, [], alt=said),
        simplex([[1.0, 0, 0]], ("a", "b", "c"), alt=said),
        log_log([1, 2], {"lla": [2, 1]}, x="n", y="error", alt=said),
        with_slider({1: canvas("x", alt=""), 2: canvas("x", alt="")}, name="n", alt=said),
        with_slider({1: canvas("x", alt=said)}, name="n"),
    ]
    assert {f.layout.meta["alt"] for f in shown} == {said} and canvas("x", alt="").layout.meta is None
    for wrong in ("A curve.", 3, None):
        with pytest.raises(ValueError, match="^alt=.*at least eight words that says what to see$"):
            canvas("x", alt=wrong)
    with pytest.raises(ValueError, match="^alt='': expected a sentence"):
        with_slider({1: canvas("x", alt="")}, name="n")


@pytest.mark.parametrize(
    "draw, given",
    [
        (canvas, dict(x="x")),
        (heat_map, dict(values=[[1.0]], x="a", y="b")),
        (tiles, dict(state=[[1]], x="a", y="b")),
        (graph, dict(positions={"A": (0, 0)}, edges=[])),
        (simplex, dict(points=[[1.0, 0, 0]], corners=("a", "b", "c"))),
        (log_log, dict(n=[1, 2], errors={"lla": [2, 1]}, x="n", y="error")),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_no_figure_is_drawn_without_a_word_of_what_to_see(draw, given):
    with pytest.raises(
        TypeError, match=f"^{draw.__name__}.* missing 1 required keyword-only argument: 'alt'$"
    ):
        draw(**given)


def test_a_table_leaves_empty_what_a_row_lacks():
    page = as_table([{"run": "a", "error": 0.0123456}, {"run": "b", "n": 12345}], 2).to_html()
    assert "0.012" in page and "0.0123" not in page and "1.2e+04" not in page.replace("12345", "")
    assert "nan" not in page and page.count("<th ") == 3
