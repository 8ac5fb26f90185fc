"Bad input for the doors of Parts 3 to 6 and the figures: label, call, and what the error has to name."

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from lla_course import figures
from lla_course import models as M
from lla_course.auctions import citransnet as C
from lla_course.auctions import lab as AL
from lla_course.auctions import markets as CM
from lla_course.auctions import networks as CN
from lla_course.auctions import regretnet as L
from lla_course.auctions import search as CS
from lla_course.brite import algorithm as B
from lla_course.brite import experiments as BE
from lla_course.brite import lab as BL
from lla_course.brite import model as BM
from lla_course.brite import task as BT
from lla_course.brite import updates as BU
from lla_course.brite import writer as BW
from lla_course.ftct import byhand as FB
from lla_course.ftct import graph as G
from lla_course.ftct import interpretability as FM
from lla_course.ftct import lab as FL
from lla_course.ftct import training as FT
from lla_course.tasks import in_context as IC
from lla_course.tasks import lab as TL
from lla_course.tasks import language as LM
from lla_course.tasks import language_race as LR
from lla_course.tasks import mixers as X
from lla_course.tasks import online_regression as TT
from lla_course.tasks import recall as RC
from lla_course.tasks import state_tracking as ST

NAN, INF = math.nan, math.inf
SAID = "A curve that nobody will ever see rises to the right."
SIZES = dict(vocab=11, width=16, heads=2, length=32)
CFG = M.DecoderConfig(**SIZES)
DATA = G.DataConfig(N=4, M=3, letters=20, root_values=4, extra=2, examples=2)
TASK = BT.Task(n_max=3)
EXPERIMENT = BE.Config(n_max=3, width=16, heads=2, layers=1, prompts=10, batch=4, group=2, samples=2, test=4)
TABLE = BM.LatentModel.tabular(np.ones((2, 3, 2)))
LINEAR = BM.LatentModel.log_linear(np.arange(24.0).reshape(2, 3, 2, 2) % 5, [0.1, 0.2])
SIGNAL = BM.observed([0, 1], (2, 3, 2))
TOKENS, MORE = torch.ones(2, 5, dtype=torch.long), torch.ones(2, 30, dtype=torch.long)
PAIRS = torch.ones(2, 2, dtype=torch.long)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def decoder() -> M.Decoder:
    return M.Decoder(CFG)


@cache
def reader() -> M.Decoder:
    return LM.build_model(TINY_TEXT, 0)


@cache
def writer() -> M.Decoder:
    return BW.new_writer(EXPERIMENT)


@cache
def mlp() -> FT.WindowMLP:
    return FT.WindowMLP(11, window=4, hidden=4)


@cache
def prompts() -> BT.Prompts:
    return BT.sample_prompts(TASK, 4, rng())


@cache
def script() -> FM.Script:
    return FM.script(DATA, G.few_shot_prompts(DATA, rng(), 3, 1).full)


TINY_TEXT = LM.Config("softmax", layers=1, width=16, heads=2, length=8, batch=2, dropout=0.0)
normal = lambda *shape: torch.randn(*shape, generator=rng())
rule_inputs = lambda T=4, D=3: (
    normal(T, D),
    normal(T, D),
    normal(T, 2),
    -normal(T, 1).abs(),
    torch.ones(T, 1),
)


def fields(kind: Callable, base: dict, wrong: dict) -> list[tuple[str, Callable, str]]:
    "One case for each wrong value of each field of a config."
    cases = []
    for name, values in wrong.items():
        for value in values:
            make = lambda name=name, value=value: kind(**base | {name: value})
            cases.append(
                (f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}({name}={value!r})", make, name)
            )
    return cases


COUNT, POSITIVE, FLAG = (0, -1, 2.5, True, "3", None), (0, -1.0, NAN, INF, "x", True), ("no", 1, None)
SHARE, NOISE, TUPLE = (-0.1, 1.1, NAN, "x"), (-1.0, NAN, INF, "x", True), ((), [1], "x", None)
SWITCH, WORD = dict(precision=("float16", None)), ("hyena", None, ["softmax"])

