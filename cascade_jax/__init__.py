"""Cascaded 2D-3D U-Nets for myocardial infarction in delayed-enhancement cardiac MRI, in JAX.

    import cascade_jax
    cascade = cascade_jax.load("runs/emidec")
    labels = cascade.segment(image, spacing)  # (x, y, slice), mm

The parts stand on their own: `models` (networks and the inference graph), `losses`, `metrics`, `plan`, `postprocess`,
`quantify`, and in `cascade_jax.data` the readers and writers of files, preprocessing and augmentation. Each public name
is imported when it is first asked for, so that who measures masks does not wait for what trains networks.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade_jax import losses, metrics, models, plan, postprocess, quantify
    from cascade_jax.cascade import Cascade, load
    from cascade_jax.data.case import LABEL_NAMES
    from cascade_jax.errors import CaseError
    from cascade_jax.models import UNet, segment
    from cascade_jax.segmentation import Segmentation

__version__ = "0.1.0"

__all__ = [
    "LABEL_NAMES",
    "Cascade",
    "CaseError",
    "Segmentation",
    "UNet",
    "load",
    "losses",
    "metrics",
    "models",
    "plan",
    "postprocess",
    "quantify",
    "segment",
]

# Where each public name lives: an attribute of a module, or a module of this package.
_ATTRIBUTES = {
    "LABEL_NAMES": "cascade_jax.data.case",
    "Cascade": "cascade_jax.cascade",
    "CaseError": "cascade_jax.errors",
    "Segmentation": "cascade_jax.segmentation",
    "UNet": "cascade_jax.models",
    "load": "cascade_jax.cascade",
    "segment": "cascade_jax.models",
}
_MODULES = ("losses", "metrics", "models", "plan", "postprocess", "quantify")


def __getattr__(name: str):
    if name in _ATTRIBUTES:
        value = getattr(importlib.import_module(_ATTRIBUTES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
