"""New weights are called better only where the cases left out say so."""

import numpy as np
import pytest

from cascade_jax.data.labels import EMIDEC
from cascade_jax.training.comparison import Comparison, as_text


def compared(gains):
    before = np.full((len(gains), 3), 0.6)
    return Comparison([f"case {i}" for i in range(len(gains))], before, before + np.array(gains)[:, None], EMIDEC)


def test_a_gain_beyond_its_standard_error_is_better_and_says_which_weights_to_use():
    gains = [0.1, 0.08, 0.12, 0.1, -0.01]
    comparison = compared(gains)
    assert comparison.better
    gain, error = comparison.gain
    assert gain == pytest.approx(0.078) and error == pytest.approx(
        np.std([0.1, 0.08, 0.12, 0.1, -0.01], ddof=1) / 5**0.5
    )
    text = as_text(comparison, "emidec", "runs/own/all")
    assert "rises in 4" in text and "Use them: --weights=runs/own/all" in text
    assert "| before | 60.00 | 60.00 | 60.00 |" in text and "| after | 67.80 |" in text


@pytest.mark.parametrize("gains", [[0.3, -0.2, 0.1, -0.15, 0.05], [-0.1, -0.1, -0.12], [0.4]])
def test_a_gain_within_it_or_a_single_case_is_not(gains):
    comparison = compared(gains)
    assert not comparison.better
    assert "stay with emidec" in as_text(comparison, "emidec", "runs/own/all")
