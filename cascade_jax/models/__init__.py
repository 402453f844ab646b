"""Networks and the inference graph: pure functions of arrays, no files, no flags."""

from cascade_jax.models.graph import Vote, segment, segment_slices, segment_volume
from cascade_jax.models.unet import UNet

__all__ = ["UNet", "Vote", "segment", "segment_slices", "segment_volume"]