CONFIGS = [
    *fields(
        M.DecoderConfig,
        SIZES,
        dict(
            vocab=COUNT,
            layers=(-1, 1.5, True),
            heads=COUNT,
            width=(15, 2.5),
            length=COUNT,
            mlp_ratio=(-1, 0.5),
            tied=FLAG,
            positions=("alibi", None, ["none"]),
            dropout=("x", -0.1, 1.0, NAN, True),
            init=POSITIVE,
        ),
    ),
    *fields(
        TT.Config,
        dict(d=4, segment=8, length=32),
        dict(
            d=COUNT,
            segment=(0, 33, 2.0),
            length=(1, 8.5),
            pieces=(-1, 1.5),
            noise=NOISE,
            tune=COUNT,
            test=COUNT,
            seeds=TUPLE,
        ),
    ),
    *fields(
        IC.Config,
        dict(mixer="softmax", segment=8, d=4, length=32),
        dict(
            mixer=WORD,
            segment=(0, 33),
            d=COUNT,
            told=FLAG,
            positions=("learned", None),
            noise=NOISE,
            knobs=([], ("a",)),
            width=(0, 2.5),
            steps=COUNT,
            batch=COUNT,
            rates=TUPLE + ((-1.0,), ("x",)),
            seeds=((0.5,), ()),
            minutes=POSITIVE,
        )
        | SWITCH,
    ),
    *fields(
        RC.Config,
        dict(mixer="lla", tokens=16, pairs=4, vocab=32),
        dict(
            mixer=WORD,
            tokens=(15, 17, 16.0),
            pairs=COUNT,
            vocab=(1, "x"),
            first=(-1, 0.5),
            steps=COUNT,
            heads=(3, 0),
            rates=TUPLE,
            tol=(-1.0, NAN, "x"),
            test=(1, 2.5),
            init=POSITIVE,
        )
        | SWITCH,
    ),
    *fields(
        ST.Config,
        dict(world="swap3", mixer="deltanet"),
        dict(
            world=("swap1", "A6", None, ["A5"], "swap"),
            mixer=WORD,
            positions=("alibi", None),
            length=COUNT,
            words=COUNT,
            test=COUNT,
            backend=("cudnn", None),
            seeds=TUPLE,
            minutes=POSITIVE,
        ),
    ),
    *fields(
        LM.Config,
        {},
        dict(
            mixer=WORD,
            budget=("money", None),
            seed=(-1, 0.5),
            only=(["json"], "json", (1,)),
            steps=COUNT,
            trial_steps=COUNT,
            rates=TUPLE,
            dropout=(1.0, "x"),
            ridge=POSITIVE,
            warmup=(-1, 2.5),
            order=(8, -1, 2.0),
            letters=COUNT,
        )
        | SWITCH,
    ),
    *fields(
        BE.Config,
        {},
        dict(
            task=("sum", None),
            values=(9, 10.0),
            n_max=(1, 6.0),
            width=(63, 0),
            prompts=COUNT,
            samples=(1, 2.0),
            base_steps=(-1, 0.5),
            p_correct=("x", -0.1),
            p_slip=(NAN, 0.9),
            base_rate=POSITIVE,
            beta=POSITIVE,
            bonus=(-1.0, NAN),
            floor=(1.0, NAN, "x"),
            methods=(["rs"], "rs"),
            limit=POSITIVE,
            seed=(-1, True),
        ),
    ),
    *fields(
        G.DataConfig,
        {},
        dict(
            N=(1, 8.0, True),
            M=(1, 9),
            letters=(53, 15),
            root_low=(1.5, "x"),
            root_values=COUNT,
            noise_values=COUNT,
            overlap=FLAG,
            examples=COUNT,
            shortest=(1, 12),
            extra=(-1, 1.5),
            icl=("x", -0.1, 1.1, NAN),
            context_pool=(9, -1),
            context=([0, 1], (0,), (1, 0), (0, 3), (0.0, 1), None),
            equals=FLAG,
            graph_seed=(-1, 0.5),
        ),
    ),
    *fields(
        FT.Config,
        {},
        dict(
            data=(None, {}),
            kind=("rnn", None),
            layers=(-1, 1.5),
            heads=(3, 0),
            dropout=(1.0, "x"),
            steps=COUNT,
            batch=COUNT,
            pool=(-1, 0.5),
            rate=POSITIVE,
            betas=((0.9,), [0.9, 0.9]),
            decay=SHARE,
            newline=FLAG,
            keep=FLAG,
            prompts=COUNT,
        )
        | SWITCH,
    ),
    *fields(
        L.Config,
        {},
        dict(
            n=COUNT,
            m=COUNT,
            rule=("fear", None),
            search=("luck", None),
            target=POSITIVE,
            steps=COUNT,
            groups=COUNT,
            size=COUNT,
            rate=POSITIVE,
            inner_steps=(-1, 2.5),
            growth=(-1.0, NAN),
            seed=(-1, 0.5),
        ),
    ),
    *fields(
        CM.Setting,
        dict(n=2, m=2, kind="types", size=3),
        dict(n=COUNT, m=COUNT, kind=("colours", None), size=COUNT, sd=POSITIVE),
    ),
    *fields(
        CS.BatchSearch,
        dict(inner_steps=1),
        dict(
            groups=COUNT,
            size=COUNT,
            n_wide=(-1, 0.5),
            inner_steps=(-1, True),
            drop_item=FLAG,
            large_steps=FLAG,
        ),
    ),
    *fields(CS.BatchSearch, {}, dict(drop_item=(True,), large_steps=(True,))),
    *fields(C.Config, dict(setting="A"), dict(near_share=(0.5,))),
    *fields(C.Config, dict(setting="D"), dict(grid=(101,))),
    *fields(L.Config, dict(rule="log_ratio"), dict(growth=(0.5,))),
    *fields(L.MisreportSearch, dict(method="grid"), dict(near_share=(0.5,))),
    *fields(
        C.Config,
        {},
        dict(
            setting=("Z", None),
            model=("rnn", None),
            sizes=([], (1, 2), ((0, 1),)),
            branches=((), ("up",), "row"),
            d_model=(1, 8.0),
            steps=COUNT,
            inner_steps=(-1, 0.5),
            target=POSITIVE,
            dual_rate=POSITIVE,
            minutes=POSITIVE,
            n_regret=(1, "x"),
            grid=(1, 2.5),
            near_share=SHARE,
            tf32=FLAG,
            keep=FLAG,
            drop_item=FLAG,
            large_steps=FLAG,
        ),
    ),
    *fields(BM.TokenTree, dict(tokens=("a",), depth=1), dict(tokens=(["a"], (1,)), depth=(-1, 1.5, True))),
    *fields(
        AL.Market,
        dict(bidders=(0, 1, 2), item=0),
        dict(bidders=((0, 1), (0, 1, 5), [0, 1, 2]), item=(5, True, 1.0)),
    ),
]

# ---- chapter 30

DECODER = [
    ("Decoder of a dict", lambda: M.Decoder(SIZES), "cfg"),
    ("Decoder around a name", lambda: M.Decoder(CFG, "lla"), "mixer"),
    ("SoftmaxAttention of a dict", lambda: M.SoftmaxAttention(SIZES), "cfg"),
    ("Block around a name", lambda: M.Block(CFG, "lla"), "mixer"),
    ("Decoder, seed -1", lambda: M.Decoder(CFG, seed=-1), "seed"),
    ("Decoder, token -1", lambda: decoder()(-TOKENS), "tokens=-1"),
    ("Decoder, token beyond the vocabulary", lambda: decoder()(TOKENS * 11), "tokens=11"),
    ("Decoder, float tokens", lambda: decoder()(TOKENS.float()), "tokens.dtype"),
    ("Decoder, flags for tokens", lambda: decoder()(TOKENS > 0), "tokens.dtype"),
    ("Decoder, one dimension", lambda: decoder()(TOKENS[0]), "tokens.shape"),
    ("Decoder, a list", lambda: decoder()([[1, 2]]), "tokens"),
    ("Decoder, too long", lambda: decoder()(torch.ones(1, 33, dtype=torch.long)), "length=32"),
    (
        "enter, place beyond the positions",
        lambda: decoder().embed(TOKENS, torch.arange(5) + 28),
        "positions=32",
    ),
    ("rotary, odd D", lambda: M.rotary(normal(1, 2, 4, 3), torch.arange(4)), "x.shape"),
    ("rotary, D = 1", lambda: M.rotary(normal(1, 2, 4, 1), torch.arange(4)), "x.shape"),
    ("rotary, other positions", lambda: M.rotary(normal(1, 2, 4, 6), torch.arange(3)), "positions.shape"),
    ("rotary, base 0", lambda: M.rotary(normal(1, 2, 4, 6), torch.arange(4), 0.0), "base"),
    ("cross_entropy of one token", lambda: M.cross_entropy(normal(2, 1, 11), TOKENS[:, :1]), "tokens.shape"),
    ("cross_entropy of no text", lambda: M.cross_entropy(normal(0, 5, 11), TOKENS[:0]), "tokens.shape"),
    ("cross_entropy, other shapes", lambda: M.cross_entropy(normal(5, 2, 11), TOKENS), "logits.shape"),
    (
        "cross_entropy, other mask",
        lambda: M.cross_entropy(normal(2, 5, 11), TOKENS, TOKENS[:, 1:] > 0),
        "mask.shape",
    ),
    ("cross_entropy, target -100", lambda: M.cross_entropy(normal(2, 5, 11), TOKENS * -100), "tokens=-100"),
    (
        "cross_entropy, target without a logit",
        lambda: M.cross_entropy(normal(2, 5, 11), TOKENS * 11),
        "tokens=11",
    ),
    (
        "run_with_cache of a mixer without weights",
        lambda: M.run_with_cache(M.Decoder(CFG, X.mixer("linear")), TOKENS),
        "mixer",
    ),
    *[
        (f"replaced_heads of {h}", lambda h=h: M.replaced_heads(decoder(), {h: 0.0}).__enter__(), "heads")
        for h in ((2, 0), (0, -1), "ab", 3, (0,), (0.5, 0))
    ],
    *[
        (f"generate, n={n!r}", lambda n=n: decoder().generate(TOKENS, n), "n=")
        for n in (-1, 2.5, "3", True, None)
    ],
    *[
        (
            f"generate, temperature={t!r}",
            lambda t=t: decoder().generate(TOKENS, 2, temperature=t),
            "temperature",
        )
        for t in (-1.0, INF, NAN, "hot", True)
    ],
    *[
        (
            f"generate, lengths={l!r}",
            lambda l=l: decoder().generate(TOKENS, 2, lengths=torch.tensor(l)),
            "lengths",
        )
        for l in ([0, 5], [5, 6], [1], [1.0, 2.0], [True, True])
    ],
    ("generate, cache='no'", lambda: decoder().generate(TOKENS, 2, cache="no"), "cache"),
    ("generate from nothing", lambda: decoder().generate(TOKENS[:, :0], 2), "tokens.shape"),
    ("generate from floats", lambda: decoder().generate(TOKENS.float(), 2), "tokens.dtype"),
    ("generate from unknown tokens", lambda: decoder().generate(TOKENS - 3, 2), "tokens=-2"),
    ("generate too much", lambda: decoder().generate(MORE, 3), "n=3"),
    (
        "a cache that is full",
        lambda: (
            decoder()
            .blocks[0]
            .mixer.step(normal(2, 1, 16), decoder().blocks[0].mixer.start(2, 4), torch.full((2, 1), 4))
        ),
        "positions=4",
    ),
    ("a cache of -1 tokens", lambda: decoder().blocks[0].mixer.start(1, -1), "capacity"),
]

