"What a step and a pass take at least, by counts that are made here in another way."

import pytest

from lla_course.attention.bounds import CLOCK, MULTIPLY, MULTIPROCESSORS, call_work, least_step_ms


@pytest.mark.parametrize("d", [16, 64, 128])
def test_a_step_is_three_products_and_one_with_ones_on_tensor_cores_that_never_wait(d):
    operations = 0
    for query in range(0, 256, 64):
        for _ in range(0, query + 64, 64):
            operations += 3 * (2 * 64 * 64 * d) + 2 * 64 * 64 * 8
    seconds = 3 * operations / (MULTIPROCESSORS * MULTIPLY * CLOCK)
    assert least_step_ms(d, heads=3, n=256) == pytest.approx(1e3 * seconds)
    assert least_step_ms(d, heads=3, n=200) == least_step_ms(d, heads=3, n=256), "tiles are whole"


def test_the_longest_queue_of_chapter_26b():
    "400 cycles for a tile of 64 keys at d = 64."
    pairs = 64 * sum(range(1, 65))
    assert least_step_ms(64) == pytest.approx(1e3 * pairs * 400 / (MULTIPROCESSORS * CLOCK))


def test_a_pass_is_six_and_three_a_step():
    product = 2 * 4096**2 / 2 * 64  # of one head
    operations, bytes_ = call_work(64, 10, heads=2)
    assert operations == 36 * 2 * product and bytes_ == 32 * 2 * 4096 * 64
    assert call_work(64, 0, heads=2)[0] == 6 * 2 * product


@pytest.mark.parametrize("name, value", [("d", 0), ("heads", 1.5), ("n", -64)])
def test_sizes_that_make_no_sense_are_refused(name, value):
    sizes = dict(d=64, heads=2, n=128) | {name: value}
    with pytest.raises(ValueError, match=f"^{name}="):
        least_step_ms(**sizes)
    with pytest.raises(ValueError, match=f"^{name}="):
        call_work(steps=3, **sizes)
    with pytest.raises(ValueError, match="^steps="):
        call_work(64, -1)
