"A checkout in miniature: notebooks of a few cells, written and read back."

from pathlib import Path

import nbformat

PARAMETERS = 'preset = "fast"; seed = 0\nwidth = 0.5  # a = b'


def chapter(root, stem, *sources, parameters=None, module=None):
    "Write nbs/STEM.ipynb with these code cells."
    code = nbformat.v4.new_code_cell
    cells = [code(f"#| default_exp {module}")] if module else []
    cells.append(nbformat.v4.new_markdown_cell(f"# Title of {stem}\n\n> What {stem} does."))
    if parameters:
        cells.append(code(parameters, metadata={"tags": ["parameters"]}))
    path = Path(root) / "nbs" / f"{stem}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells + [code(s) for s in sources]), path)
    return path


def printed(path):
    "All that the cells of an executed notebook wrote to stdout."
    return "".join(o.get("text", "") for c in nbformat.read(path, 4).cells for o in c.get("outputs", []))
