"A checkout in miniature: settings.ini and nbs/ with whatever chapters a test needs."
from pathlib import Path
import nbformat, pytest

PARAMETERS = 'preset = "fast"; seed = 0\nwidth = 0.5  # a = b'

def chapter(root, stem, *sources, parameters=None, module=None):
    "Write nbs/STEM.ipynb with these code cells."
    code = nbformat.v4.new_code_cell
    cells = [code(f"#| default_exp {module}")] if module else []
    cells.append(nbformat.v4.new_markdown_cell(f"# Title of {stem}\n\n> What {stem} does."))
    if parameters: cells.append(code(parameters, metadata={"tags": ["parameters"]}))
    path = Path(root)/"nbs"/f"{stem}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells + [code(s) for s in sources]), path)
    return path

def printed(path):
    "All that the cells of an executed notebook wrote to stdout."
    return "".join(o.get("text", "") for c in nbformat.read(path, 4).cells for o in c.get("outputs", []))

@pytest.fixture
def root(tmp_path, monkeypatch):
    "An empty checkout, which is also the working directory."
    (tmp_path/"settings.ini").write_text("[DEFAULT]\n")
    (tmp_path/"nbs").mkdir()
    chapter(tmp_path, "00_core", 'print(preset, seed)', parameters=PARAMETERS)
    monkeypatch.chdir(tmp_path)
    return tmp_path
