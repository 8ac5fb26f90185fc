"""Draw the problems of chapter 43 from reasoning-gym: `python tests/brite/draw_problems.py` writes nbs/data.

Needs `pip install --no-deps reasoning-gym==0.1.25` and what it imports (constraints.txt)."""

import json
from pathlib import Path

SETTINGS = {
    "chain_sum": dict(min_terms=3, max_terms=5, min_digits=2, max_digits=2),
    "leg_counting": dict(min_animals=1, max_animals=3, min_instances=1, max_instances=9),
    "spell_backward": dict(min_word_len=4, max_word_len=7),
}
SIZES = dict(lesson=1000, train=1024, tune=256, test=512)
FILE = Path(__file__).parents[2] / "nbs" / "data" / "43_problems.json"


def core(family, entry):
    "What a problem is made of."
    about = entry["metadata"]
    if family == "chain_sum":
        return about["expression"].replace(" ", "")
    if family == "leg_counting":
        return ",".join(f"{count} {animal}" for animal, count in about["animals"].items())
    return about["word"]


def entries(family, count):
    "The first entries that differ, with the data set that scores their answers."
    import reasoning_gym

    data = reasoning_gym.create_dataset(family, size=40 * count, seed=43, **SETTINGS[family])
    found = {}
    for i in range(len(data)):
        found.setdefault(core(family, entry := data[i]), entry)
        if len(found) == count:
            return data, found
    raise ValueError(f"fewer than {count} problems of {family} differ")


def draw():
    "The content of the file."
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    problems = {}
    for family in SETTINGS:
        cores = [*entries(family, sum(SIZES.values()))[1]]
        splits, between = {}, ";" if family == "leg_counting" else " "
        for split, size in SIZES.items():
            splits[split], cores = between.join(cores[:size]), cores[size:]
        problems[family] = splits
    return dict(source="reasoning-gym 0.1.25", settings=SETTINGS, legs=ANIMALS, problems=problems)


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(draw(), indent=1) + "\n")