# ---- chapters 31 and 32

MIXERS = [
    *[
        (f"sample_token, temperature={t!r}", lambda t=t: M.sample_token(normal(2, 5), t), "temperature")
        for t in POSITIVE
    ],
    *[(f"raw_ridges, heads={n!r}", lambda n=n: X.raw_ridges(1.0, n), "heads") for n in COUNT],
    (
        "local_answers, scale",
        lambda: TT.lla_predictions(*[normal(4, 2)] * 3, scale=NAN, ridges=(1.0,)),
        "scale",
    ),
    ("mixer of no name", lambda: X.mixer("hyena"), "name"),
    *[
        (f"LocalLinear(ridge={r!r})", lambda r=r: X.LocalLinear(CFG, ridge=r), "ridge")
        for r in POSITIVE + (1e39, 1e-46)
    ],
    *[
        (f"LocalLinear(tol={t!r})", lambda t=t: X.LocalLinear(CFG, tol=t), "tol")
        for t in (-1.0, NAN, "x", True)
    ],
    ("LocalLinear(backend)", lambda: X.LocalLinear(CFG, backend="best"), "backend"),
    *[
        (f"MatrixMemory({name}={value!r})", lambda k={name: value}: X.MatrixMemory(CFG, **k), name)
        for name, value in dict(
            rule="newton", gate="door", write="twice", unit=1, skip="no", out_norm=None
        ).items()
    ],
    ("delta rule with a channel gate", lambda: X.MatrixMemory(CFG, rule="delta", gate="channel"), "gate"),
    ("steps without a head gate", lambda: X.MatrixMemory(CFG, write="step"), "write"),
    *[
        (f"{f.__name__}, rule", lambda f=f: f("max", *rule_inputs()), "rule")
        for f in (X.recurrence, X.chunked, X.chunk_parallel)
    ],
    *[
        (
            f"{f.__name__}, fewer values",
            lambda f=f: f("sum", *(x[i == 2 :] for i, x in enumerate(rule_inputs()))),
            "v.shape",
        )
        for f in (X.recurrence, X.chunked, X.chunk_parallel)
    ],
    ("more queries than keys", lambda: X.recurrence("sum", normal(6, 3), *rule_inputs()[1:]), "q.shape"),
    (
        "fading by coordinate in a delta rule",
        lambda: X.chunked("delta", *rule_inputs()[:3], -normal(4, 3).abs(), torch.ones(4, 1)),
        "log_decay.shape",
    ),
    ("mesa without a ridge", lambda: X.chunked("mesa", *rule_inputs()), "ridge"),
    *[(f"chunk={c!r}", lambda c=c: X.chunked("sum", *rule_inputs(), chunk=c), "chunk") for c in COUNT],
    ("chunk_parallel, chunk=0", lambda: X.chunk_parallel("sum", *rule_inputs(), chunk=0), "chunk"),
    ("run_rule, backend", lambda: X.run_rule("sum", *rule_inputs(), backend="cudnn"), "backend"),
    ("implicit_solve, steps=-1", lambda: X.implicit_solve(lambda x: x, normal(3), steps=-1), "steps"),
    ("make_sequences, n=-1", lambda: TT.make_sequences(TT.Config(2, 4, length=8), -1, rng()), "n=-1"),
    (
        "local_answers without a ridge",
        lambda: TT.lla_predictions(*[normal(4, 2)] * 3, scale=1.0, ridges=()),
        "ridges",
    ),
    (
        "local_answers, ridge 0",
        lambda: TT.lla_predictions(*[normal(4, 2)] * 3, scale=1.0, ridges=(0.0,)),
        "ridges",
    ),
    ("predict by nobody", lambda: TT.predict("oracle", [(1.0,)], *[normal(2, 4, 2)] * 2), "method"),
    ("predict, a setting too short", lambda: TT.predict("lla", [(1.0,)], *[normal(2, 4, 2)] * 2), "settings"),
    (
        "predict, values of other sequences",
        lambda: TT.predict("linear", [(1.0,)], normal(2, 4, 2), normal(3, 4, 2)),
        "k.shape",
    ),
    ("run with one segment", lambda: TT.run(TT.Config(2, 8, length=8)), "segment"),
    ("quarters of one segment", lambda: TT.quarters([1.0] * 7, 8), "curve"),
    ("quarters of segments of two", lambda: TT.quarters([1.0] * 7, 2), "segment"),
    ("paired_ratio of one", lambda: TT.paired_ratio([1.0], [1.0]), "a="),
    ("paired_ratio of nan", lambda: TT.paired_ratio([1.0, NAN], [1.0, 2.0]), "a[1]"),
    ("paired_ratio with nothing", lambda: TT.paired_ratio([1.0, 2.0], [0.0, 0.0]), "b="),
]

# ---- chapters 33 to 36

