"""Numbers in prose that no cell shows: `GIVEN`, with the reason, and `COMPUTED`, sentences made from records.

GIVEN[chapter]    = [(a part of a sentence, why it needs no cell), ...]
COMPUTED[chapter] = [a function that returns a part of a sentence, its numbers computed, ...]"""

import json
import math

import torch

from lla_course.attention import benchmark
from lla_course.core import repo_root
from lla_course.kernels.lla_decode import DECODE_TILES, choose_splits


def result(name):
    "What a record in nbs/results holds; tests/test_records.py and test_house.py look after its provenance."
    return json.loads((repo_root() / "nbs" / "results" / f"{name}.json").read_text())["result"]


GIVEN = {
    "18_records": [
        ("the noise has a standard deviation of 0.1", "a setting inside the function that was run"),
        ("0.02 in one dimension and 0.1 in three", "settings inside the function that was run"),
        ("between 0.4 of a grid step and 0.7", "the bounds that are written in the function `oracle`"),
    ],
    "27_decoding": [
        ("walks through 100,000 keys", "an example that is made up"),
        ("131 of the 132 multiprocessors", "the number of multiprocessors of an H200, less one"),
    ],
    "27b_decoding_kernels": [
        ("a GPU that runs 264 programs at once takes twice as long for 265", "an example that is made up")
    ],
    "27c_decoding_measured": [
        ("where the maker of the card promises [4.8]", "written on the page of the maker that is linked")
    ],
    "28_flash_lla": [("64 heads of 4096 tokens", "the settings of chapter 28a, which 28b prints")],
    "28a_measurements": [("run out of the 140 gigabytes", "those of an H200, as its driver tells")],
    "28b_records": [
        ("nearly all that a card with 140 has left", "gigabytes of an H200, as its driver tells"),
        ("aims were 9 and 16 milliseconds", "set before anything was measured"),
        ("has 256 kB of registers", "65,536 registers of four bytes, as its maker says"),
        ("for 400 steps of 8 texts of 2048 bytes", "settings of chapter 28a, in `trained_heads`"),
        ("20 calls one after the other", "a setting of chapter 28a, in `measure_host`"),
        ("after 20 that are not counted", "a setting of chapter 28a, in `measure_host`"),
        ("about 50 calls, the median of nine replays; caches below 200 MB", "settings of chapter 27c"),
    ],
    "37b_pretrained": [("the model is SmolLM2-135M-Instruct", "the name of the model")],
    "68_records": [
        ("the best of 1001 reports on a grid", "the setting `grid` of chapter 62"),
        (
            "a hundred climbs of 200 steps, begun anywhere, on 256 auctions (in A and for the first seed of G"
            " on 5000)",
            "settings of chapter 62, which tests/auctions/test_citransnet.py reads",
        ),
        ("1500 steps on a CPU, two seeds", "settings of chapter 62"),
        ("round their factors to 11 bits", "what TF32 is"),
    ],
}


# -- Parts 1 and 2

PAIRS = 4096 * 4096 / 2  # of a query and a key that it sees
PRODUCT = {
    D: 64 * PAIRS * 2 * D for D in (64, 128)
}  # operations of a tile product over all pairs of 64 heads
FORWARD = benchmark.cells("full")["anisotropic_d64"]


def measured(name):
    return result(f"28a_measurements/{name}")


def distances():
    gigabytes = 10_000 * 100_000 * 8 / 1e9
    return f"Distances between 10,000 queries and 100,000 design points would fill {gigabytes:.0f} GB at once"


def keys_apart():
    near, far = (math.sqrt(2) * D**0.25 for D in (16, 128))
    return f"bandwidths: {near:.1f} at $D = 16$, and {far:.1f} at $D = 128$"


def cache_over_matrix():
    return f"at 16,384 tokens and $D = 64$ by a factor of {2 * 16384 * 64 / 64**2:.0f}"


