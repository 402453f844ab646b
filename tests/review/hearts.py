"""Small hearts with predictions to be reviewed."""

import numpy as np

from cascade_jax.confidence import Confidence, volumes_ml
from cascade_jax.data import emidec
from cascade_jax.data.case import Case
from cascade_jax.data.labels import EMIDEC
from cascade_jax.report.confidence import write_confidence

SPACING = (10.0, 1.458, 1.406)
SHAPE = (5, 52, 44)  # no two lengths alike


def heart():
    """Labels of a ring around a cavity with an infarct on one side, and an image of them."""
    _, y, x = np.indices(SHAPE)
    radius = np.hypot((x - 20) * SPACING[2], (y - 28) * SPACING[1])
    labels = np.where(radius < 15, 1, np.where(radius < 25, 2, 0)).astype(np.uint8)
    labels[(labels == 2) & (x > 20) & (y < 22) & (radius < 20)] = 3
    image = np.array([20.0, 100.0, 40.0, 100.0, 60.0])[labels] + np.random.default_rng(0).normal(0, 5, SHAPE)
    return labels, image.astype(np.float32)


def write_predictions(root, names=("good", "bad")):
    """Writes `root/scans` and `root/out`, with the challenge's untrue affine; the last case is the most doubtful.

    Returns:
        The predicted labels.
    """
    labels, image = heart()
    for name in names:
        case = Case(name, image, None, SPACING)
        emidec.write_case(root / "scans", case)
        emidec.write_labels(root / "out", labels, case)
    said = {}
    for i, name in enumerate(names):
        expected = dict(zip(EMIDEC.targets, (0.9 - 0.2 * i, 0.5, np.nan), strict=True))
        said[name] = Confidence(expected, volumes_ml(labels, SPACING, EMIDEC), doubtful="it is dark" if i else None)
    write_confidence(root / "out", said, EMIDEC)
    return labels
