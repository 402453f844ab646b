"""What a mask says about a heart: functions of labels (x, y, slice) and spacing, whoever drew them."""

from cascade_jax.quantify.orientations import Orientation
from cascade_jax.quantify.quantities import Quantities, quantify, volumes

__all__ = ["Orientation", "Quantities", "quantify", "volumes"]
