"""Hearts whose quantities are known in closed form."""

import numpy as np

SPACING = (0.5, 0.5, 10.0)
INNER, OUTER = 20.0, 30.0  # mm


def grid(shape=(150, 160, 6)):
    """Radius (mm) and angle (degrees, counter-clockwise, y down) about the middle of each slice."""
    x, y = np.indices(shape[:2], np.float64)
    x, y = (x - (shape[0] - 1) / 2) * SPACING[0], -(y - (shape[1] - 1) / 2) * SPACING[1]
    full = np.ones(shape)
    return np.hypot(x, y)[..., None] * full, (np.rad2deg(np.arctan2(y, x)) % 360)[..., None] * full


def ring(infarct_depth=5.0, start=0.0, stop=90.0):
    """A cylinder with a wall of 10 mm and, in a sector, an infarct from the endocardium outwards."""
    radius, angle = grid()
    labels = np.where(radius < INNER, 1, np.where(radius < OUTER, 2, 0)).astype(np.uint8)
    labels[(labels == 2) & (angle >= start) & (angle < stop) & (radius < INNER + infarct_depth)] = 3
    return labels
