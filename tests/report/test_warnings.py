"""What the page's pictures do not show."""

import numpy as np

from cascade_jax.report.warnings import hidden_warnings


def test_what_lies_outside_the_pictures_is_named_with_its_volume():
    labels = np.zeros((5, 60, 80), np.uint8)
    labels[:, 20:30, 15:25] = 2
    shown = slice(0, 40), slice(0, 40)
    assert hidden_warnings({"prediction": labels}, shown, (10.0, 10.0, 10.0)) == []
    labels[2, 50, 60] = 3
    assert hidden_warnings({"prediction": labels}, shown, (10.0, 10.0, 10.0)) == [
        ("outside-pictures", "1 ml of the prediction lie far from the rest, outside the pictures")
    ]
