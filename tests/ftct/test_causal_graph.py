"The world of Part 5: the graph, the sentences about it, what counts in the loss, and the test prompts."

from dataclasses import replace

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lla_course.ftct.graph import (
    ALPHABET,
    NEWLINE,
    PAD,
    ROLES,
    CausalGraph,
    DataConfig,
    authors_data,
    coverage,
    few_shot_prompts,
    graph_values,
    noise_values,
    sample_batch,
    vocabulary,
)

rng = lambda seed=0: torch.Generator().manual_seed(seed)


@st.composite
def settings(draw, icl=None):
    N = draw(st.integers(2, 9))
    M = draw(st.integers(2, N))
    extra = draw(st.integers(max(0, 4 - N), 3))
    pool = draw(st.integers(0, 4))
    low = draw(st.integers(0, pool))
    high = draw(st.integers(low, pool))
    return DataConfig(
        N=N,
        M=M,
        letters=draw(st.integers(3 * N + extra, 52)),
        extra=extra,
        context_pool=pool,
        context=(low, high),
        examples=draw(st.integers(1, 4)),
        equals=draw(st.booleans()),
        icl=draw(st.sampled_from([0.0, 0.2, 1.0])) if icl is None else icl,
        root_values=draw(st.integers(1, 20)),
        graph_seed=draw(st.integers(0, 99)),
    )


def read(cfg, tokens, roles):
    "Independent reader of one sequence: per line the question letter and a list of (letter, value, role)."
    words, lines = vocabulary(cfg), []
    for piece in words.decode(tokens).split(" \n "):
        question, mark, *rest = piece.split(" ")
        assert mark == ("=?:" if cfg.equals else "?")
        rest = [w for w in rest if "~" not in w and w not in ("=", ",")]
        lines.append((question, list(zip(rest[::2], map(int, rest[1::2])))))
    kept = [
        (words.names[t], ROLES[r])
        for t, r in zip(tokens.tolist(), roles.tolist())
        if words.letter <= t < words.value
    ]
    return lines, dict((a, r) for a, r in kept if r in ("chain", "noise"))


@given(settings())
def test_the_graph_is_a_tree_of_two_branches(cfg):
    world = CausalGraph(cfg)
    g = world.networkx()
    assert nx.is_directed_acyclic_graph(g) and nx.is_arborescence(g) and len(g) == 2 * cfg.N - 1
    leaves = [v for v in g if not g.out_degree(v)]
    assert len(leaves) == 2 and nx.dag_longest_path_length(g) == cfg.N - 1
    values = world.values(100)
    assert all(values[b] == values[a] + d["op"] and 1 <= abs(d["op"]) <= 9 for a, b, d in g.edges(data=True))
    for m in range(1, cfg.N + 1):
        chains = world.chains(m)
        assert len(chains) == len(set(chains)) == (2 * (cfg.N - m + 1) if m > 1 else 2 * cfg.N - 1)
        assert all(
            g.has_edge(ALPHABET[world.letter[a]], ALPHABET[world.letter[b]])
            for c in chains
            for a, b in zip(c, c[1:])
        )


@given(settings(), st.integers(0, 1000))
def test_decode_of_encode_is_the_text(cfg, seed):
    words = vocabulary(cfg)
    assert len(set(words.names)) == len(words.names)
    for row in sample_batch(cfg, rng(seed), 3)[0]:
        text = words.decode(row)
        assert words.decode(words.encode(text)) == text
        assert words.encode(text) == [t for t in row.tolist() if t != PAD]


@given(settings(), st.integers(0, 1000))
def test_sentences_are_what_the_process_says(cfg, seed):
    world, (tokens, counts, roles) = CausalGraph(cfg), sample_batch(cfg, rng(seed), 8)
    g, own = world.networkx(), {ALPHABET[l]: o for l, o in zip(world.letter, world.offset)}
    assert counts.dtype == torch.bool and tokens.shape == counts.shape == roles.shape
    for row, role in zip(tokens, roles):
        lines, kind = read(cfg, row, role)
        assert len(lines) == cfg.examples
        letters = [a for a, _ in lines[0][1]]
        assert all(
            [a for a, _ in line] == letters and question == letters[-1] for question, line in lines
        ) and len(set(letters)) == len(letters)
        chain = [a for a in letters if kind[a] == "chain"]
        assert 2 <= len(letters) <= cfg.N + cfg.extra
        if chain:
            assert len(letters) >= max(cfg.M, cfg.shortest) and 2 <= len(chain) <= cfg.M
            assert all(g.has_edge(a, b) for a, b in zip(chain, chain[1:]))
            assert not {a for a in letters if kind[a] == "noise"} & set(own)
        for _, line in lines:
            for a, v in line:
                if kind[a] == "noise":
                    assert v in noise_values(world)
                else:
                    assert cfg.root_low <= v - own[a] < cfg.root_low + cfg.root_values
            roots = {v - own[a] for a, v in line if kind[a] == "chain"}
            assert len(roots) <= 1  # values follow the edges


@given(settings(icl=0.0), st.integers(0, 1000))
def test_no_sentence_holds_a_complete_chain(cfg, seed):
    if cfg.M == cfg.N:
        return
    world, (tokens, _, roles) = CausalGraph(cfg), sample_batch(cfg, rng(seed), 20)
    complete = [{ALPHABET[world.letter[v]] for v in c} for c in world.chains(cfg.N)]
    for row, role in zip(tokens, roles):
        letters = {a for a, _ in read(cfg, row, role)[0][0][1]}
        assert not any(c <= letters for c in complete)