def more_than_loose():
    "Per cent of time that a tolerance of 0.003 adds to one of 0.03 at both head sizes, in one run."
    times = [[measured(f"anisotropic_d{d}_tol{t}")["lla_ms"] for t in ("0.003", "0.03")] for d in (64, 128)]
    return [round(100 * (tight / loose - 1)) for tight, loose in times]


def tolerance_costs():
    narrow, wide = more_than_loose()
    return f"takes {narrow} to {wide} % more time than one of"


def six_directions():
    return f"$12\\cdot 64\\cdot 64\\cdot 4$ bytes or {12 * 64 * 64 * 4 / 1024:.0f} kB"


def logits_of_a_head():
    tokens = 2**16
    row, qkv = 4 * tokens**2 / 1e9, 3 * 4 * tokens * 64 / 1e6
    return (
        f"One head of 65,536 tokens makes {row:.0f} gigabytes of it in float32. The queries, keys and values"
        f" themselves take {qkv:.0f} megabytes"
    )


def bfloat16():
    return f"8 significant bits, a rounding of up to {100 * torch.finfo(torch.bfloat16).eps / 2:.1f} %"


def eight_steps():
    products = 5 + 3 * 8
    return (
        f"With eight steps it is {products} products, {products / 2} times as many as softmax attention takes"
    )


def first_ridge():
    return f"The ridges began at {math.log1p(math.exp(-1)):.2f}"


def forward_by_count():
    r = measured("anisotropic_d64")
    products = 6 + 3 * math.ceil(r["slowest_row_of_a_tile"])
    work = products * PRODUCT[64]
    assert math.ceil(r["slowest_row_of_a_tile"]) == 12
    speed = 10 * round(work / r["lla_ms"] * 1e3 / 1e13)
    return (
        f"At {FORWARD.heads} heads of {FORWARD.n} tokens a causal product over all pairs is"
        f" {PRODUCT[64] / 1e9:.0f} billion operations at $D = 64$; twelve steps are {products} products, or"
        f" {work / 1e12:.1f} trillion operations. They take {r['lla_ms']:.1f} milliseconds in the recorded"
        f" run, which makes {speed} trillion operations a second"
    )


def portable_takes():
    r = measured("portable_anisotropic_d64")
    times = r["portable_forward_ms"] / r["forward_ms"]
    return f"with the kernel of this chapter alone the call takes {times:.1f} times as long"


def slowest_and_mean():
    r = measured("anisotropic_d64")
    return (
        f"the mean row needs {r['steps_mean']:.0f} steps, the slowest row of a tile"
        f" {r['slowest_row_of_a_tile']:.0f} and the slowest of all {r['steps_max']}"
    )


def mean_weight():
    return f"With 65,536 keys a mean weight is $1.5\\cdot10^{{{math.floor(math.log10(2**-16))}}}$"


def backward_products():
    return f"3 a step for the solver, 6 for $dq$, {19 - 3 - 6} for $dk$ and $dv$"


def report():
    numbers = 2 * 128**2 + 2 * 128
    kB, tokens = 4 * numbers / 1e3, 4 * numbers / (4 * 128)
    return f"that is {kB:.0f} kB in float32, as much as the keys and values of {tokens:.0f} tokens"


def pieces():
    few, many = sorted(choose_splits(1, 32768, D, DECODE_TILES[D][3]) for D in (64, 128))
    assert all(choose_splits(512, 32768, D, DECODE_TILES[D][3]) == 1 for D in (64, 128))
    assert 18 <= few <= many <= 32, (few, many)
    return "with a single query and 32,768 keys some 20 to 30 pieces"


def operations_a_byte():
    return f"does 790 trillion operations with bfloat16: {790 / 4.3:.0f} operations for each byte"


def long_caches(of):
    "The least and the largest of something over the recorded caches of 32,768 tokens and more."
    names = [f"d{D}_{s}x{n}k" for D in (64, 128) for s in (32, 512) for n in (32, 128)]
    found = [of(result(f"27c_decoding_measured/{name}")) for name in names]
    return min(found), max(found)


