"""What comes of a case."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cascade_jax.confidence import Confidence, doubt
from cascade_jax.data import folders


class Segmentation(NamedTuple):
    """What a cascade says about one case.

    Attributes:
        labels: uint8, postprocessed.
        probabilities: float32, with the classes along a last axis: the mean over folds and mirror images, before
            postprocessing.
        disagreement: float32, the share of the folds that vote for another label than the majority; None if there is
            one fold only.
        confidence: what the cascade says of the labels: the Dice that it expects, intervals of the volumes, how
            probable an infarct is, and what to look at yourself (`confidence.warnings`).
    """

    labels: np.ndarray
    probabilities: np.ndarray | None
    disagreement: np.ndarray | None
    confidence: Confidence

    @property
    def expected_dice(self) -> Mapping[str, float]:
        """{target: the Dice that the cascade expects to have}, of `confidence`."""
        return self.confidence.expected_dice

    @property
    def maps(self) -> dict[str, np.ndarray | None]:
        """Where not to believe the labels: the share of doubt, and of the folds that disagree, in every voxel."""
        doubtful = None if self.probabilities is None else doubt(self.probabilities)
        return {folders.DOUBT: doubtful, folders.DISAGREEMENT: self.disagreement}
