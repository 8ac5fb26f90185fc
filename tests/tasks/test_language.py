"""Reading Python: the split, the ruler, counts as a distribution, windows, the error over files, the cache,
runs, and what the chapter claims with its margin."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_ind

from lla_course.models import Decoder, DecoderConfig
from lla_course.tasks.language import (
    PACKAGES,
    PARTS,
    Config,
    as_text,
    bits_per_byte,
    build_model,
    cache_gap,
    cell_name,
    cells,
    compressor_bits,
    count_bits,
    count_contexts,
    draw_windows,
    evaluate_files,
    inspect_heads,
    part_of,
    read_corpus,
    run,
    seeds_of,
    step_seconds,
    train_model,
    watched,
    windows,
    write,
    writing_report,
)
from lla_course.tasks.language_race import compare, growth, p_value, verdicts
from lla_course.tasks.mixers import mixer

TINY = replace(
    cells("fast")["steps_lla_s0"],
    width=16,
    length=16,
    batch=2,
    steps=4,
    trial_steps=2,
    layers=2,
    rates=(1e-3, 1e-2),
    letters=9,
)


@pytest.fixture
def library(tmp_path):
    "A small library of its own: 60 files in two packages, and things that do not belong."
    for i in range(60):
        path = tmp_path / ("pack" if i % 2 else "other") / f"m{i}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"import os\n\ndef f{i}(x):\n    return x + {i}\n".encode() * (1 + i % 3))
    for name in (
        "test/a.py",
        "pack/tests/b.py",
        "site-packages/c.py",
        "encodings/d.py",
        "_sysconfigdata_x.py",
        "config-3.11-x/e.py",
        "pack/readme.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("secret = 1\n")
    return tmp_path


@pytest.fixture
def at_home(library, monkeypatch):
    "The small library in the place of Python's."
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(library)})


# ---- the corpus


def test_the_name_decides_and_a_tenth_goes_to_each_held_out_part():
    names = [f"package{i}/module{j}.py" for i in range(100) for j in range(40)]
    share = {p: sum(part_of(n) == p for n in names) / len(names) for p in PARTS}
    for p in ("valid", "test"):
        assert abs(share[p] - 0.1) < 4 * math.sqrt(0.09 / len(names))
    assert [part_of(n) for n in ("json/decoder.py", "asyncio/subprocess.py", "heapq.py")] == [
        "train",
        "test",
        "train",
    ]


def test_the_corpus_leaves_out_what_does_not_belong(library):
    corpus = read_corpus(root=library)
    names = [n for p in PARTS for n in corpus.parts[p]]
    assert len(names) == len(set(names)) == 60 and b"secret" not in b"".join(corpus.stream(p) for p in PARTS)
    assert all(part_of(n) == p for p in PARTS for n in corpus.parts[p]) and all(
        list(f) == sorted(f) for f in corpus.parts.values()
    )
    assert corpus.stream("test").count(b"\0") == len(corpus.parts["test"]) == corpus.about["files"]["test"]
    only = read_corpus(("pack",), library)
    assert {n.split("/")[0] for p in PARTS for n in only.parts[p]} == {"pack"} and only.about[
        "hash"
    ] != corpus.about["hash"]


def test_the_hash_sees_every_byte(library):
    before = read_corpus(root=library).about["hash"]
    assert read_corpus(root=library).about["hash"] == before
    (library / "pack" / "m1.py").write_bytes(b"import os\n")
    assert read_corpus(root=library).about["hash"] != before


def test_this_python_has_a_library():
    corpus = read_corpus(PACKAGES)
    assert all(len(f) >= 5 for f in corpus.parts.values()) and corpus.about["bytes"]["train"] > 10**6


@pytest.mark.parametrize(
    "make",
    [
        lambda p: p / "missing",
        lambda p: p,
        lambda p: (p / "python311.zip").write_bytes(b"PK") and p / "python311.zip",
    ],
)
def test_a_missing_or_zipped_library_says_so(make, tmp_path):
    with pytest.raises(ValueError, match="^root=.*standard library"):
        read_corpus(root=make(tmp_path))


# ---- counts and compressors


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=6), st.integers(0, 4))
@settings(max_examples=25)
def test_the_counts_are_a_distribution(text, context, order):
    tables = count_contexts(text, order)
    p = sum(2.0 ** -count_bits(tables, context + bytes([b]))[:, -1] for b in range(256))
    np.testing.assert_allclose(p, 1, rtol=1e-9)


def test_the_counts_are_the_formula():
    tables = count_contexts(b"def del def def", 2)
    p0 = lambda b: (b"def del def def".count(b) + len(set(b"def del ")) / 256) / (15 + len(set(b"def del ")))
    p1 = (3 + 2 * p0(b"f")) / (4 + 2)  # after e: f three times, l once
    p2 = (3 + 2 * p1) / (4 + 2)  # after de: the same
    np.testing.assert_allclose(2.0 ** -count_bits(tables, b"def")[:, 2], [1 / 256, p0(b"f"), p1, p2])
    assert (2.0 ** -count_bits(tables, b"zzz")[:, 2] > 0).all()


def test_long_contexts_learn_what_repeats():
    text = b"the quick brown fox " * 50
    bits = count_bits(count_contexts(text, 5), text[:200]).mean(1)
    assert bits[0] == 8 and all(a > b for a, b in zip(bits, bits[1:3])) and bits[-1] < 0.2


def test_compressors_profit_from_what_they_have_seen():
    text = read_corpus(PACKAGES).stream("test")[:20_000]
    found = compressor_bits(text, text)
    assert 1 < found["lzma"] < 4 and 1 < found["zlib"] < 4 and found["lzma after training text"] < 0.1


# ---- reading files


@given(st.binary(max_size=100), st.integers(2, 30))
def test_every_byte_is_a_target_once(text, length):
    tokens, target = windows(text, length)
    assert tokens.shape == target.shape and tokens.shape[1] == length and not target[:, 0].any()
    assert bytes(tokens[target].tolist()) == text
    flat = tokens[:, :-1].flatten()[: len(text)]  # each target has the byte before it in front of it
    assert bytes(flat.tolist()) == (b"\0" + text)[: len(text)]


def test_files_are_read_with_the_models_own_logits():
    model, files = build_model(TINY, 0).eval(), [b"import os\n" * 5, b"x = 1\n", b"def f(x): return x\n"]
    found = evaluate_files(model, files, 16, batch=2)
    for f, bits, n in zip(files, found["bits"], found["bytes"]):
        x, target = windows(f, 16)
        with torch.no_grad():
            want = -(
                model(x)[:, :-1].log_softmax(-1).gather(-1, x[:, 1:, None])[..., 0] * target[:, 1:]
            ).sum() / math.log(2)
        assert sum(n) == len(f) and abs(sum(bits) - float(want)) < 0.25
    assert [r for r, _ in found["curve"]] == [1, 2, 4, 8]


def test_a_model_that_knows_nothing_takes_eight_bits():
    found = evaluate_files(lambda x: torch.zeros(*x.shape, 256), [b"abc" * 20, b"x"], 8)
    assert bits_per_byte(found["bits"], found["bytes"])[0] == pytest.approx(8) and all(
        y == 8 for _, y in found["curve"]
    )
    assert found["bytes"][0] == [18, 18, 16, 8]


def test_the_error_over_files_is_that_of_repeated_draws():
    rng = np.random.default_rng(0)

    def sample():
        n = rng.integers(100, 1000, 60)
        return n * (2 + 0.3 * rng.standard_normal(60)), n

    r, se = zip(*(bits_per_byte(*sample()) for _ in range(400)))
    assert np.std(r) == pytest.approx(np.mean(se), rel=0.15) and np.mean(r) == pytest.approx(2, abs=0.02)


# ---- the decoder, its solver and its cache


def test_no_mixer_drops_weights_and_a_seed_repeats_itself(library):
    for m in ("softmax", "lla"):
        model = build_model(replace(TINY, mixer=m, dropout=0.1), 3)
        assert all(b.mixer.dropout == 0 and b.drop.p == 0.1 for b in model.blocks)
    a, b = (train_model(TINY, read_corpus(root=library), 3, 1e-3)[1] for _ in range(2))
    assert a["bits"] == b["bits"] and a["history"]["loss"] == b["history"]["loss"] and len(a["inside"]) == 4


def test_looks_do_not_change_the_batches_and_show_every_head():
    text = torch.randint(256, (500,), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    model = build_model(TINY, 0).eval()
    draw = draw_windows(text, TINY)
    seen, looks = watched(draw, model, torch.zeros(1, 16, dtype=torch.long), 2)
    for i in range(4):
        assert all(map(torch.equal, *(f(i, torch.Generator().manual_seed(i)) for f in (draw, seen))))
    assert [l["at"] for l in looks] == [0, 2]
    look = inspect_heads(model, torch.randint(256, (2, 16)))
    assert (
        np.shape(look["ridge"]) == np.shape(look["steps"]) == (2, 2)
        and np.allclose(look["ridge"], 1)
        and np.max(look["residual"]) <= 1e-5
    )
    assert not any(block.mixer._forward_pre_hooks for block in model.blocks)
    assert (
        inspect_heads(build_model(replace(TINY, mixer="softmax"), 0), torch.zeros(1, 16, dtype=torch.long))[
            "ridge"
        ]
        == []
    )


@pytest.mark.parametrize("name", ["softmax", "softmax_normed", "lla", "gated_deltanet", "mesanet"])
def test_reading_over_the_cache_is_reading_at_once(name):
    model = Decoder(
        DecoderConfig(256, layers=2, heads=2, width=32, positions="rotary", init=0.3), mixer(name), seed=1
    )
    tokens = torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(2))
    assert cache_gap(model, tokens) < 2e-3 and cache_gap(model, tokens, given=20) < 2e-3
    # a layer that is told how much it reads at once
    model.blocks[1].mixer.to_qkv.register_forward_hook(lambda m, given, out: out + out.shape[1] * 1e-2)
    assert cache_gap(model, tokens) > 1e-2


def test_writing_repeats_itself_and_is_readable():
    model = build_model(TINY, 0)
    a, b, c = (write(model, "def ", 8, temperature=1.0, seed=s) for s in (0, 0, 1))
    assert (
        a.tolist() == b.tolist() != c.tolist()
        and (write(model, "x", 5) == write(model, "x", 5, cache=False)).all()
    )
    assert as_text(torch.tensor([65, 10, 9, 200, 126])) == "A\n··~"


# ---- runs


def test_a_run_has_what_a_record_needs(at_home):
    small = replace(TINY, only=(), budget="time")
    r = run(small).result
    assert {
        "score",
        "bits",
        "bytes",
        "curve",
        "history",
        "inside",
        "grid",
        "step_seconds",
        "corpus",
        "parameters",
        "text",
        "gap",
        "seconds",
        "memory",
        "unconverged",
        "planned",
    } <= set(r)
    assert (
        r["planned"] == max(round(4 * r["step_seconds"][0] / r["step_seconds"][1]), 1)
        and [g[0] for g in r["grid"]] == [1e-3, 1e-2]
        and r["gap"] < 1e-3
        and r["same"] == 3
        and [len(x) for x in r["text"].values()] == [9, 9, 9]
        and not r["unconverged"]
    )
    counts = run(replace(small, mixer="counts", order=3)).result
    assert (
        len(counts["counts"]) == 5
        and counts["counts"][0] == 8
        and counts["corpus"] == r["corpus"]
        and sum(counts["bytes"]) == sum(map(sum, r["bytes"]))
    )


def test_the_table_of_cells():
    full = cells("full")
    assert len(full) <= 48 and {c.mixer for c in list(full.values())[1:12]} == {
        "softmax",
        "lla",
        "softmax_normed",
        "gated_deltanet",
    }
    pairs = ("softmax", "lla"), ("lla", "gated_deltanet"), ("lla", "softmax_normed"), ("parallax", "lla")
    for a, b in pairs:
        assert full[f"steps_{a}_s1"] == replace(full[f"steps_{b}_s1"], mixer=a)
    count = {
        m: sum(p.numel() for p in build_model(replace(full["steps_lla_s0"], mixer=m), 0).parameters())
        for m in ("softmax", "lla", "softmax_normed", "gated_deltanet", "mesanet")
    }
    assert max(count.values()) / min(count.values()) < 1.01


def made_up(bits, hash="x", n=8, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(500, 900, (n, 4))
    hard = 2 + np.random.default_rng(7).standard_normal((n, 1)) / 2
    sizes = np.random.default_rng(7).integers(500, 900, (n, 4))
    return dict(
        bits=(sizes * (hard + np.asarray(bits) + 0.002 * rng.standard_normal((n, 4)))).tolist(),
        bytes=sizes.tolist(),
        corpus=dict(hash=hash),
    )


def test_a_small_difference_is_seen_file_by_file():
    a, b = ([made_up(x, seed=10 * i + s) for s in range(3)] for i, x in enumerate((-0.05, 0.0)))
    d, se, seeds = compare(a, b)
    assert (
        seeds == 3
        and d == pytest.approx(-0.05, abs=0.005)
        and se < 0.005
        and se < bits_per_byte(a[0]["bits"], a[0]["bytes"])[1] / 10
    )
    assert compare(a, b, quarter=2)[0] == pytest.approx(-0.05, abs=0.01)


def test_a_timing_needs_steps_after_those_that_do_not_count():
    with pytest.raises(ValueError, match="steps.*4"):
        step_seconds(TINY, torch.zeros(200, dtype=torch.uint8), steps=4)
    a, b = step_seconds(TINY, torch.zeros(200, dtype=torch.uint8), rounds=1, steps=6)
    assert a > 0 and b > 0


def test_growth_is_measured_within_each_model():
    rising = [-0.01, -0.02, -0.03, -0.06]
    a, b = ([made_up(x, seed=10 * i + s) for s in range(3)] for i, x in enumerate((rising, 0.0)))
    d, se, seeds = growth(a, b)
    assert (
        seeds == 3
        and d == pytest.approx(-0.05, abs=0.01)
        and d == pytest.approx(compare(a, b, quarter=3)[0] - compare(a, b, quarter=0)[0])
        and se < 0.005
    )
    # seeds that differ everywhere alike
    shifted = [
        dict(r, bits=(np.array(r["bits"]) + shift * np.array(r["bytes"])).tolist())
        for r, shift in zip(a, (-0.1, 0, 0.1))
    ]
    assert growth(shifted, b)[1] == pytest.approx(se) and compare(shifted, b)[1] > 10 * se


def test_p_is_that_of_welch_where_files_are_alike_and_that_of_files_where_there_is_one_seed():
    alike = lambda level: dict(corpus=dict(hash="x"), bytes=[[10] * 4] * 9, bits=[[10 * level] * 4] * 9)
    a, b = [alike(x) for x in (1.0, 1.1, 1.3)], [alike(x) for x in (1.2, 1.4, 1.9)]
    assert p_value(a, b) == pytest.approx(ttest_ind([1, 1.1, 1.3], [1.2, 1.4, 1.9], equal_var=False).pvalue)
    assert p_value(a[:1], a[:1]) == 1 and p_value(a[:1], b[:1]) == 0
    files = [1.0, 1.2, 0.9, 1.4]
    one = dict(alike(0), bytes=[[10] * 4] * 4, bits=[[10 * x] * 4 for x in files])
    nothing = dict(one, bits=[[0.0] * 4] * 4)
    assert p_value([one], [nothing]) == pytest.approx(ttest_1samp(files, 0).pvalue)
    assert p_value([one], [nothing], grown=True) == 1


def test_the_trainings_of_one_contestant():
    results = {
        cell_name(m, b, s): (m, b, s) for m, b in (("softmax", "steps"), ("lla", "time")) for s in (0, 2)
    }
    results |= {"steps_lla_ridge10_s0": None, "steps_softmax_normed_s0": None}
    both = [("softmax", "steps", 0), ("softmax", "steps", 2)]
    assert seeds_of(results, "softmax") == seeds_of(results, "softmax", "time") == both
    assert seeds_of(results, "lla", "time") == [("lla", "time", 0), ("lla", "time", 2)]
    assert seeds_of(results, "lla") == []


def test_verdicts():
    runs = {
        "steps_softmax": 0.0,
        "steps_lla": [0, -0.02, -0.03, -0.06],
        "steps_softmax_normed": -0.2,
        "time_lla": 0.05,
        "time_gated_deltanet": 0.3,
    }
    results = {
        f"{n}_s{s}": made_up(x, seed=100 * i + s) for i, (n, x) in enumerate(runs.items()) for s in range(3)
    } | {"steps_lla_ridge1_s0": made_up(-1.0)}
    found = verdicts(results)
    say = {q.replace("LLA against ", ""): a[0] for q, a in found.items()}
    assert (
        say["softmax at equal steps"] == "better"
        and say["normalised softmax at equal steps"] == "worse"
        and say["softmax at equal time"] == "worse"
        and say["Gated DeltaNet at equal time"] == "better"
    )
    assert (
        say["Gated DeltaNet at equal steps"] == say["normalised softmax at equal time"] == "not recorded"
        and list(say.values())[-1] == "grows"
    )
    assert {a[0] for a in verdicts({}).values()} == {"not recorded"}
    assert {a[0] for a in verdicts({n: r for n, r in results.items() if n.endswith("_s0")}).values()} == {
        "not recorded",
        "one seed decides nothing",
    }
    same = {
        f"{n}_s{s}": made_up(0.0, seed=100 * i + s)
        for i, n in enumerate(("steps_softmax", "steps_lla"))
        for s in range(3)
    }
    assert abs(verdicts(same)["LLA against softmax at equal steps"][1]) < 0.005


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: compressor_bits(b""), "text"),
        (lambda: count_contexts(b"a", 8), "order"),
        (lambda: windows(b"a", 1), "length"),
        (lambda: bits_per_byte([1.0], [1.0]), "bits"),
        (lambda: bits_per_byte([1.0, 2.0], [1.0]), "bits"),
        (lambda: cells("slow"), "preset"),
        (lambda: run(Config("hyena")), "mixer"),
        (lambda: run(Config(budget="money")), "budget"),
        (lambda: run(Config(steps=0)), "steps"),
        (lambda: run(Config(rates=())), "rates"),
        (lambda: compare([], [made_up(0.0)]), "a"),
        (lambda: compare([made_up(0.0)], [made_up(0.0, hash="y")]), "corpus"),
        (lambda: read_corpus(("no_such_package",)), "root"),
        (lambda: cache_gap(build_model(TINY, 0), torch.zeros(1, 5, dtype=torch.long), given=5), "given"),
    ],
)
def test_bad_arguments(call, name):
    with pytest.raises(ValueError, match=f"^{name}="):
        call()


# ---- what the chapter claims, with margins


@pytest.fixture(scope="module")
def corpus():
    return read_corpus(PACKAGES)


def test_contexts_help_until_they_do_not_and_pieces_leak(corpus):
    files = list(corpus.parts["test"].values())
    tables = count_contexts(corpus.stream("train"), 6)
    bits = np.array([count_bits(tables, f).sum(1) for f in files])
    n = [len(f) for f in files]
    # each of the first bytes of context is worth a tenth of a bit at least
    for a, b in ((1, 2), (2, 3), (3, 4)):
        d, se = bits_per_byte(bits[:, a] - bits[:, b], n)
        assert d - 2 * se > 0.1
    turn, se = bits_per_byte(bits[:, 7] - bits[:, 6], n)
    assert turn - 2 * se > 0
    text = b"".join(corpus.stream(p) for p in PARTS)
    u = np.random.default_rng(0).random(len(text) // 1024 + 1)
    deal = lambda keep: b"".join(text[1024 * i : 1024 * (i + 1)] for i in np.flatnonzero(keep))
    leaked = count_bits(count_contexts(deal(u > 0.2), 6), deal(u < 0.1)).mean(1)
    gap = bits[:, 7].sum() / sum(n) - leaked[7]
    assert leaked[7] < leaked[5] and 0.25 < gap < 0.45  # a third of a bit
    assert round(bits[:, 5].sum() / sum(n), 1) == 1.8


def test_softmax_reads_better_than_counts_of_one_byte(corpus):
    c, tables = cells("fast")["steps_softmax_s0"], count_contexts(corpus.stream("train"), 1)
    files = list(corpus.parts["test"].values())
    r = train_model(c, corpus, c.steps, c.rates[0])[1]
    d, se = bits_per_byte(
        np.array([count_bits(tables, f)[2].sum() for f in files]) - np.sum(r["bits"], 1),
        [len(f) for f in files],
    )
    assert d - 2 * se > 0.1 and 1.5 < r["score"] < 3.4 and not r["unconverged"]


def test_lla_falls_as_softmax_does_and_a_small_ridge_takes_twice_the_steps(corpus):
    base = replace(cells("fast")["steps_lla_s0"], length=64, batch=8, warmup=10)
    few = replace(
        corpus,
        parts=corpus.parts | {"valid": {n: t[:1000] for n, t in list(corpus.parts["valid"].items())[-4:]}},
    )
    runs = [
        train_model(replace(base, **change), few, 30, 1e-2, part="valid")[1]
        for change in (dict(mixer="softmax"), {}, dict(ridge=0.1))
    ]
    loss = [r["history"]["loss"] for r in runs]
    assert loss[1][0] > 7 and max(l[-1] for l in loss) < 5 and abs(loss[1][-1] - loss[0][-1]) < 0.3
    steps = [np.mean(r["inside"][0]["steps"]) for r in runs[1:]]
    assert steps[1] > 1.6 * steps[0] and runs[1]["inside"][-1]["ridge"] != runs[1]["inside"][0]["ridge"]


# ---- modes, backends


def test_reading_and_writing_give_modes_and_backends_back():
    model = build_model(replace(TINY, mixer="gated_deltanet", dropout=0.5), 0).train()
    model.blocks[0].eval()
    model.blocks[1].mixer.backend = "chunk_parallel"
    state = lambda: ([m.training for m in model.modules()], [b.mixer.backend for b in model.blocks])
    before, text, file = state(), torch.zeros(1, 12, dtype=torch.long), b"abc" * 20
    assert evaluate_files(model, [file], 16) == evaluate_files(model, [file], 16)
    for work in (
        lambda: inspect_heads(model, text),
        lambda: cache_gap(model, text),
        lambda: write(model, "a", 3),
        lambda: writing_report(model, 6),
    ):
        work()
        assert state() == before
    model.blocks[1].mlp = None
    before = state()
    for work in (
        lambda: evaluate_files(model, [file], 16),
        lambda: inspect_heads(model, text),
        lambda: writing_report(model, 6),
    ):
        with pytest.raises(TypeError):
            work()
        assert state() == before


def test_the_curve_of_short_files_ends_with_them():
    knows_nothing = lambda x: torch.zeros(*x.shape, 256)
    assert evaluate_files(knows_nothing, [b"abc", b"ab"], 16)["curve"] == [[1, 8.0], [2, 8.0]]
