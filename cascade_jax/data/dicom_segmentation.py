"""Labels as a DICOM segmentation object, by highdicom."""

import copy
from collections.abc import Mapping, Sequence

import highdicom
import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Code, codes

from cascade_jax import __version__
from cascade_jax.data.case import CAVITY, INFARCTION, LABEL_NAMES, MYOCARDIUM, NO_REFLOW
from cascade_jax.data.dicom import Series

_ANATOMY, _ABNORMAL = codes.SCT.AnatomicalStructure, codes.SCT.MorphologicallyAbnormalStructure
# DICOM's own lists have the whole left ventricle but not its cavity, which the Foundational Model of Anatomy has.
SEGMENT_CODES = {
    CAVITY: (_ANATOMY, Code("9466", "FMA", "Cavity of left ventricle")),
    MYOCARDIUM: (_ANATOMY, codes.SCT.LeftVentricleMyocardium),
    INFARCTION: (_ABNORMAL, Code("55641003", "SCT", "Infarct")),
    NO_REFLOW: (_ABNORMAL, Code("no_reflow", "99CASCADE", "Microvascular obstruction (no-reflow)")),
}


def segmentation(series: Series, labels: np.ndarray, colours: Mapping[int, str]) -> Segmentation:
    """The segmentation of a series; each label is a segment with coded categories.

    Args:
        series: the source.
        labels: uint8 (depth, height, width), in the series' order.
        colours: {label: "#rrggbb"}, in which viewers show the segments.
    """
    algorithm = AlgorithmIdentificationSequence(
        name="cascade_jax", version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    descriptions = [
        SegmentDescription(
            segment_number=label,
            segment_label=LABEL_NAMES[label].replace("_", "-"),
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(*bytes.fromhex(colours[label].removeprefix("#"))),
        )
        for label, (category, kind) in SEGMENT_CODES.items()
    ]
    source, ordered = source_order(series, labels)
    result = Segmentation(
        source_images=_as_one_series(source),
        pixel_array=ordered,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=int(source[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="cascade_jax",
        manufacturer_model_name="cascade_jax",
        software_versions=__version__,
        device_serial_number="0",
        series_description="Infarct segmentation (research)",
    )
    result.ReferencedSeriesSequence = _references(source)
    return result


def source_order(series: Series, labels: np.ndarray) -> tuple[Sequence[Dataset], np.ndarray]:
    """The source images, and labels (frame, height, width) in the order in which those hold their frames."""
    if series.slices[0].frame is None:
        return [one.dataset for one in series.slices], labels
    dataset = series.slices[0].dataset
    ordered = np.zeros((int(dataset.NumberOfFrames), *labels.shape[1:]), np.uint8)
    for one, plane in zip(series.slices, labels, strict=True):
        ordered[one.frame] = plane
    return [dataset], ordered


def _as_one_series(images: Sequence[Dataset]) -> list[Dataset]:
    """The images as highdicom wants them, of one series, also where each breath-hold has its own."""
    copies = [copy.deepcopy(image) for image in images]  # a shallow copy of pydicom's shares its elements
    for image in copies:
        image.SeriesInstanceUID = images[0].SeriesInstanceUID
    return copies


def _references(images: Sequence[Dataset]) -> list[Dataset]:
    """Items of a Referenced Series Sequence: the images, each under the series that it is really from."""
    series: dict[str, list[Dataset]] = {}
    for image in images:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        series.setdefault(image.SeriesInstanceUID, []).append(reference)
    items = []
    for number, references in series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = number, references
        items.append(item)
    return items
