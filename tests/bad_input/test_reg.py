"Every bad argument in the table is answered by one `ValueError` that names it and says what was expected."

import pytest
from reg import CASES


def test_the_table_is_large_and_its_labels_differ():
    assert len(CASES) >= 300 and len({label for label, _, _ in CASES}) == len(CASES)


@pytest.mark.parametrize("call, text", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_it_is_refused_by_name(call, text):
    with pytest.raises(ValueError) as error:
        call()
    message = str(error.value)
    assert message.startswith(text) and ": expected" in message and "\n" not in message
