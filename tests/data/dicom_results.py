"""Labels that are there already, made into DICOM objects, and what these hold."""

import types

import numpy as np

from cascade_jax.case_warnings import LOW_CONFIDENCE, CaseWarning
from cascade_jax.confidence import Confidence, doubting
from cascade_jax.data import emidec
from cascade_jax.data.dicom_report import AHA_SEGMENTS
from cascade_jax.data.labels import EMIDEC
from cascade_jax.quantify.quantities import quantify
from cascade_jax.segmentation import Segmentation


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
        )
        if myocardium < 0.8:
            self.confidence = doubting(self.confidence, [CaseWarning(LOW_CONFIDENCE, "it is dark")])

    def segment_case(self, case, *, details):
        assert details
        return Segmentation(self.labels, np.eye(5, dtype=np.float32)[self.labels], None, self.confidence)


def figures(report):
    """{what, or the AHA segment's code: {measurement: value}} of every group of a report; a name of two groups would be
    a mistake. Where a measurement has a derivation, its name has it too."""
    content = report.content
    groups = [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]
    found = {_name(group): {_measured(one): one.value for one in group.get_measurements()} for group in groups}
    assert len(found) == len(groups)
    return found


def _name(group):
    segments = {code.value for code in AHA_SEGMENTS.values()}
    sites = [site.value.value for site in group.finding_sites if site.value.value in segments]
    return sites[0] if sites else group.finding_type.meaning


def _measured(measurement):
    derivation = measurement.derivation
    return measurement.name.meaning + (f", {derivation.meaning}" if derivation is not None else "")