WORLD = IC.Config("softmax", 8, d=4, length=24, width=16)
PROMPTS = dict(tokens=16, pairs=2, vocab=16)
TASKS = [
    *[
        (f"sample_sequences, n={n!r}", lambda n=n: IC.sample_sequences(WORLD, n, rng()), "n=")
        for n in (-1, 2.5, "x", True)
    ],
    *[
        (f"sample_sequences, shift={s!r}", lambda s=s: IC.sample_sequences(WORLD, 2, rng(), shift=s), "shift")
        for s in (-1, 8, 0.5)
    ],
    ("make_tokens, told='no'", lambda: IC.make_tokens(normal(2, 3, 4), normal(2, 3, 4), "no"), "told"),
    ("make_tokens, other answers", lambda: IC.make_tokens(normal(2, 3, 4), normal(2, 4, 4), True), "y.shape"),
    (
        "errors, precision",
        lambda: IC.errors(lambda x, y: y, normal(2, 3, 4), normal(2, 3, 4), precision="int8"),
        "precision",
    ),
    ("own_pairs, shift", lambda: IC.own_pairs(WORLD, shift=8), "shift"),
    (
        "inside of no sequence",
        lambda: IC.inspect_heads(WORLD, IC.Regressor(WORLD), normal(0, 24, 4), normal(0, 24, 4)),
        "x.shape",
    ),
    ("run with one segment only", lambda: IC.run(replace(WORLD, segment=24)), "segment"),
    ("by_place of one segment", lambda: IC.by_place([1.0] * 8, 8), "curve"),
    ("by_place, segment 0", lambda: IC.by_place([1.0] * 8, 0), "segment"),
    ("Regressor, seed", lambda: IC.Regressor(WORLD, seed=-1), "seed"),
    *[
        (
            f"make_prompts({name}={value!r})",
            lambda k={name: value}: RC.make_prompts(**dict(n=2, generator=rng(), **PROMPTS) | k),
            name,
        )
        for name, values in dict(
            n=(-1, 2.5, True), tokens=(15, 6, 16.0), pairs=COUNT, vocab=(1, 2.5), power=(NAN, "x", None, True)
        ).items()
        for value in values
    ],
    ("recall_logits beyond the text", lambda: RC.recall_logits(decoder(), TOKENS, PAIRS * 5), "at=5"),
    ("recall_logits before the text", lambda: RC.recall_logits(decoder(), TOKENS, -PAIRS), "at=-1"),
    (
        "recall_loss of nothing",
        lambda: RC.recall_loss(decoder(), TOKENS, PAIRS[:, :0], PAIRS[:, :0]),
        "values.shape",
    ),
    *[
        (f"grade recall, n={n!r}", lambda n=n: RC.evaluate(decoder(), n, rng(), **PROMPTS), "n=")
        for n in COUNT
    ],
    *[
        (
            f"lessons({name}={value!r})",
            lambda k={name: value}: RC.curriculum(**dict(tokens=64, pairs=8, steps=10) | k),
            name,
        )
        for name, values in dict(tokens=COUNT, pairs=COUNT, steps=COUNT, first=(-1, 0.5)).items()
        for value in values
    ],
    ("draw_curriculum without a lesson", lambda: RC.draw_curriculum([], 16, 4), "plan"),
    ("draw_curriculum, batch=0", lambda: RC.draw_curriculum([(1, 16, 4)], 16, 0), "batch"),
    *[
        (
            f"matrix_recall({name}={value!r})",
            lambda k={name: value}: RC.matrix_recall(
                **dict(method="sum", D=4, pairs=2, vocab=8, generator=rng()) | k
            ),
            name,
        )
        for name, values in dict(method=("hyena",), D=COUNT, pairs=(0, 9), vocab=(0,), trials=COUNT).items()
        for value in values
    ],
    ("follow, move -1", lambda: ST.apply_moves(ST.moves("swap3"), -TOKENS), "word=-1"),
    ("follow, move beyond", lambda: ST.apply_moves(ST.moves("swap3"), TOKENS * 3), "word=3"),
    ("apply_moves_doubling, move -1", lambda: ST.apply_moves_doubling(ST.moves("swap3"), -TOKENS), "word=-1"),
    *[(f"moves({w!r})", lambda w=w: ST.moves(w), "world") for w in ("swap1", "", None, 5, ["A5"], "swap-2")],
    *[(f"cyclic_group({n!r})", lambda n=n: ST.cyclic_group(n), "n=") for n in COUNT],
    *[(f"identity_places({n!r})", lambda n=n: ST.identity_places(n, 3), "n=") for n in (1, 2.5, True)],
    *[
        (f"identity_places after {t!r}", lambda t=t: ST.identity_places(2, t), "t=")
        for t in (-1, 0.5, NAN, "x", None)
    ],
    ("swap_machine(1)", lambda: ST.swap_machine(1), "n=1"),
    ("make_words, n=-1", lambda: ST.make_words(ST.moves("A5"), -1, 3, rng()), "n=-1"),
    ("make_words, length=0", lambda: ST.make_words(ST.moves("A5"), 2, 0, rng()), "length"),
    ("answers for too many balls", lambda: ST.ball_logits(decoder(), TOKENS, 4), "n=4"),
    ("grade words, none", lambda: ST.evaluate(decoder(), ST.moves("swap3"), 0, 4, rng()), "words"),
    *[(f"reach, level={x!r}", lambda x=x: ST.reach([1.0], x), "level") for x in (0, 1.1, NAN, "x", True)],
    ("mean_rows of no run", lambda: ST.mean_rows(dict(runs=[]), 1, 1), "result"),
    ("mean_rows beyond", lambda: ST.mean_rows(dict(runs=[dict(rows=[1.0])]), 1, 2), "begin, end"),
    ("mean_rows between", lambda: ST.mean_rows(dict(runs=[dict(rows=[1.0])]), 1.0, 1.0), "begin, end"),
    ("part_of(3)", lambda: LM.part_of(3), "name"),
    ("Corpus.stream", lambda: LM.Corpus(dict(train={}), "3").stream("all"), "part"),
    ("read_corpus('json')", lambda: LM.read_corpus("json"), "only"),
    ("read_corpus, misspelt", lambda: LM.read_corpus(LM.PACKAGES + ("emial",)), "only='emial'"),
    ("compressor_bits of nothing", lambda: LM.compressor_bits(b""), "text"),
    ("compressor_bits of a str", lambda: LM.compressor_bits("abc"), "text"),
    *[
        (f"count_contexts, order={o!r}", lambda o=o: LM.count_contexts(b"abc", o), "order")
        for o in (-1, 8, 1.5, True, "2")
    ],
    ("count_contexts of nothing", lambda: LM.count_contexts(b"", 2), "text"),
    ("count_bits of a str", lambda: LM.count_bits(LM.count_contexts(b"abc", 1), "abc"), "text"),
    *[(f"windows, length={n!r}", lambda n=n: LM.windows(b"abc", n), "length") for n in (1, 2.5, "x", True)],
    ("evaluate_files, none", lambda: LM.evaluate_files(decoder(), [], 8), "files"),
    ("evaluate_files nowhere", lambda: LM.evaluate_files(reader(), [b"abc"], 8, device="nowhere"), "device"),
    ("build_model nowhere", lambda: LM.build_model(TINY_TEXT, 0, "nowhere"), "device"),
    ("new_writer nowhere", lambda: BW.new_writer(EXPERIMENT, "nowhere"), "device"),
    ("evaluate_files, batch=0", lambda: LM.evaluate_files(reader(), [b"abc"], 8, batch=0), "batch"),
    (
        "evaluate_files, precision",
        lambda: LM.evaluate_files(reader(), [b"abc"], 8, precision="int8"),
        "precision",
    ),
    ("bits_per_byte of one", lambda: LM.bits_per_byte([1.0], [1.0]), "bits"),
    ("bits_per_byte of empty files", lambda: LM.bits_per_byte([1.0, 2.0], [0, 0]), "sizes"),
    ("bits_per_byte of nan", lambda: LM.bits_per_byte([1.0, NAN], [1, 1]), "bits"),
    ("draw_windows of a short text", lambda: LM.draw_windows(torch.zeros(8), TINY_TEXT), "text.shape"),
    ("watched, every=0", lambda: LM.watched(None, decoder(), TOKENS, 0), "every"),
    ("inspect_heads of nothing", lambda: LM.inspect_heads(reader(), TOKENS[:0]), "tokens.shape"),
    ("train_model, part", lambda: LM.train_model(TINY_TEXT, None, 1, 0.1, part="all"), "part"),
    ("train_model, steps=0", lambda: LM.train_model(TINY_TEXT, None, 0, 0.1), "steps"),
    ("cache_gap, given=0", lambda: LM.cache_gap(reader(), TOKENS, 0), "given"),
    ("cache_gap, all given", lambda: LM.cache_gap(reader(), TOKENS, 5), "given"),
    ("write after ä", lambda: LM.write(reader(), "ä", 2), "prompt"),
    ("write, n=-1", lambda: LM.write(reader(), "a", -1), "n=-1"),
    ("step_seconds, four steps", lambda: LM.step_seconds(TINY_TEXT, torch.zeros(20), steps=4), "steps"),
    ("step_seconds, no round", lambda: LM.step_seconds(TINY_TEXT, torch.zeros(20), rounds=0), "rounds"),
    ("written, n=0", lambda: LM.writing_report(reader(), 0), "n=0"),
    ("compare with nothing", lambda: LR.compare([], []), "a="),
    (
        "compare in quarter -1",
        lambda: LR.compare(*[[dict(corpus=dict(hash="x"))]] * 2, quarter=-1),
        "quarter",
    ),
    *[
        (
            f"tasks lab: answers({name}={value!r})",
            lambda k={name: value}: TL.answers(
                **dict(rule="lla", q=normal(1, 2), k=normal(3, 2), v=normal(3, 2), scale=1.0, ridge=0.1) | k
            ),
            name,
        )
        for name, values in dict(
            rule=("hyena",), scale=(-1.0, NAN), ridge=POSITIVE, step=POSITIVE, decay=(0, 1.1, "x")
        ).items()
        for value in values
    ],
    *[(f"active_piece({c!r})", lambda c=c: TL.active_piece(c, False), "change") for c in (0, 256, 1.5, True)],
    ("active_piece, back='no'", lambda: TL.active_piece(3, "no"), "back"),
    ("two_pieces in one dimension", lambda: TL.two_pieces(1, 1.0, 2, 0), "d=1"),
    ("two_pieces, noise", lambda: TL.two_pieces(2, 1.0, 2, 0, NAN), "noise"),
    ("tuning, fading 2", lambda: TL.tuning("lla", 1.0, 0.1, 0.1, 1.0, 2.0, 0.9), "fading"),
    ("circle_figure, now=0", lambda: TL.circle_figure(now=0), "now"),
    *[
        (f"recall_keys(D={d!r})", lambda d=d: TL.recall_keys("right angles", 1, d, 0), "D=")
        for d in (0, 65, 2.0, True)
    ],
    ("recall_keys, pairs=0", lambda: TL.recall_keys("right angles", 0, 2, 0), "pairs"),
    (
        "recall_prompt of 26",
        lambda: TL.recall_prompt(26, 2, "random directions", TL.ASKED[0], False, 0),
        "pairs",
    ),
    (
        "recall_prompt, twice='no'",
        lambda: TL.recall_prompt(2, 2, "random directions", TL.ASKED[0], "no", 0),
        "twice",
    ),
    ("line_keys, n=0", lambda: TL.line_keys("evenly", 0, 0), "n=0"),
    ("line_weights of a text", lambda: TL.weights_figure(x="x"), "queries"),
    ("two_pieces of a list", lambda: TL.two_pieces([2], 1.0, 2, 0), "d="),
    ("recall_keys, seed True", lambda: TL.recall_keys("random directions", 2, 2, True), "seed"),
    (
        "line_weights far out",
        lambda: TL.line_weights([11.0], TL.line_keys("evenly", 3, 0), scale=1.0, ridge=0.1),
        "queries",
    ),
]

