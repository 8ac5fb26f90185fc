"""lla_course: from averaging neighbours to Local Linear Attention.

The public names below are imported on first use, so that `import lla_course` costs nothing."""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from .attention.flash import LocalLinearAttention, SolverWarning, flash_lla
    from .course.exercises import check
    from .attention.decode import lla_decode
    from .attention.ragged import KVCache
    from .regression.kernel import nadaraya_watson
    from .regression.local_linear import local_linear

__version__ = "0.1.0"

# A checkout without symbolic links (the default on Windows) has no lla_course/kernels; look beside the package then.
if not (_Path(__path__[0]) / "kernels").is_dir() and (_Path(__path__[0]).parent / "kernels").is_dir():
    __path__.append(str(_Path(__path__[0]).parent))

_public = {
    "nadaraya_watson": "regression.kernel",
    "local_linear": "regression.local_linear",
    "flash_lla": "attention.flash",
    "LocalLinearAttention": "attention.flash",
    "SolverWarning": "attention.flash",
    "lla_decode": "attention.decode",
    "KVCache": "attention.ragged",
    "check": "course.exercises",
}
__all__ = [  # noqa: F822  (imported on first use)
    "KVCache",
    "LocalLinearAttention",
    "SolverWarning",
    "__version__",
    "check",
    "flash_lla",
    "lla_decode",
    "local_linear",
    "nadaraya_watson",
]


def __getattr__(name):
    if name not in _public:
        raise AttributeError(f"module 'lla_course' has no attribute {name!r}")
    from .core import add_parameters

    public = add_parameters(getattr(_import_module(f"lla_course.{_public[name]}"), name))
    globals()[name] = public  # from now on it is found without coming here
    return public


def __dir__():
    return sorted(__all__)