def softmax_reads():
    low, high = long_caches(lambda r: 4.3 * r["floor_ms"] / r["softmax_ms"])
    return f"on long caches it reads {low:.1f} to {high:.1f} trillion bytes a second"


def times_softmax(D, names):
    found = [result(f"27c_decoding_measured/d{D}_{name}") for name in names.split()]
    return sorted(r["lla_ms"] / r["softmax_ms"] for r in found)


def long_times():
    low, *_, high = times_softmax(64, "32x32k 32x128k 512x32k 512x128k")
    least, *_, most = times_softmax(128, "32x32k 32x128k 512x32k 512x128k")
    return (
        f"At $D = 64$ long caches cost {low:.1f} to {high:.1f} times softmax, and at $D = 128$"
        f" {least:.1f} to {most:.1f}"
    )


def smallest_times():
    (few,), (many,) = times_softmax(64, "32x4k"), times_softmax(128, "32x4k")
    return f"local lines cost {few:.1f} times softmax at $D = 64$ and {many:.1f} times at $D = 128$"


def multiplying():
    return f"at $D = 128$ they take {100 * 128 / (790 / 4.3):.0f} per cent of its time"


def smallest_cache():
    r = result("27c_decoding_measured/d64_32x4k")
    softmax, lines = (round(1e3 * r[name]) for name in ("softmax_ms", "lla_ms"))
    return f"softmax needs {softmax} microseconds and local lines {lines}"


def finer_tolerance():
    more = more_than_loose()
    return (
        f"a tolerance of 0.003 takes {more[0]} % more time than one of 0.03 at $d = 64$, and {more[1]} % at"
        " $d = 128$"
    )


def anisotropic_128():
    products = 6 + 3 * measured("anisotropic_d128")["slowest_row_of_a_tile"]
    work = products * PRODUCT[128]
    speed = 10 * round(work / 16e-3 / 1e13)
    return (
        f"that is {products:.0f} products or {work / 1e12:.0f} trillion operations; to do them in 16"
        f" milliseconds the GPU would have to run at {speed} trillion operations a second"
    )


def gradient_of_queries():
    return f"({100 * measured('train_anisotropic_d128')['kernel_dq']:.1f} on anisotropic keys at $d = 128$)"


def flash_over_cudnn():
    found = [measured(n) for n, c in benchmark.cells("full").items() if c.measure == "forward"]
    times = [r["softmax_flash_ms"] / r["softmax_cudnn_ms"] for r in found]
    return f"takes {min(times):.1f} to {max(times):.1f} times as long"


def memory():
    long, short = measured("memory_n65536"), measured("memory_n1024")
    return (
        f"At 65,536 tokens that is {long['triton']:.0f} MB for four heads, against {long['softmax']:.0f}. The"
        f" dense formula needs {short['dense'] / 1e3:.1f} gigabytes for 1024 tokens and"
        f" {measured('memory_n4096')['dense'] / 1e3:.0f} for 4096"
    )


def tile_product():
    work = PRODUCT[64] / 1e9
    return f"A tile product of 64 heads and 4096 tokens is {work:.1f} billion operations at $d = 64$"


def cut_peaks():
    kept = -((6 * 0.1) ** 2) / 2  # of sin 6x under a Gaussian of bandwidth 0.1
    lost = 100 - 100 * math.exp(kept)
    return f"keeps $e^{{{kept:.2f}}}$ of its height, so each of the three loses {lost:.0f} per cent"