# ---- Part 4

BRITE = [
    ("beginnings(-1)", lambda: BM.TokenTree(("a",), 1).beginnings(-1), "length"),
    ("text of no token", lambda: BM.TokenTree(("a",), 1).text((-1,)), "z=-1"),
    (
        "tree_policy of nan",
        lambda: BM.tree_policy(BM.TokenTree(("a",), 1), lambda z: [NAN, 1.0]),
        "next_token",
    ),
    ("tree_log_probs of nothing", lambda: BM.tree_log_probs([]), "policy"),
    ("LatentModel of nan", lambda: BM.LatentModel(np.full((1, 2, 2), NAN)), "logits"),
    ("LatentModel of one dimension", lambda: BM.LatentModel(np.zeros(3)), "logits.shape"),
    ("LatentModel without a possibility", lambda: BM.LatentModel(np.full((1, 2, 2), -INF)), "logits"),
    ("tabular of texts", lambda: BM.LatentModel.tabular([[["a"]]]), "probabilities"),
    (
        "log_linear, empty",
        lambda: BM.LatentModel.log_linear(np.zeros((1, 0, 2, 2)), [0.0, 0.0]),
        "features.shape",
    ),
    ("posterior of texts", lambda: TABLE.posterior("abc"), "signal"),
    ("elbo of nan", lambda: TABLE.elbo(np.full((2, 3, 2), NAN), SIGNAL), "q="),
    ("observed, answer 2", lambda: BM.observed([0, 2], (2, 3, 2)), "answers"),
    ("observed, shape", lambda: BM.observed([0, 1], (2, 3)), "shape"),
    ("rewarded, empty", lambda: BM.rewarded(np.zeros((1, 0, 2)), beta=1.0), "reward"),
    *[
        (f"rewarded, beta={b!r}", lambda b=b: BM.rewarded(np.zeros((1, 2, 2)), beta=b), "beta")
        for b in POSITIVE
    ],
    ("soft_value_iteration of nothing", lambda: BM.soft_value_iteration([], beta=1.0), "rewards"),
    (
        "soft_value_iteration of inf",
        lambda: BM.soft_value_iteration([np.full((1, 2), INF)], beta=1.0),
        "rewards",
    ),
    *[
        (
            f"theta_update(max_steps={n!r})",
            lambda n=n: B.theta_update(LINEAR, SIGNAL / 3, max_steps=n),
            "max_steps",
        )
        for n in COUNT
    ],
    *[
        (f"theta_update(ridge={r!r})", lambda r=r: B.theta_update(LINEAR, SIGNAL / 3, ridge=r), "ridge")
        for r in NOISE
    ],
    ("theta_update, tol", lambda: B.theta_update(LINEAR, SIGNAL / 3, tol=NAN), "tol"),
    *[
        (f"brite(rounds={n!r})", lambda n=n: B.brite(TABLE, SIGNAL, rounds=n), "rounds")
        for n in (-1, 1.5, True, "2")
    ],
    *[
        (f"random_problem({name})", lambda name=name: B.random_problem(0, **{name: 0}), name)
        for name in ("coupling", "prompts", "rationales", "answers", "features")
    ],
    ("random_problem, seed", lambda: B.random_problem(-1), "seed"),
    (
        "divergence of other shapes",
        lambda: B.divergence(TABLE, BM.LatentModel.tabular(np.ones((2, 2, 2)))),
        "b=",
    ),
    ("gradient of a table", lambda: B.gradient(TABLE, SIGNAL), "model"),
    ("trace of no path", lambda: B.trace([], B.random_problem(0)), "models"),
    ("objective, weights", lambda: B.objective(TABLE, SIGNAL, weights=["a", "b"]), "weights"),
    *[
        (
            f"rejection_update(draws={n!r})",
            lambda n=n: B.rejection_update(TABLE, SIGNAL, draws=n, generator=np.random.default_rng(0)),
            "draws",
        )
        for n in COUNT
    ],
    *[
        (f"coverage({p!r}, {n!r})", lambda p=p, n=n: B.coverage(p, n), name)
        for p, n, name in (
            (1.1, 2, "p="),
            (NAN, 2, "p="),
            ("x", 2, "p="),
            (0.5, -1, "draws"),
            (0.5, INF, "draws"),
            (0.0, NAN, "draws"),
        )
    ],
    *[(f"digit_writer({d!r})", lambda d=d: BL.digit_writer(d), "start") for d in (10, -1, 2.5, True, [1])],
    ("half_rounds, answer 10", lambda: BL.half_rounds(1, 10, 1.0), "answer"),
    ("thoughts_figure, half 99", lambda: BL.thoughts_figure(half=99), "half"),
    ("coverage_figure, half a draw", lambda: BL.coverage_figure(draws=0.5), "draws"),
    (
        "noisy_rationales without care",
        lambda: BT.noisy_rationales(TASK, prompts().x, NAN, 0.1, rng()),
        "p_correct",
    ),
    (
        "noisy_rationales, more than one",
        lambda: BT.noisy_rationales(TASK, prompts().x, 0.8, 0.3, rng()),
        "p_correct, p_slip",
    ),
    *[
        (f"sample_prompts, n={n!r}", lambda n=n: BT.sample_prompts(TASK, 3, rng(), n), "n=")
        for n in (0, 1, 4, 2.5)
    ],
    *[
        (f"sample_prompts, count={n!r}", lambda n=n: BT.sample_prompts(TASK, n, rng()), "count")
        for n in (-1, 2.5, True)
    ],
    ("write to another task", lambda: BW.write(writer(), TASK, prompts().x[:, 1:], rng()), "x.shape"),
    ("write, greedy='no'", lambda: BW.write(writer(), TASK, prompts().x, rng(), greedy="no"), "greedy"),
    (
        "accept, checked='no'",
        lambda: BU.accept(TASK, prompts(), torch.zeros(1, 4, 5), rng(), checked="no"),
        "checked",
    ),
    ("train_loop, steps=-1", lambda: BU.train_loop(writer(), None, -1, 0.1), "steps"),
    (
        "imitate nothing",
        lambda: BU.imitate(writer(), EXPERIMENT, prompts().x[:0], prompts().gold[:0], rng()),
        "text.shape",
    ),
    (
        "nats of nothing",
        lambda: BU.nll(writer(), EXPERIMENT, prompts().x[:0], prompts().gold[:0]),
        "text.shape",
    ),
    *[
        (f"sample, draws={n!r}", lambda n=n: BU.sample(writer(), EXPERIMENT, prompts(), n, rng()), "draws")
        for n in COUNT
    ],
    ("accept nothing", lambda: BU.accept(EXPERIMENT, prompts(), torch.zeros(0, 4, 5), rng()), "texts.shape"),
    (
        "returns_of, reward",
        lambda: BU.returns_of(writer(), writer(), EXPERIMENT, prompts(), None, "praise"),
        "reward",
    ),
    (
        "psi_update, reward",
        lambda: BU.psi_update(writer(), writer(), EXPERIMENT, prompts(), rng(), "praise"),
        "reward",
    ),
    (
        "psi_update of nobody",
        lambda: BU.psi_update(writer(), writer(), EXPERIMENT, prompts()[:0], rng()),
        "data",
    ),
    (
        "prefer nothing",
        lambda: BU.dpo(writer(), writer(), EXPERIMENT, *[prompts().x[:0]] * 3, rng()),
        "x.shape",
    ),
    ("train by luck", lambda: BE.train("luck", EXPERIMENT), "method"),
    ("run by luck", lambda: BE.run(replace(EXPERIMENT, methods=("luck",))), "methods"),
    ("by_length of others", lambda: BT.by_length(prompts(), torch.ones(3)), "values.shape"),
    ("evidence of 2", lambda: BE.evidence(torch.tensor([2.0]), 1.0), "success"),
    ("evidence, bonus", lambda: BE.evidence(torch.tensor([0.5]), NAN), "bonus"),
]

