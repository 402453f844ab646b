"""Labels that are there already, made into DICOM objects, and what these hold."""

import types

import numpy as np

from cascade_jax.cascade import Segmentation
from cascade_jax.confidence import Confidence
from cascade_jax.data import emidec
from cascade_jax.data.labels import EMIDEC
from cascade_jax.quantify.quantities import quantify


def measure(labels, case):
    return quantify(emidec.to_file_axes(labels), case.spacing[::-1]).case


class Reader:
    """Stands in for a cascade: has the labels already, and the Dice that it expects for the myocardium."""

    plan = types.SimpleNamespace(labels=EMIDEC)

    def __init__(self, labels, myocardium=0.9):
        self.labels = labels
        self.confidence = Confidence(
            {"myocardium": myocardium, "infarction": 0.5, "no_reflow": 0.75},
            dict.fromkeys(EMIDEC.targets, 10.0),
            dict.fromkeys(EMIDEC.targets, (8.0, 16.0)),
            {"infarction": 0.9, "no_reflow": 0.25},
            doubtful="it is dark" if myocardium < 0.8 else None,
        )

    def segment_case(self, case, *, details):
        assert details
        return Segmentation(self.labels, np.eye(5, dtype=np.float32)[self.labels], None, self.confidence)


def figures(report):
    """{what: {measurement: value}} of every group of a report; a name of two groups would be a mistake."""
    content = report.content
    groups = [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]
    found = {group.finding_type.meaning: group.get_measurements() for group in groups}
    assert len(found) == len(groups)
    return {kind: {one.name.meaning: one.value for one in measurements} for kind, measurements in found.items()}
