"""How often and how far examples are augmented, apart from what does it, which needs JAX.

Ranges and probabilities default to nnU-Net's.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How often and how far. Each probability is that of one sample; each range is drawn from uniformly.

    Attributes:
        rotation_degrees: largest rotation to either side.
        scaling: range of the factor by which the image grows.
        elastic_pixels: largest standard deviation of the elastic displacement's control points.
        elastic_control_points: along each side of the image.
        slice_shift_pixels: standard deviation of single slices' displacement against each other.
        mirror_plane, mirror_depth: whether the axes are mirrored, each with probability one half.
        noise_deviation: largest standard deviation of added noise, in units of the tissue's.
        blur_pixels: range of the Gaussian's standard deviation.
        brightness: range of the factor on the intensities.
        contrast: range of the factor on the distance from the mean.
        low_resolution: range of the factor by which the resolution is lowered.
        gamma: range of the exponent.
    """

    rotation_probability: float = 0.2
    rotation_degrees: float = 180.0
    scaling_probability: float = 0.2
    scaling: tuple[float, float] = (0.7, 1.4)
    elastic_probability: float = 0.2
    elastic_pixels: float = 3.0
    elastic_control_points: int = 6
    slice_shift_probability: float = 0.2
    slice_shift_pixels: float = 1.5
    mirror_plane: bool = True
    mirror_depth: bool = False
    noise_probability: float = 0.1
    noise_deviation: float = 0.3
    blur_probability: float = 0.2
    blur_pixels: tuple[float, float] = (0.5, 1.0)
    brightness_probability: float = 0.15
    brightness: tuple[float, float] = (0.75, 1.25)
    contrast_probability: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.25)
    low_resolution_probability: float = 0.25
    low_resolution: tuple[float, float] = (0.5, 1.0)
    gamma_probability: float = 0.3
    gamma: tuple[float, float] = (0.7, 1.5)


@dataclasses.dataclass(frozen=True)
class PriorCorruption:
    """Faults put into stage one's result, so that stage two does not copy it (nnU-Net's cascade does the same).

    Attributes:
        reshape_probability: of dilating or eroding one label.
        reshape_pixels: the most by which it is dilated or eroded.
        drop_probability: of dropping one connected component of one label.
        drop_share: the largest share of its label that a dropped component may be.
    """

    reshape_probability: float = 0.4
    reshape_pixels: int = 3
    drop_probability: float = 0.2
    drop_share: float = 1.0
