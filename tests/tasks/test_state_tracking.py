"""State tracking: words and worlds, the mirror that is a swap, the machine set by hand, and the claim of the
chapter with its margin."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import default_dtype
from lla_course.models import DecoderConfig
from lla_course.tasks.mixers import recurrence
from lla_course.tasks.state_tracking import (
    RUNNERS,
    Config,
    StepToTwo,
    apply_moves,
    apply_moves_doubling,
    ball_logits,
    build_model,
    cells,
    evaluate,
    identity_places,
    is_even,
    make_words,
    mean_rows,
    moves,
    reach,
    run,
    swap_machine,
    verdicts,
)

torch.set_num_threads(1)  # small matrices

gen = lambda s=0: torch.Generator().manual_seed(s)
WORLDS = ("swap2", "swap3", "swap5", "swap12", "A5", "A4xZ5", "Z60")
TINY = Config(
    "swap3",
    "deltanet",
    width=16,
    length=4,
    test=9,
    steps=4,
    batch=8,
    words=8,
    rates=(1e-3, 1e-2),
    seeds=(0, 1),
)
compose = lambda a, b: b.gather(-1, a)  # first a, then b

# ---- worlds


@pytest.mark.parametrize(
    "world, G, N",
    [
        ("swap2", 1, 2),
        ("swap3", 3, 3),
        ("swap5", 10, 5),
        ("swap12", 66, 12),
        ("A5", 60, 5),
        ("A4xZ5", 60, 9),
        ("Z60", 60, 12),
    ],
)
def test_a_world_has_different_moves_that_are_permutations(world, G, N):
    m = moves(world)
    assert m.shape == (G, N) and m.dtype == torch.int64 and len({tuple(r) for r in m.tolist()}) == G
    assert (m.sort(1).values == torch.arange(N)).all()


@pytest.mark.parametrize("world", ["A5", "A4xZ5", "Z60"])
def test_the_sixty_moves_are_a_group(world):
    m = moves(world)
    known = {tuple(r) for r in m.tolist()}
    assert {tuple(compose(a, b).tolist()) for a in m for b in m} == known
    commute = all((compose(a, b) == compose(b, a)).all() for a in m for b in m)
    assert commute == (world == "Z60")


def derived(group):
    "The subgroup that commutators generate, as tuples."
    after = lambda a, b: tuple(b[i] for i in a)
    inverse = lambda a: tuple(sorted(range(len(a)), key=a.__getitem__))
    found = {after(after(inverse(a), inverse(b)), after(a, b)) for a in group for b in group}
    while (more := found | {after(a, b) for a in found for b in found}) != found:
        found = more
    return found


@pytest.mark.parametrize("world, sizes", [("A5", [60, 60]), ("A4xZ5", [60, 4, 1]), ("Z60", [60, 1])])
def test_only_a5_cannot_be_taken_apart(world, sizes):
    group, found = {tuple(r) for r in moves(world).tolist()}, []
    for _ in sizes:
        found.append(len(group))
        group = derived(group)
    assert found == sizes


def test_swaps_are_odd_undo_themselves_and_touch_two_places():
    m = moves("swap6")
    assert not any(is_even(tuple(r)) for r in m.tolist()) and all(
        is_even(tuple(r)) for r in moves("A5").tolist()
    )
    assert (compose(m, m) == torch.arange(6)).all() and ((m != torch.arange(6)).sum(1) == 2).all()


# ---- words


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(WORLDS), st.integers(1, 40), st.integers(0, 99))
def test_doubling_is_the_loop(world, length, seed):
    m = moves(world)
    word = torch.randint(len(m), (3, length), generator=gen(seed))
    places = apply_moves(m, word)
    assert torch.equal(places, apply_moves_doubling(m, word)) and places.shape == (3, length, m.shape[1])
    assert (places.sort(-1).values == torch.arange(m.shape[1])).all()
    assert torch.equal(places[:, 0], m[word[:, 0]])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_a_word_and_its_mirror_image_lead_home(word):
    there_and_back = torch.tensor(word + word[::-1])
    assert apply_moves(moves("swap5"), there_and_back)[-1].tolist() == [0, 1, 2, 3, 4]


def test_a_move_sends_the_ball_that_stands_there():
    m = moves("swap4")
    swap = lambda i, j: next(g for g, r in enumerate(m.tolist()) if r[i] == j)
    assert apply_moves(m, torch.tensor([swap(0, 1), swap(1, 2)])).tolist() == [[1, 0, 2, 3], [2, 0, 1, 3]]
    assert apply_moves(m, torch.tensor([], dtype=torch.int64)).shape == (0, 4)


def test_words_begin_at_home_and_repeat_with_the_seed():
    m = moves("swap5")
    (tokens, places), again, other = (make_words(m, 6, 20, gen(s)) for s in (1, 1, 2))
    assert (
        tokens.shape == (6, 21)
        and places.shape == (6, 21, 5)
        and (tokens[:, 0] == 10).all()
        and tokens[:, 1:].max() < 10
    )
    assert (places[:, 0] == torch.arange(5)).all() and torch.equal(
        places[:, 1:], apply_moves(m, tokens[:, 1:])
    )
    assert (
        torch.equal(tokens, again[0]) and torch.equal(places, again[1]) and not torch.equal(tokens, other[0])
    )


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_the_chance_of_being_at_home(n):
    _, places = make_words(moves(f"swap{n}"), 4000, 12, gen(n))
    seen, theory = (places[..., 0] == 0).double().mean(0), identity_places(n, torch.arange(13))
    assert ((seen - theory).abs() < 4 * 0.5 / 4000**0.5).all() and theory[0] == 1


# ---- the mirror and the machine


@pytest.mark.parametrize("n", [2, 3, 6])
def test_memory_plus_identity_is_mirrored(n):
    m = moves(f"swap{n}")
    word = torch.randint(len(m), (50,), generator=gen(n))
    pairs = (m[word] != torch.arange(n)).nonzero()[:, 1].view(-1, 2)
    eye = torch.eye(n, dtype=torch.float64)
    k = (eye[pairs[:, 0]] - eye[pairs[:, 1]]) / 2**0.5
    W = recurrence("delta", k, k, -k, 0 * k[:, :1], 2 + 0 * k[:, :1])[1][0]
    place = apply_moves(m, word)[-1]
    torch.testing.assert_close(W + eye, eye[place], rtol=0, atol=1e-12)  # row b is one where ball b stands


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 7), st.integers(1, 60), st.integers(0, 99))
def test_the_machine_is_right_on_any_word(n, length, seed):
    tokens, places = make_words(moves(f"swap{n}"), 2, length, gen(seed))
    with torch.no_grad():
        assert torch.equal(ball_logits(swap_machine(n), tokens, n).argmax(-1), places)


def test_the_machine_does_not_tire():
    tokens, places = make_words(moves("swap5"), 1, 4000, gen())
    with torch.no_grad():
        assert torch.equal(ball_logits(swap_machine(5), tokens, 5).argmax(-1), places)
    assert len(swap_machine(5).blocks) == 1


def test_the_same_machine_with_a_step_of_one_fails_at_the_second_swap():
    # sigmoid one half, step one
    machine = swap_machine(3)
    machine.blocks[0].mixer.to_beta.bias.data.fill_(0.0)
    tokens = torch.tensor([[3, 0, 0, 0, 0]])
    with torch.no_grad():
        said = ball_logits(machine, tokens, 3)
    torch.testing.assert_close(said[0, 1, 0, 0], said[0, 2, 0, 0])  # nothing changes any more
    # and the two balls cannot be told apart
    torch.testing.assert_close(said[0, 1:, 0], said[0, 1:, 1])


def test_step_to_two_doubles_the_step_and_nothing_else():
    cfg, x = DecoderConfig(4, width=16), torch.randn(2, 5, 16, generator=gen())
    torch.manual_seed(0)
    wide = RUNNERS["deltanet_2"](cfg)
    torch.manual_seed(0)
    usual = RUNNERS["deltanet"](cfg)
    assert isinstance(wide, StepToTwo)
    for i, (a, b) in enumerate(zip(wide.tokens(x, torch.arange(5)), usual.tokens(x, torch.arange(5)))):
        if a is None:
            assert b is None
        else:
            torch.testing.assert_close(a, 2 * b if i == 4 else b)
    state = wide.start(2, 5)
    parts = [wide.step(x[:, t : t + 1], None if t == 0 else state, torch.full((2, 1), t)) for t in range(1)]
    whole, (first, state) = wide(x), parts[0]
    rest, _ = wide.step(x[:, 1:], state, torch.arange(1, 5).expand(2, 4))
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, rtol=1e-4, atol=1e-5)


# ---- contests


@pytest.mark.parametrize("mixer", RUNNERS)
def test_no_contestant_sees_a_move_before_it_is_made(mixer):
    model = build_model(replace(TINY, mixer=mixer)).eval()
    tokens, _ = make_words(moves("swap3"), 2, 9, gen())
    other = tokens.clone()
    other[:, 6:] = (other[:, 6:] + 1) % 3
    with torch.no_grad():
        a, b = (ball_logits(model, t, 3) for t in (tokens, other))
    torch.testing.assert_close(a[:, :6], b[:, :6])
    assert a.shape == (2, 10, 3, 3) and not torch.allclose(a[:, 6:], b[:, 6:])


def test_positions_fit_the_mixer():
    at = lambda mixer, positions="": (
        build_model(replace(TINY, mixer=mixer, positions=positions)).cfg.positions
    )
    assert (
        at("softmax") == at("lla") == "rotary"
        and at("deltanet") == at("gla") == "none"
        and at("lla", "none") == "none"
    )


def test_a_run_repeats_itself_and_keeps_what_a_reader_wants():
    a, b = run(TINY).result, run(TINY).result
    for r in (*a["runs"], *b["runs"]):
        r.pop("seconds")
    assert (
        a == b and len(a["runs"]) == len(a["score"]) == 2 and len(a["grid"]) == 2 and a["rate"] in TINY.rates
    )
    for r in a["runs"]:
        assert (
            len(r["rows"]) == len(r["balls"]) == 9
            and len(r["loss"]) <= 30
            and all(0 <= x <= y <= 1 for x, y in zip(r["rows"], r["balls"]))
            and r["test_residual"] is None
        )
    assert a["parameters"] == sum(p.numel() for p in build_model(TINY).parameters())


def test_lla_tells_what_its_solver_left():
    r = run(replace(TINY, mixer="lla", steps=2, rates=(1e-3,), seeds=(0,))).result["runs"][0]
    assert 0 <= r["test_residual"] < 0.1 and r["solver_steps"][-1] > 0 and not r["unconverged"]


def test_the_grade_of_the_machine_is_perfect():
    found = evaluate(swap_machine(4), moves("swap4"), 20, 30, gen())
    assert found["rows"] == found["balls"] == [1.0] * 30 and found["test_residual"] is None


def test_the_table_of_contests():
    full, fast = {n: c for n, c in cells("full").items() if not n.startswith("small")}, cells("fast")
    assert len(full) <= 54 and len(set(full.values())) == len(full)
    assert [n.partition("_")[0] for n in list(full)[:12]] == ["swap5"] * 9 + ["A5"] * 3 and {
        c.mixer for c in list(full.values())[:9]
    } == {"softmax", "lla", "linear", "gla", "mamba2", "deltanet", "gated_deltanet", "mesanet", "deltanet_2"}
    for name, c in (full | fast).items():
        assert (
            name.startswith(f"{c.world}_{c.mixer}")
            and c.test == 4 * c.length
            and moves(c.world).shape[1] ** 2 <= 144
            and c.minutes <= (30 if name in ("swap5_softmax_normed_4_layers", "Z60_softmax_normed") else 5)
        )


def test_reach_and_means():
    assert (
        reach([1, 0.95, 0.9, 0.89, 1]) == 3 and reach([0.5, 1]) == 0 and reach([1, 1]) == 2 and reach([]) == 0
    )
    r = {"runs": [{"rows": [1.0, 1.0, 0.0, 0.0]}, {"rows": [1.0, 0.0, 0.0, 0.0]}]}
    assert mean_rows(r, 1, 2) == 0.75 and mean_rows(r, 3, 4) == 0


def made_up(early, late, n=4):
    return {"runs": [{"rows": [early] * n + [late] * 3 * n}]}


def test_verdicts_on_made_up_records():
    contests = {
        f"{w}_{m}": Config(w, m, length=4, test=16)
        for w in ("swap3", "swap5", "A5")
        for m in RUNNERS
        if m != "softmax_normed"
    } | {"swap5_lla_4_layers": Config("swap5", "lla", layers=4)}
    good = {n: made_up(0.5, 0.1) for n in contests}
    for n in good:
        if n.endswith("deltanet_2"):
            good[n] = made_up(1.0, 0.9)
    good["swap5_lla_4_layers"] = made_up(1.0, 1.0)  # other depths do not count
    good["A5_lla"] = made_up(0.9, 0.1)
    found = verdicts(good, contests)
    claims = list(found)
    assert [found[c] for c in claims] == [[True, True], [True, True], [False]] + [[True, True]] * 4
    bad = good | {
        "swap3_lla": made_up(0.6, 0.1),
        "swap5_gla": made_up(0.5, 0.5),
        "swap3_mesanet": made_up(0.5, 0.5),
        "swap5_deltanet_2": made_up(1.0, 0.2),
    }
    assert [verdicts(bad, contests)[c] for c in claims] == [
        [False, True],
        [True, True],
        [False],
        [True, False],
        [False, True],
        [True, False],
        [True, False],
    ]
    few = {n: good[n] for n in ("swap5_softmax", "swap5_lla")}
    assert [verdicts(few, contests)[c] for c in claims] == [[True], [True], [], [], [], [], []] and verdicts(
        {}, contests
    )[claims[0]] == []


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: moves("swap"), "world"),
        (lambda: moves("swap1"), "world"),
        (lambda: moves("S5"), "world"),
        (lambda: moves("swap-3"), "world"),
        (lambda: moves(None), "world"),
        (lambda: identity_places(1, torch.ones(1)), "n"),
        (lambda: swap_machine(1), "n"),
        (lambda: make_words(moves("swap3"), 2, 0, gen()), "length"),
        (lambda: build_model(replace(TINY, mixer="hyena")), "mixer"),
        (lambda: cells("slow"), "preset"),
        (lambda: reach([1.0], 0), "level"),
        (lambda: mean_rows({"runs": [{"rows": [1.0]}]}, 1, 2), "begin, end"),
    ],
)
def test_bad_arguments(call, name):
    with pytest.raises(ValueError, match=f"^{name}="):
        call()


# ---- what the chapter claims, with margins; LLA's part is asserted in the chapter itself


def test_a_step_to_two_learns_what_a_step_to_one_does_not():
    contests = {
        m: replace(cells("fast")[f"swap3_{m}"], words=256, seeds=(0, 1))
        for m in ("softmax", "deltanet", "deltanet_2")
    }
    runs = {m: run(c).result for m, c in contests.items()}
    # 256 words, 12 positions: a standard error below 0.03
    late = {m: mean_rows(r, 13, 24) for m, r in runs.items()}
    assert late["deltanet_2"] > max(late["softmax"], late["deltanet"]) + 0.4, late
    assert (
        mean_rows(runs["softmax"], 7, 12) < 0.4
        and mean_rows(runs["deltanet"], 7, 12) < 0.4
        and mean_rows(runs["deltanet_2"], 7, 12) > 0.9
    )


# ---- modes, dtypes, nothing


def test_grading_gives_the_mode_back():
    model = build_model(TINY).train()
    model.blocks[0].eval()
    before = [m.training for m in model.modules()]
    evaluate(model, moves("swap3"), 3, 5, gen())
    assert [m.training for m in model.modules()] == before


def test_no_word():
    tokens, places = make_words(moves("swap3"), 0, 5, gen())
    assert tokens.shape == (0, 6) and places.shape == (0, 6, 3)
    assert apply_moves(moves("swap3"), tokens[:, 1:]).shape == (0, 5, 3)
    assert ball_logits(build_model(TINY), tokens, 3).shape == (0, 6, 3, 3)


def test_a_move_that_does_not_exist_is_not_the_last_one():
    for word in ([-1], [3]):
        for f in (apply_moves, apply_moves_doubling):
            with pytest.raises(ValueError, match=f"^word={word[0]}"):
                f(moves("swap3"), torch.tensor(word))


@pytest.mark.parametrize("usual", [torch.bfloat16, torch.float64])
def test_the_hand_built_machine_is_right_whatever_the_usual_dtype(usual):
    with default_dtype(usual):
        assert evaluate(swap_machine(5), moves("swap5"), 20, 60, gen())["rows"][-1] == 1
