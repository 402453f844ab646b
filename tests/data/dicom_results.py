"""Labels that are there already, made into DICOM objects, and what these hold."""

import types

import numpy as np

from cascade_jax.cascade import Segmentation
from cascade_jax.data import emidec
from cascade_jax.data.labels import EMIDEC
from cascade_jax.quantify.quantities import quantify


def measure(labels, case):
    return quantify(emidec.to_file_axes(labels), case.spacing[::-1]).case


class Reader:
    """Stands in for a cascade: has the labels already."""

    plan = types.SimpleNamespace(labels=EMIDEC)

    def __init__(self, labels, myocardium=0.9):
        self.labels, self.expected = labels, {"myocardium": myocardium, "infarction": 0.5, "no_reflow": np.nan}

    def segment_case(self, case, *, details):
        assert details
        return Segmentation(self.labels, np.eye(5, dtype=np.float32)[self.labels], None, self.expected)


def figures(report):
    """{what: {measurement: value}} of every group of a report; a name of two groups would be a mistake."""
    content = report.content
    groups = [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]
    found = {group.finding_type.meaning: group.get_measurements() for group in groups}
    assert len(found) == len(groups)
    return {kind: {one.name.meaning: one.value for one in measurements} for kind, measurements in found.items()}
