"""Labels as a DICOM segmentation object, by highdicom."""

import highdicom
import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.sr.codedict import Code, codes

from cascade_jax import __version__
from cascade_jax.data.case import CAVITY, INFARCTION, LABEL_NAMES, MYOCARDIUM, NO_REFLOW
from cascade_jax.data.dicom import Series, source_order

_ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
SEGMENT_CODES = {
    CAVITY: (_ANATOMY, Code("87878005", "SCT", "Left ventricle")),
    MYOCARDIUM: (_ANATOMY, Code("74281007", "SCT", "Myocardium")),
    INFARCTION: (_ABNORMAL, Code("55641003", "SCT", "Infarct")),
    NO_REFLOW: (_ABNORMAL, Code("no_reflow", "99CASCADE", "Microvascular obstruction (no-reflow)")),
}


def segmentation(series: Series, labels: np.ndarray) -> Segmentation:
    """The segmentation of a series; each label is a segment with coded categories.

    Args:
        series: the source.
        labels: uint8 (depth, height, width), in the series' order.
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
        )
        for label, (category, kind) in SEGMENT_CODES.items()
    ]
    source, ordered = source_order(series, labels)
    return Segmentation(
        source_images=source,
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