# ---- Part 5

WORDS = G.vocabulary(DATA)
FTCT = [
    *[(f"chains({m!r})", lambda m=m: G.CausalGraph(DATA).chains(m), "m=") for m in (0, 5, 1.5, True)],
    ("values(1.5)", lambda: G.CausalGraph(DATA).values(1.5), "root"),
    ("encode nonsense", lambda: WORDS.encode("??"), "text"),
    ("encode a list", lambda: WORDS.encode(["A"]), "text"),
    ("decode -1", lambda: WORDS.decode([-1]), "tokens"),
    ("decode beyond", lambda: WORDS.decode([len(WORDS.names)]), "tokens"),
    *[(f"sample_batch, n={n!r}", lambda n=n: G.sample_batch(DATA, rng(), n), "n=") for n in COUNT],
    *[(f"few_shot_prompts, n={n!r}", lambda n=n: G.few_shot_prompts(DATA, rng(), n, 1), "n=") for n in COUNT],
    *[
        (f"few_shot_prompts, k={k!r}", lambda k=k: G.few_shot_prompts(DATA, rng(), 2, k), "k=")
        for k in (-1, 1.5, True)
    ],
    *[(f"coverage, n={n!r}", lambda n=n: G.coverage(DATA, rng(), n), "n=") for n in COUNT],
    ("coverage, branch 2", lambda: G.coverage(DATA, rng(), 3, 2), "branch"),
    ("coverage of lists only", lambda: G.coverage(replace(DATA, icl=1.0), rng(), 3), "n=3"),
    ("batches of a small pool", lambda: FT.batches(FT.Config(DATA, pool=5), rng()), "pool"),
    ("batches, ahead=0", lambda: FT.batches(FT.Config(DATA), rng(), 0), "ahead"),
    ("train, every=0", lambda: FT.train(FT.Config(DATA), every=0), "every"),
    ("an MLP of one map", lambda: FT.Config(DATA, kind="mlp", layers=1), "layers"),
    *[
        (
            f"evaluate, n={n!r}",
            lambda n=n: FT.evaluate(FT.build_model(FT.Config(DATA)), FT.Config(DATA), 1, n=n),
            "n=",
        )
        for n in (0, -1, 0.5)
    ],
    ("evaluate, k=-1", lambda: FT.evaluate(FT.build_model(FT.Config(DATA)), FT.Config(DATA), -1), "k=-1"),
    (
        "score of nothing",
        lambda: FT.score(DATA, TOKENS[:0], G.few_shot_prompts(DATA, rng(), 2, 1)),
        "written.shape",
    ),
    *[
        (f"WindowMLP({k})", lambda k=k: FT.WindowMLP(**dict(vocab=11, window=4, hidden=4) | k), next(iter(k)))
        for k in (dict(vocab=0), dict(window=0), dict(layers=1), dict(hidden=2.5), dict(seed=-1))
    ],
    ("WindowMLP, token -1", lambda: mlp()(-TOKENS), "tokens=-1"),
    ("WindowMLP, token beyond", lambda: mlp()(TOKENS * 11), "tokens=11"),
    ("WindowMLP writes -1", lambda: mlp().generate(TOKENS, -1), "n=-1"),
    ("WindowMLP, lengths", lambda: mlp().generate(TOKENS, 2, lengths=torch.tensor([0, 6])), "lengths"),
    ("recorded_model", lambda: FM.recorded_model("large_s0"), "name"),
    ("Script of nothing", lambda: FM.Script(TOKENS[:0], TOKENS[:0], TOKENS[:0]), "tokens.shape"),
    ("script of nothing", lambda: FM.script(DATA, TOKENS[:0]), "tokens.shape"),
    (
        "attention_scores of one line",
        lambda: FM.attention_scores(decoder(), DATA, FM.Script(TOKENS, PAIRS[:, None], PAIRS[:, None])),
        "s.letter.shape",
    ),
    *[
        (f"write_lines, keep={k!r}", lambda k=k: FM.write_lines(DATA, rng(), [(PAIRS, PAIRS)], k), "keep")
        for k in (-1, 2.5, "x", None, True, torch.tensor([-1, 2]))
    ],
    ("write_lines of none", lambda: FM.write_lines(DATA, rng(), [], 1), "lines"),
    (
        "write_lines, letter='no'",
        lambda: FM.write_lines(DATA, rng(), [(PAIRS, PAIRS)], 1, letter="no"),
        "letter",
    ),
    (
        "chain_values, follow='no'",
        lambda: FM.chain_values(DATA, rng(), torch.tensor([0]), follow="no"),
        "follow",
    ),
    (
        "world_figure, values='no'",
        lambda: FL.world_figure(FL.world_of(), {}, alt=SAID, values="no"),
        "values",
    ),
    ("chain_values, branch -1", lambda: FM.chain_values(DATA, rng(), torch.tensor([-1])), "branch"),
    *[
        (f"damaged_prompts, n={n!r}", lambda n=n: FM.damaged_prompts(DATA, rng(), n, "clean"), "n=")
        for n in COUNT
    ],
    ("damaged_prompts, kind", lambda: FM.damaged_prompts(DATA, rng(), 2, "upside down"), "kind"),
    (
        "damaged_prompts on chains of three",
        lambda: FM.damaged_prompts(replace(DATA, N=3), rng(), 2, "clean"),
        "data.N",
    ),
    (
        "ablate_heads, at",
        lambda: FM.ablate_heads(decoder(), DATA, script(), usual={}, at=("letters",)),
        "at=",
    ),
    (
        "ablate_heads, head",
        lambda: FM.ablate_heads(decoder(), DATA, script(), usual={}, heads=[((9, 9),)]),
        "heads",
    ),
    ("find_heads among none", lambda: FM.find_heads({}), "looks"),
    ("perfect_probe of no class", lambda: FB.perfect_probe(3, 0), "classes"),
    ("perfect_probe, examples", lambda: FB.perfect_probe(-1, 3), "examples"),
    *[
        (
            f"linear_probe, learn={n!r}",
            lambda n=n: FB.linear_probe(normal(6, 2), torch.ones(6).long(), learn=n),
            "learn",
        )
        for n in (0, 1, 6, 2.5)
    ],
    (
        "linear_probe, ridge",
        lambda: FB.linear_probe(normal(6, 2), torch.ones(6).long(), learn=3, ridge=-1.0),
        "ridge",
    ),
    ("probe_table, n=3", lambda: FB.probe_table(decoder(), DATA, rng(), n=3), "n=3"),
    ("handmade_model, parent", lambda: FB.handmade_model(DATA, parent="oldest"), "parent"),
    ("handmade_model in the long format", lambda: FB.handmade_model(replace(DATA, equals=True)), "equals"),
    *[(f"decoys, n={n!r}", lambda n=n: FB.decoys(DATA, rng(), n), "n=") for n in COUNT],
    *[(f"explorer_figure({v!r})", lambda v=v: FL.explorer_figure(v), "vertex") for v in (15, -1, 1.5)],
    ("sentence_figure(-1)", lambda: FL.sentence_figure(-1), "number"),
    ("surgery_figure, model", lambda: FL.surgery_figure(model=-1), "model"),
    ("switch_figure, h00='no'", lambda: FL.switch_figure(h00="no"), "h00"),
    ("token_strip of nothing", lambda: FL.token_strip(figures.canvas("x", alt=SAID), [], top=0.0), "words"),
]