COMPUTED = {
    "10_kernel_regression": [distances],
    "18_records": [cut_peaks],
    "20_attention_as_regression": [keys_apart, cache_over_matrix],
    "22b_preconditioners": [tolerance_costs],
    "23_tiled_attention": [logits_of_a_head, bfloat16, eight_steps],
    "24_backward": [first_ridge],
    "25_flash_forward": [forward_by_count, portable_takes, slowest_and_mean],
    "26_flash_backward": [mean_weight, backward_products],
    "27b_decoding_kernels": [report, pieces],
    "27c_decoding_measured": [
        operations_a_byte,
        softmax_reads,
        smallest_cache,
        long_times,
        smallest_times,
        multiplying,
    ],
    "28c_how_it_got_fast": [tile_product],
    "28b_records": [
        six_directions,
        finer_tolerance,
        anisotropic_128,
        gradient_of_queries,
        flash_over_cudnn,
        memory,
    ],
}


# ---- chapter 42

BRITE_TABLES = [
    """\
| | Mistral GSM8K | MATH | Gemma-1.1 GSM8K | MATH | Gemma-2 GSM8K | MATH | Llama-3 GSM8K | MATH |
|---|---|---|---|---|---|---|---|---|
| base | 41.8 | 9.8 | 49.0 | 18.8 | 81.3 | 37.3 | 79.2 | 28.3 |
| SFT on human rationales | 52.8 | 13.6 | 57.5 | 19.6 | 80.1 | 41.5 | 72.6 | 27.1 |
| RS | 47.7 | 10.3 | 58.4 | 18.7 | 87.6 | 47.5 | 79.5 | 28.9 |
| BRiTE | 52.2 | 11.2 | 59.2 | 23.7 | 89.7 | 50.5 | 81.0 | 30.0 |
""",
    """\
| | HumanEval | HumanEval+ | BigCodeBench hard | full |
|---|---|---|---|---|
| base | 78.0 | 70.7 | 10.1 | 35.5 |
| SFT | 78.0 | 67.7 | 11.5 | 37.2 |
| RS | 79.3 | 73.2 | 11.5 | 35.6 |
| BRiTE | 81.7 | 72.6 | 15.5 | 36.3 |
""",
    """\
| | MATH500 | Minerva | Olympiad | AIME24 | AMC23 | GPQA-D | mean |
|---|---|---|---|---|---|---|---|
| base | 44.1 | 12.9 | 16.1 | 0.9 | 10.1 | 25.9 | 18.3 |
| RS | 54.3 | 21.0 | 23.1 | 5.6 | 31.6 | 26.9 | 27.1 |
| ψ | 79.1 | 35.0 | 35.7 | 14.3 | 57.7 | 28.5 | 41.7 |
| θ | 76.9 | 40.6 | 37.0 | 14.4 | 57.1 | 29.8 | 42.6 |
| second ψ | 80.6 | 41.3 | 37.3 | 14.3 | 57.9 | 29.9 | 43.6 |
| second θ | 78.2 | 39.8 | 37.9 | 15.3 | 56.4 | 30.1 | 43.0 |
""",
]  # Tables 1 to 3 of Zhong et al. (2025)


def rows_of(table):
    "The rows of a table in Markdown: name -> numbers."
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: [float(number) for number in numbers] for name, *numbers in lines}


def runs_over_ten_digits():
    from lla_course.brite.experiments import cells

    names = [n for n, c in cells().items() if c.task == "chain" and c.values == 10 and "beta" not in n]
    return f"in each of {len(names)} runs over ten digits"


def gains_over_rejection_sampling():
    table = rows_of(BRITE_TABLES[0])
    gains = [a - b for a, b in zip(table["BRiTE"], table["RS"])]
    return f"In Table 1 the gains over RS are {min(gains):.1f} to {max(gains):.1f}."


def gains_of_a_second_iteration():
    mean = {name: sum(numbers[:-1]) / 6 for name, numbers in rows_of(BRITE_TABLES[2]).items()}
    psi, theta = mean["second ψ"] - mean["ψ"], mean["second θ"] - mean["θ"]
    return f"adds {psi:.1f} to the mean of ψ and {theta:.1f} to that of θ."


