"""What the labels say in numbers, as a DICOM structured report (TID 1500, Measurement Report), by highdicom."""

from collections.abc import Mapping, Sequence

import highdicom
import numpy as np
from highdicom import sr
from highdicom.seg import Segmentation
from pydicom.sr.codedict import Code, codes

from cascade_jax import __version__
from cascade_jax.data.dicom import Series, source_order
from cascade_jax.data.dicom_segmentation import SEGMENT_CODES

_DESIGNATOR = "99CASCADE"
_ML, _G = Code("ml", "UCUM", "ml"), Code("g", "UCUM", "g")
_MEASURED = {  # of `quantify.volumes`: what it is and its unit
    "cavity_ml": (Code("cavity_volume", _DESIGNATOR, "Volume of the left ventricular cavity"), _ML),
    "muscle_g": (Code("muscle_mass", _DESIGNATOR, "Mass of the left ventricular muscle"), _G),
    "infarct_g": (Code("infarct_mass", _DESIGNATOR, "Mass of the infarct, no-reflow included"), _G),
    "infarct_percent": (Code("infarct_share", _DESIGNATOR, "Infarct, share of the muscle"), codes.UCUM.Percent),
    "no_reflow_g": (Code("no_reflow_mass", _DESIGNATOR, "Mass of no-reflow"), _G),
    "no_reflow_percent": (Code("no_reflow_share", _DESIGNATOR, "No-reflow, share of the muscle"), codes.UCUM.Percent),
}


def structured_report(
    series: Series,
    segmentation: Segmentation,
    labels: np.ndarray,
    spacing: Sequence[float],
    volumes: Mapping[str, float],
) -> sr.Comprehensive3DSR:
    """The report: the volume of every segment, and the quantities of the whole heart.

    Args:
        series: the source.
        segmentation: of the source, which the volumes refer to.
        labels: uint8 (depth, height, width), what the segmentation holds.
        spacing: mm along the same axes.
        volumes: of the labels, as `quantify.volumes` gives them; what is NaN is left out.
    """
    sources, _ = source_order(series, labels)
    groups = []
    for label, (category, kind) in SEGMENT_CODES.items():
        if not (voxels := np.count_nonzero(labels == label)):
            continue
        volume = sr.Measurement(name=codes.SCT.Volume, value=float(voxels * np.prod(spacing) / 1000), unit=_ML)
        groups.append(
            sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(kind.meaning),
                referenced_segment=sr.ReferencedSegment.from_segmentation(segmentation, segment_number=label),
                finding_category=category,
                finding_type=kind,
                measurements=[volume],
            )
        )
    heart = [
        sr.Measurement(name=name, value=volumes[key], unit=unit)
        for key, (name, unit) in _MEASURED.items()
        if not np.isnan(volumes[key])
    ]
    groups.append(
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking("Left ventricle"),
            finding_type=SEGMENT_CODES[1][1],
            measurements=heart,
            source_images=[sr.SourceImageForMeasurementGroup.from_source_image(source) for source in sources],
        )
    )
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=highdicom.UID(), name="cascade_jax", manufacturer_name="cascade_jax", model_name=__version__
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )
    )
    content = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=codes.SCT.MagneticResonanceImagingOfHeart,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.Comprehensive3DSR(
        evidence=[segmentation, *sources],
        content=content[0],
        series_instance_uid=highdicom.UID(),
        series_number=int(sources[0].get("SeriesNumber") or 0) + 2000,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="cascade_jax",
        is_complete=False,
        series_description="Infarct quantification (research)",
    )


def _tracking(name: str) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(uid=highdicom.UID(), identifier=name)
