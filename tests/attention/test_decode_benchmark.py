"The measurements of decoding, at sizes for the CPU."

import pytest

from lla_course.attention.decode_benchmark import Config, cells, run


def test_a_measurement_runs_on_the_cpu():
    names = cells("full")
    assert len(names) == 12 and names.keys() == cells("fast").keys()
    result = run(cells("fast")["d64_32x4k"]).result
    assert result["error"] < 4e-3 and result["lla_ms"] > 0 and result["softmax_ms"] > 0
    with pytest.raises(ValueError, match="preset='slow'"):
        cells("slow")


@pytest.mark.parametrize("bad", [dict(d=0), dict(n=2.5), dict(ridge=-1.0), dict(seed=-1), dict(checked=0)])
def test_settings_without_sense_are_refused(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"{name}="):
        Config(**dict(d=64, sequences=2, n=128) | bad)
