"Parts 3 to 6 answer bad input with one `ValueError`: the argument, its value, and what was expected."

import pytest
import torch
from models import CASES


def changeable():
    return torch.get_default_dtype(), torch.get_num_threads(), torch.get_float32_matmul_precision()


def test_there_are_enough_cases_and_each_has_a_name_of_its_own():
    labels = [label for label, _, _ in CASES]
    assert len(labels) >= 150 and {name for name in labels if labels.count(name) > 1} == set()


@pytest.mark.parametrize("call, text", [pytest.param(call, text, id=label) for label, call, text in CASES])
def test_bad_input_is_named(call, text):
    before = changeable()
    with pytest.raises(ValueError) as caught:
        call()
    assert text in str(caught.value) and "expected" in str(caught.value)
    assert before == changeable()