@given(settings(), st.integers(0, 1000))
def test_everything_counts_but_heads_newlines_and_padding(cfg, seed):
    words, (tokens, counts, _) = vocabulary(cfg), sample_batch(cfg, rng(seed), 6)
    for row, mask in zip(tokens.tolist(), counts.tolist()):
        expected, values, at = [], 0, 0
        while at < len(row):
            t = row[at]
            if t == NEWLINE:
                values = 0
            head = values == 0
            if words.value <= t < words.context:
                values += 1
            # the comma after the first value belongs to the head
            if t == 4 and values == 1:
                head = True
            expected.append(not head and t not in (NEWLINE, PAD))
            at += 1
        assert mask == expected


@given(settings(), st.integers(0, 1000))
def test_the_same_seed_gives_the_same_sentences(cfg, seed):
    first, again, other = (sample_batch(cfg, rng(s), 5) for s in (seed, seed, seed + 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    if cfg.root_values > 5:
        assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])


@given(settings(), st.integers(0, 3), st.integers(0, 1000))
def test_prompts_ask_for_complete_chains(cfg, k, seed):
    words, world, p = vocabulary(cfg), CausalGraph(cfg), few_shot_prompts(cfg, rng(seed), 5, k)
    complete = [[ALPHABET[world.letter[v]] for v in c] for c in world.chains(cfg.N)]
    own = {ALPHABET[l]: o for l, o in zip(world.letter, world.offset)}
    for i in range(5):
        lines, _ = read(cfg, p.full[i], torch.zeros_like(p.full[i]))
        assert len(lines) == k + 1 and all([a for a, _ in line] in complete for _, line in lines)
        assert all(v - own[a] == line[0][1] - own[line[0][0]] for _, line in lines for a, v in line)
        n = int(p.lengths[i])
        assert torch.equal(p.tokens[i, :n], p.full[i, :n]) and (p.tokens[i, n:] == PAD).all()
        gold = [
            (words.names[a], int(words.names[v])) for a, v in zip(p.letters[i].tolist(), p.values[i].tolist())
        ]
        assert lines[-1][1][1:] == gold and torch.equal(p.full[i][p.asked[i]], p.values[i])
        assert (
            len([t for t in p.tokens[i].tolist() if words.letter <= t < words.value]) == k * (cfg.N + 1) + 2
        )


def test_fragments_and_lengths_are_drawn_evenly():
    cfg = DataConfig(icl=0.0, examples=1)
    world, words = CausalGraph(cfg), vocabulary(cfg)
    tokens, _, roles = sample_batch(cfg, rng(), 20_000)
    chain = (roles == ROLES.index("chain")) & (tokens < words.value)
    edges = chain.sum(1) - 1
    for e in (1, 2, 3):
        assert abs((edges == e).float().mean() - 1 / 3) < 5 * (2 / 9 / 20_000) ** 0.5
    first = tokens.gather(1, chain.int().argmax(1, keepdim=True))[edges == 3] - words.letter
    starts = torch.bincount(first[:, 0], minlength=cfg.letters)[torch.tensor(world.letter)] / len(first)
    # two of ten from the root, one from each of the next eight
    assert abs(starts[0] - 0.2) < 0.03 and abs(starts[1:9] - 0.1).max() < 0.03


def test_coverage_is_a_band():
    seen = coverage(DataConfig(M=3), rng(), 5000)
    far = torch.arange(8)[:, None] - torch.arange(8)
    assert ((seen > 0) == (far.abs() <= 2)).all()


def test_the_authors_process():
    cfg = authors_data(15, 6)
    tokens, _, roles = sample_batch(cfg, rng(), 50)
    assert cfg.letters - (2 * cfg.N - 1) == 23 and len(noise_values(CausalGraph(cfg))) <= 10
    line = vocabulary(cfg).decode(tokens[0]).split(" \n ")[0]
    assert "=?:" in line and not line.endswith(",") and line.count("~") >= line.count(" = ")


@pytest.mark.parametrize(
    "bad, name",
    [
        (dict(M=9), "M"),
        (dict(M=1), "M"),
        (dict(N=1), "N"),
        (dict(letters=20), "letters"),
        (dict(letters=60), "letters"),
        (dict(context=(1, 3)), "context"),
        (dict(context=(2, 1)), "context"),
        (dict(icl=1.5), "icl"),
        (dict(shortest=12), "shortest"),
        (dict(examples=0), "examples"),
        (dict(N=8.0), "N"),
        (dict(root_low=0, root_values=40), "noise_values"),
    ],
)
def test_impossible_settings_are_named(bad, name):
    with pytest.raises(ValueError, match=f"^{name}="):
        sample_batch(replace(DataConfig(), **bad), rng(), 2)


def test_bad_requests():
    with pytest.raises(ValueError, match="^n="):
        sample_batch(DataConfig(), rng(), 0)
    with pytest.raises(ValueError, match="^k="):
        few_shot_prompts(DataConfig(), rng(), 2, -1)
    with pytest.raises(ValueError, match="^m="):
        CausalGraph(DataConfig()).chains(9)
    with pytest.raises(ValueError, match="^text="):
        vocabulary(DataConfig()).encode("A 7 zzz")


def test_overlap_gives_noise_the_values_of_the_graph():
    cfg = DataConfig(overlap=True, noise_values=20)
    assert set(noise_values(CausalGraph(cfg))) <= set(graph_values(CausalGraph(cfg)))
