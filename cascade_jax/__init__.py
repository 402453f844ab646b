"""Cascaded 2D-3D U-Nets for myocardial infarction in delayed-enhancement cardiac MRI, in JAX.

    import cascade_jax
    cascade = cascade_jax.load("runs/emidec")
    labels = cascade.segment(image, spacing)  # (x, y, slice), mm

The parts stand on their own: `cascade_jax.models` (networks and the inference graph), `cascade_jax.losses`,
`cascade_jax.metrics`, `cascade_jax.data.augment`, `cascade_jax.plan`.
"""

from cascade_jax import losses, metrics, models
from cascade_jax.data.case import LABEL_NAMES, CaseError
from cascade_jax.inference import Cascade, load
from cascade_jax.models import UNet, segment

__version__ = "0.1.0"

__all__ = ["LABEL_NAMES", "Cascade", "CaseError", "UNet", "load", "losses", "metrics", "models", "segment"]
