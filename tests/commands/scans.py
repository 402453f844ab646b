"""Scans as a user has them, and what segments them at once."""

import types

import nibabel as nib
import numpy as np

from cascade_jax.case_warnings import LOW_CONFIDENCE, CaseWarning, warnings_of_labels
from cascade_jax.confidence import DOUBTFUL, Confidence, doubting, volumes_ml, with_warnings
from cascade_jax.data import emidec
from cascade_jax.data.labels import EMIDEC
from cascade_jax.segmentation import Segmentation


class Reader:
    """Stands in for a cascade: has the labels already."""

    def __init__(self, labels, myocardium=0.9, table=EMIDEC):
        self.labels, self.plan = labels, types.SimpleNamespace(labels=table)
        self.expected = dict.fromkeys(table.targets, np.nan) | {table.main: myocardium}
        self.segmented = []

    def for_cases(self, number):
        return [self]

    def segment_case(self, case, *, details=False):
        self.segmented.append(case.name)
        probabilities = np.eye(5, dtype=np.float32)[self.labels] if details else None
        table, dice = self.plan.labels, self.expected[self.plan.labels.main]
        said = Confidence(self.expected, volumes_ml(self.labels, case.spacing, table))
        said = with_warnings(said, warnings_of_labels(self.labels, case.spacing, table))
        if dice < DOUBTFUL:
            said = doubting(said, [CaseWarning(LOW_CONFIDENCE, f"a Dice of {dice} is expected")])
        return Segmentation(self.labels, probabilities, None, said)


class TwoDevices(Reader):
    """A reader that shares what it is given out to two others."""

    def __init__(self, labels):
        super().__init__(labels)
        self.each = [Reader(labels), Reader(labels)]

    def for_cases(self, number):
        return self.each[:number]


def write_scan(path, case):
    """An image file as a user has it, with a header of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    emidec.write_labels_as(path, case.labels, case)
    image = nib.load(path)
    nib.save(nib.Nifti1Image(emidec.to_file_axes(case.image), image.affine, image.header, dtype=np.float32), path)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