GIVEN["48_records"] = [(t, "a table of Zhong et al. (2025), copied from the paper") for t in BRITE_TABLES]
GIVEN["48_records"] += [
    ("Figure 3, left: about 0.11 against 0.02", "read off Figure 3 of Zhong et al. (2025)"),
    ("language models of 7 to 9 billion parameters", "the models of Zhong et al. (2025), section 4"),
    ("for a model of 6.7 billion parameters", "deepseek-coder-6.7b-instruct in Zhong et al. (2025)"),
]


def texts(name, method):
    "What a method of chapter 42 wrote and how it was graded, in one run."
    return result(f"42_brite_transformer/{name}")["methods"][method]


def over_seeds(group, method, seeds, key="right"):
    "A grade of chapter 42: the mean over lengths and seeds."
    found = [texts(f"{group}_{s}", method)["grades"][key] for s in range(seeds)]
    return sum(sum(by_length) / len(by_length) for by_length in found) / seeds


def ahead(group, method, rival, seeds):
    return over_seeds(group, method, seeds) - over_seeds(group, rival, seeds)


def iterated_sampler():
    found = (over_seeds(group, "rs_iterated", 5) for group in ("n6", "n8"))
    return "the iterated sampler {:.2f} and {:.2f} of the time.".format(*found)


def more_passes():
    narrow, hundred = (ahead(g, "rs_compute", "rs_iterated", k) for g, k in (("narrow", 3), ("mod100", 5)))
    return f"by {narrow:.3f} with the narrow transformer and by {hundred:.3f} with a hundred numbers;"


def where_luck_is_rare():
    return (
        f"comes within {-ahead('mod100', 'rs_iterated', 'gold', 5):.3f} of gold. In the addition with carries"
        " luck has no room, and *the order is gone*: one round of sampling has"
        f" {over_seeds('carry', 'rs', 5):.3f}, iterated sampling is at gold, and θ is"
        f" {-ahead('carry', 'theta', 'gold', 5):.3f} below."
    )


def without_a_thought():
    return f"is right {over_seeds('mod100', 'direct', 5):.2f} of the time with a hundred numbers"


def against_gold():
    small, narrow = (ahead(group, "psi", "gold", 3) for group in ("small", "narrow"))
    return f"by {small:.3f} with the small defaults, by {narrow:.3f} with the narrow transformer."


def short_of_gold():
    return f"At twelve digits ψ falls short by {-ahead('n12', 'psi', 'gold', 5):.2f}."


def reasoned_when_told():
    exact = (texts(f"small_{s}", "psi_told")["grades"]["exact"][-1] for s in range(3))
    return "{:.2f}, {:.2f} and {:.2f} of them. The rest is aimed.".format(*exact)


def samples_when_told():
    told, psi = (texts("small_0", method)["samples"] for method in ("psi_told", "psi"))
    return (
        f"`psi_told` had {told:,} samples, those of the sampler that it imitates first among them, where ψ"
        f" had {psi:,},"
    )


COMPUTED["42_brite_transformer"] = [runs_over_ten_digits]
COMPUTED["48_records"] = [
    gains_over_rejection_sampling,
    gains_of_a_second_iteration,
    iterated_sampler,
    more_passes,
    where_luck_is_rare,
    without_a_thought,
    against_gold,
    short_of_gold,
    reasoned_when_told,
    samples_when_told,
]

# ---- chapters 50 to 52

