"Bad input to attention is answered by one ValueError that names the argument and says what was expected."

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("bad_input_attention", Path(__file__).with_name("attention.py"))
attention = importlib.util.module_from_spec(spec)
spec.loader.exec_module(attention)


def test_there_are_many():
    labels = {label for label, _, _ in attention.CASES}
    assert len(labels) == len(attention.CASES) >= 80


@pytest.mark.filterwarnings("ignore:.*prototype", "ignore:.*beta state", "ignore:.*quantiz")
@pytest.mark.parametrize("label, call, text", attention.CASES, ids=[label for label, _, _ in attention.CASES])
def test_bad_input_is_named(label, call, text):
    with pytest.raises(ValueError) as found:
        call()
    message = str(found.value)
    assert type(found.value) is ValueError and text in message and "expected" in message, message