# ---- Part 6 and the figures

VALUES, HALF = torch.full((4, 2, 2), 0.5), lambda bids: (bids, bids.sum(2) / 2)
AUCTIONS = [
    *[(f"as_box(m={m!r})", lambda m=m: L.as_box(0, 1, m), "m=") for m in COUNT],
    ("as_box of True", lambda: L.as_box(0, True, 2), "high"),
    ("train_net nowhere", lambda: L.train_net(L.Config(steps=1), device="nowhere"), "device"),
    ("market train nowhere", lambda: C.train(C.Config(), device="nowhere"), "device"),
    ("as_box of nan", lambda: L.as_box(NAN, 1, 2), "low, high"),
    ("LearnedMenu(0, 1)", lambda: L.LearnedMenu(0, 1), "high"),
    *[(f"LearnedMenu(size={n!r})", lambda n=n: L.LearnedMenu([0], [1], size=n), "size") for n in COUNT],
    (
        "soft_revenue of nobody",
        lambda: L.LearnedMenu([0], [1]).soft_revenue(VALUES[:0, 0, :1], 1.0),
        "values.shape",
    ),
    *[
        (
            f"train_menu({name}={value!r})",
            lambda k={name: value}: L.train_menu([0, 0], [1, 1], **dict(steps=1) | k),
            name,
        )
        for name, values in dict(
            steps=COUNT, batch=COUNT, rate=POSITIVE, beta=(1.0, (1.0,), (0.0, 1.0))
        ).items()
        for value in values
    ],
    *[
        (f"box_revenue({k})", lambda k=k: L.box_revenue(HALF, 0, 1, **k), next(iter(k)))
        for k in (dict(m=0), dict(log2_points=-1), dict(log2_points=2.5), dict(block=0))
    ],
    *[
        (f"RegretNet({k})", lambda k=k: L.RegretNet(**dict(n=2, m=2) | k), next(iter(k)))
        for k in (dict(n=0), dict(m=2.0), dict(hidden=True), dict(layers=0), dict(seed=-1))
    ],
    *[
        (f"report_utility of bidder {i!r}", lambda i=i: L.report_utility(HALF, VALUES, i, VALUES), "i=")
        for i in (-1, 2, 0.5)
    ],
    (
        "report_utility of other misreports",
        lambda: L.report_utility(HALF, VALUES, 0, VALUES[:2]),
        "misreports.shape",
    ),
    (
        "projected_ascent, steps=-1",
        lambda: L.projected_ascent(
            lambda z: z.sum(2), VALUES, torch.zeros(1), torch.ones(1), steps=-1, step=0.1
        ),
        "steps",
    ),
    (
        "projected_ascent, step=0",
        lambda: L.projected_ascent(
            lambda z: z.sum(2), VALUES, torch.zeros(1), torch.ones(1), steps=1, step=0
        ),
        "step",
    ),
    *[
        (
            f"best_misreports({name}={value!r})",
            lambda k={name: value}: L.best_misreports(HALF, VALUES, **k),
            name,
        )
        for name, values in dict(
            method=("guess", None),
            grid=(1, 2.5),
            starts=COUNT,
            steps=(-1, 0.5),
            step=POSITIVE,
            near_share=SHARE,
            seed=(-1,),
            block=COUNT,
        ).items()
        for value in values
    ],
    ("best_misreports of nobody", lambda: L.best_misreports(HALF, VALUES[:0]), "values.shape"),
    (
        "in_batch_regret of nothing",
        lambda: L.in_batch_regret(HALF, VALUES[:1], VALUES.view(2, 1, 4, 2)[:, :, :0]),
        "own.shape",
    ),
    (
        "in_batch_regret of others",
        lambda: L.in_batch_regret(HALF, VALUES[:2], VALUES.view(2, 1, 4, 2)),
        "others.shape",
    ),
    *[
        (f"AugmentedLagrangian({k})", lambda k=k: L.AugmentedLagrangian(**dict(n=2) | k), next(iter(k)))
        for k in (dict(n=0), dict(every=0), dict(weight=-1.0), dict(rho=NAN), dict(growth="x"))
    ],
    *[
        (f"LogRatio({k})", lambda k=k: L.LogRatio(**dict(steps=3) | k), next(iter(k)))
        for k in (dict(steps=0), dict(target=0), dict(budget_start=NAN), dict(dual_rate=0.0))
    ],
    ("as_menu, one point", lambda: L.as_menu(HALF, points=1), "points"),
    ("as_menu, discount", lambda: L.as_menu(HALF, discount=NAN), "discount"),
    ("measure one bidder", lambda: L.measure(HALF, VALUES[:1, :1]), "values.shape"),
    *[
        (
            f"sample_market({k})",
            lambda k=k: CM.sample_market(CM.SETTINGS["D"], **dict(B=2) | k),
            next(iter(k)),
        )
        for k in (dict(B=0), dict(B=2.5), dict(n=0), dict(m=0), dict(seed=-1))
    ],
    ("centre of one context", lambda: CM.SETTINGS["D"].centre(TOKENS), "contexts"),
    ("yardsticks of nothing", lambda: CM.yardsticks(CM.SETTINGS["U"], VALUES[:0]), "values.shape"),
    ("Encoder(6, 4)", lambda: CN.Encoder(6, 4), "d=6"),
    *[
        (f"CITransNet({k})", lambda k=k: CN.CITransNet(**dict(d_bidder=0, d_item=0) | k), next(iter(k)))
        for k in (
            dict(d_bidder=-1),
            dict(d_model=1),
            dict(n_layers=0),
            dict(n_heads=2.5),
            dict(types=0),
            dict(branches=("up",)),
            dict(branches=("row", "row")),
            dict(seed=-1),
        )
    ],
    ("CIRegretNet(0, 2)", lambda: CN.CIRegretNet(0, 2, 0, 0), "n=0"),
    (
        "misreport_utility of other misreports",
        lambda: CS.misreport_utility(HALF, VALUES[:1], VALUES[None], VALUES[None, :2]),
        "misreports.shape",
    ),
    (
        "near_misreports, steps=-1",
        lambda: CS.near_misreports(HALF, VALUES[:1], VALUES[None], VALUES[None], steps=-1),
        "steps",
    ),
    (
        "near_misreports, large_steps='no'",
        lambda: CS.near_misreports(HALF, VALUES[:1], VALUES[None], VALUES[None], large_steps="no"),
        "large_steps",
    ),
    (
        "batch_regret, large_steps='no'",
        lambda: CS.batch_regret(HALF, [VALUES] * 4, large_steps="no"),
        "large_steps",
    ),
    ("compiled, on='no'", lambda: CS.compiled(decoder(), on="no"), "on="),
    ("batch_loss, compile='no'", lambda: CS.batch_loss(decoder(), CS.BatchSearch(), "no"), "compile"),
    (
        "batch_regret, inner_steps=-1",
        lambda: CS.batch_regret(HALF, [VALUES] * 4, inner_steps=-1),
        "inner_steps",
    ),
    ("rounded_products('no')", lambda: C.rounded_products("no").__enter__(), "on="),
    ("mix of unknown inks", lambda: AL.mix([[0.5]], ["blue"]), "role"),
    ("mix, other shares", lambda: AL.mix([[0.5, 0.5]], ["lla"]), "shares.shape"),
    ("revenue_and_regret, seed", lambda: AL.revenue_and_regret(AL.Market((0, 1, 2), 0), seed=-1), "seed"),
    *[
        (
            f"hunt, {k}",
            lambda k=k: AL.search_misreports(
                "one bidder, target 0.001", *dict(v1=0.4, v2=0.4, w1=0.5, w2=0.5).__or__(k).values()
            ),
            next(iter(k)),
        )
        for k in (dict(v1=2.0), dict(v2="x"), dict(w1=NAN), dict(w2=True))
    ],
    (
        "revenue_and_regret of no auction",
        lambda: AL.revenue_and_regret(AL.Market((0, 1, 2), 0), profiles=0),
        "profiles",
    ),
    *[
        (f"allocation_figure({k})", lambda k=k: AL.allocation_figure(**k), name)
        for k, name in (
            (dict(x1=5), "bidders"),
            (dict(y=-1), "item"),
            (dict(third=2.0), "third"),
            (dict(third="x"), "third"),
        )
    ],
    ("sellers_figure, net", lambda: AL.sellers_figure("nobody"), "net"),
    ("misreport_figure, v1=2", lambda: AL.misreport_figure(v1=2.0), "v1"),
    ("misreport_figure, starts=3", lambda: AL.misreport_figure(starts=3), "starts"),
    (
        "add_curve, markers='no'",
        lambda: figures.add_curve(figures.canvas("x", alt=SAID), [0], [0], "lla", markers="no"),
        "markers",
    ),
    (
        "heat_map, signed='no'",
        lambda: figures.heat_map([[1.0]], x="x", y="y", signed="no", alt=SAID),
        "signed",
    ),
    ("colour('blue')", lambda: figures.colour("blue"), "role"),
    ("colour of a list", lambda: figures.colour(["lla"]), "role"),
    ("colour, alpha=2", lambda: figures.colour("lla", 2.0), "alpha"),
    ("with_slider of nothing", lambda: figures.with_slider({}, name="k"), "frames"),
    *[
        (
            f"with_slider, active={a!r}",
            lambda a=a: figures.with_slider({0: figures.canvas("x", alt=SAID)}, name="k", active=a),
            "active",
        )
        for a in (1, -1, 0.5, True)
    ],
    (
        "heat_map of nothing",
        lambda: figures.heat_map(np.zeros((0, 3)), x="x", y="y", alt=SAID),
        "values.shape",
    ),
    (
        "heat_map of one dimension",
        lambda: figures.heat_map([1.0, 2.0], x="x", y="y", alt=SAID),
        "values.shape",
    ),
    ("simplex in four", lambda: figures.simplex(np.ones((2, 4)), ("a", "b", "c"), alt=SAID), "points.shape"),
    ("graph of nothing", lambda: figures.graph({}, [], alt=SAID), "positions"),
    ("graph, unknown vertex", lambda: figures.graph({"a": (0, 0)}, [("a", "b")], alt=SAID), "edges"),
]

CASES: list[tuple[str, Callable[[], object], str]] = [
    *CONFIGS,
    *DECODER,
    *MIXERS,
    *TASKS,
    *BRITE,
    *FTCT,
    *AUCTIONS,
]