GIVEN["51_ftct_training"] = [
    ("draw 25,000 sequences once and go through them", "read in the code of Yin and Wang (2025)")
]
GIVEN["58_records"] = [
    ("3000 steps instead of 43,750", "read in their code: fourteen passes over 25,000 sequences by 8"),
    ("ten looks, 100 prompts, strict", "`run` of chapter 51 asks so many prompts at each look"),
    ("a fixed pool of 25,000 sentences", "as many as in the code of Yin and Wang (2025)"),
    ("have about 0.75 of the values", "read off the figures of Yin and Wang (2025)"),
    (
        "has 0.000 for every $k$, and values between 0.37 and 0.40",
        "read in the training log of Yin and Wang (2025)",
    ),
]
GIVEN["52_ftct_mechanism"] = [
    ("in at most 0.27 of the prompts", "a point of the figure above; the records of Part 5 print it"),
    ("(0.45 against 0.31, and 0.59 against 0.31)", "four points of the figure above; printed in the records"),
]
GIVEN["52b_by_hand"] = [
    ("parent 77.1, others 4.5 per cent", "read off the table of probes of Yin and Wang (2025)"),
    ("A score of 77 has to be held", "the same number of their table, rounded"),
    ("Measured by that, 77 per cent", "the same number again"),
    ("follows a swapped example in 0.17 of the prompts", "the table of surgery in the records of Part 5"),
]


def chains(*names, key="whole_strict", k=1):
    "Shares of right answers in chapter 51, by the number of examples k."
    return [result(f"51_ftct_training/{name}")[key][k] for name in names]


def on_graphs(setting, key="whole", k=1):
    return chains(*(f"{setting}_g{g}" for g in range(3)), key=key, k=k)


SMALL = [f"small_s{s}" for s in range(3)]
TWO_BLOCKS = SMALL + [f"more_L2_s{s}" for s in (3, 4, 5)]
ONE_BLOCK = ["small_layer", "small_layer_s1", "small_layer_s2", *(f"more_L1_s{s}" for s in (3, 4, 5))]


def medians():
    return [sorted(chains(*SMALL, k=k))[1] for k in (0, 1)]


def medians_of_three():
    return "{:.2f} of the chains with no example and {:.2f} with one.".format(*medians())


def medians_again():
    none, one = medians()
    return f"in the median of three seeds {one:.2f} of them, against {none:.2f} without one."


def adds_wrongly():
    vertices, whole = (on_graphs("N8_M2", key)[2] for key in ("vertices", "whole"))
    return f"has all vertices in order in {vertices:.2f} of its answers and only {whole:.2f} complete chains."


def where_the_example_is_needed():
    needed = lambda names: [chains(name)[0] for i, name in enumerate(names) if i != 1]
    most, least = max(needed(ONE_BLOCK)), math.floor(min(needed(TWO_BLOCKS)) * 100) / 100
    return (
        f"one block writes at most {most:.2f} of the chains with one shot, and two blocks"
        f" {least:.2f} or more."
    )


COMPUTED["51_ftct_training"] = [medians_of_three, medians_again]
COMPUTED["58_records"] = [adds_wrongly, where_the_example_is_needed]
# ---- chapter 36


def gain_of_the_norm():
    "What part of the gain of the small LLA over softmax attention the norm alone has, seed by seed."

    def bits(mixer, s):
        r = result(f"36_language_model/small_{mixer}_s{s}")
        return sum(map(sum, r["bits"])) / sum(map(sum, r["bytes"]))

    over = lambda m, s: bits(m, s) - bits("softmax", s)
    first, *others = (100 * over("softmax_normed", s) / over("lla", s) for s in range(3))
    return (
        f"{first:.0f} per cent of it with seed 0, {math.floor(min(others))} per cent and more with the others"
    )


COMPUTED["36_language_model"] = [gain_of_the_norm]
# ---- Part 6


def honest_pair():
    "The optimum of two bidders and two items, extrapolated from the finest pair of grids of chapter 60."
    at = lambda K, where: result(f"60_mechanisms/pair_dsic_{K}_{where}")["revenue"]
    return f"{sum(2 * at(10, where) - at(5, where) for where in ('low', 'mid')) / 2:.3f}"


COMPUTED |= {
    "62b_what_it_leaks": [lambda: f"put the honest optimum near {honest_pair()}"],
    "61b_honest_worth": [lambda: f"the honest optimum is near {honest_pair()}, by extrapolation"],
}
