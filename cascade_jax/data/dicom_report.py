"""What the labels say in numbers, as a DICOM structured report (TID 1500, Measurement Report), by highdicom."""

from collections.abc import Mapping, Sequence

import highdicom
import numpy as np
from highdicom import sr
from highdicom.seg import Segmentation
from pydicom.sr.codedict import Code, codes

from cascade_jax import __version__
from cascade_jax.data.dicom import Series
from cascade_jax.data.dicom_segmentation import SEGMENT_CODES, source_order

_DESIGNATOR = "99CASCADE"
_ML, _G, _CM2, _PERCENT = (*(Code(unit, "UCUM", unit) for unit in ("ml", "g", "cm2")), codes.UCUM.Percent)
_MEASURED = {  # of a case by `quantify`: its code, what it is and its unit
    "cavity_ml": ("cavity_volume", "Volume of the left ventricular cavity", _ML),
    "muscle_g": ("muscle_mass", "Mass of the left ventricular muscle", _G),
    "infarct_g": ("infarct_mass", "Mass of the infarct, no-reflow included", _G),
    "infarct_percent": ("infarct_share", "Infarct, share of the muscle", _PERCENT),
    "no_reflow_g": ("no_reflow_mass", "Mass of no-reflow", _G),
    "no_reflow_percent": ("no_reflow_share", "No-reflow, share of the muscle", _PERCENT),
    "transmurality_max_percent": ("transmurality_max", "Transmurality of the infarct, maximum", _PERCENT),
    "transmurality_mean_percent": (
        "transmurality_mean",
        "Transmurality of the infarct, mean where there is one",
        _PERCENT,
    ),
    "infarct_endocardium_cm2": ("infarct_endocardium_area", "Endocardium that the infarct touches", _CM2),
    "infarct_endocardium_percent": ("infarct_endocardium_share", "Infarct, share of the endocardium", _PERCENT),
}


def structured_report(
    series: Series,
    segmentation: Segmentation,
    labels: np.ndarray,
    spacing: Sequence[float],
    quantities: Mapping[str, float],
) -> sr.Comprehensive3DSR:
    """The report: the volume of every segment, and the quantities of the whole ventricle.

    Args:
        series: the source.
        segmentation: of the source, which the volumes refer to.
        labels: uint8 (depth, height, width), what the segmentation holds.
        spacing: mm along the same axes.
        quantities: of the labels, the case's as `quantify.quantify` gives them; what is NaN is left out.
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
    ventricle = [
        sr.Measurement(name=Code(code, _DESIGNATOR, meaning), value=quantities[key], unit=unit)
        for key, (code, meaning, unit) in _MEASURED.items()
        if not np.isnan(quantities[key])
    ]
    groups.append(
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking("Left ventricle"),
            finding_type=codes.SCT.LeftVentricle,
            measurements=ventricle,
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
