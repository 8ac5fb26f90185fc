"An empty checkout for each test."

import pytest
from miniature import PARAMETERS, chapter


@pytest.fixture
def root(tmp_path, monkeypatch):
    "An empty checkout, which is also the working directory."
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = lla_course\n")
    (tmp_path / "nbs").mkdir()
    chapter(tmp_path, "00_core", 'print(preset, seed)', parameters=PARAMETERS)
    monkeypatch.chdir(tmp_path)
    return tmp_path
