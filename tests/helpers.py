"What the tests of several rooms share."

from typing import Any


def parts(lab: Any) -> tuple[dict[str, Any], Any, Any]:
    "The controls of a lab by the name a reader sees, its line of complaints, and its figure."
    return {c.description: c for c in lab.children[0].children}, lab.children[1], lab.children[2]
