"""Cascaded 2D-3D U-Nets for myocardial infarction in delayed-enhancement cardiac MRI, in JAX.

    import cascade_jax
    cascade = cascade_jax.load("runs/emidec")
    labels = cascade.segment(image, spacing)  # (x, y, slice), mm

The parts stand on their own: `cascade_jax.models` (networks and the inference graph), `cascade_jax.losses`,
`cascade_jax.metrics`, `cascade_jax.data.augment`, `cascade_jax.plan`. Each is imported when it is first asked for, so
that who measures masks does not wait for what trains networks.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade_jax import losses, metrics, models
    from cascade_jax.data.case import LABEL_NAMES, CaseError
    from cascade_jax.inference import Cascade, load
    from cascade_jax.models import UNet, segment

__version__ = "0.1.0"

__all__ = ["LABEL_NAMES", "Cascade", "CaseError", "UNet", "load", "losses", "metrics", "models", "segment"]

_MODULES = {
    "LABEL_NAMES": "cascade_jax.data.case",
    "Cascade": "cascade_jax.inference",
    "CaseError": "cascade_jax.data.case",
    "UNet": "cascade_jax.models",
    "load": "cascade_jax.inference",
    "segment": "cascade_jax.models",
}


def __getattr__(name: str):
    if name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    elif not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
