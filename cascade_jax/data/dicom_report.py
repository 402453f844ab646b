"""What the labels say in numbers, as a DICOM structured report (TID 1500, Measurement Report), by highdicom."""

from collections.abc import Mapping, Sequence

import highdicom
import numpy as np
from highdicom import sr
from highdicom.seg import Segmentation
from pydicom.sr.codedict import Code, codes

from cascade_jax import __version__
from cascade_jax.data.dicom_segmentation import (
    INFARCT,
    PRIVATE_SCHEME,
    SEGMENT_CODES,
    derived_number,
    identify_private_scheme,
    source_images,
)
from cascade_jax.data.dicom_stack import Series

_ML, _G, _CM2, _PERCENT = (*(Code(unit, "UCUM", unit) for unit in ("ml", "g", "cm2")), codes.UCUM.Percent)
_WHOLE = (  # of several labels: what it is, and the quantities that are its volume and its mass
    (codes.SCT.LeftVentricleMyocardium, "myocardium_ml", "myocardium_g"),
    (INFARCT, "infarct_ml", "infarct_g"),
)
_MEASURED = {  # of a case by `quantify`, and what the cascade says of itself: its code, what it is and its unit
    "cavity_ml": ("cavity_volume", "Volume of the left ventricular cavity", _ML),
    "myocardium_g": ("myocardium_mass", "Mass of the left ventricular myocardium", _G),
    "infarct_g": ("infarct_mass", "Mass of the infarct, no-reflow included", _G),
    "infarct_percent": ("infarct_share", "Infarct, share of the myocardium", _PERCENT),
    "no_reflow_g": ("no_reflow_mass", "Mass of no-reflow", _G),
    "no_reflow_percent": ("no_reflow_share", "No-reflow, share of the myocardium", _PERCENT),
    "transmurality_max_percent": ("transmurality_max", "Transmurality of the infarct, maximum", _PERCENT),
    "transmurality_mean_percent": (
        "transmurality_mean",
        "Transmurality of the infarct, mean where there is one",
        _PERCENT,
    ),
    "infarct_endocardium_cm2": ("infarct_endocardium_area", "Endocardium that the infarct touches", _CM2),
    "infarct_endocardium_percent": ("infarct_endocardium_share", "Infarct, share of the endocardium", _PERCENT),
    "myocardium_dice": ("expected_dice_myocardium", "Expected Dice of the myocardium's outline", codes.UCUM.Ratio),
    "infarct_dice": ("expected_dice_infarct", "Expected Dice of the infarct's outline", codes.UCUM.Ratio),
    "infarct_low_g": ("infarct_mass_low", "Mass of the infarct, lower end of the 90 % interval", _G),
    "infarct_high_g": ("infarct_mass_high", "Mass of the infarct, upper end of the 90 % interval", _G),
    "infarct_probability": ("infarct_probability", "Probability of an infarct", codes.UCUM.Ratio),
}


def structured_report(
    series: Series,
    segmentation: Segmentation | None,
    labels: np.ndarray,
    spacing: Sequence[float],
    quantities: Mapping[str, float],
    doubt: str | None = None,
) -> sr.Comprehensive3DSR:
    """The report: the volume of every segment, volume and mass of the whole myocardium and of the whole infarct, whose
    parts the segments are, and the quantities of the whole ventricle.

    Args:
        series: the source.
        segmentation: of the source, which the segments' volumes refer to; None leaves those out.
        labels: uint8 (depth, height, width), what the segmentation holds.
        spacing: mm along the same axes.
        quantities: of the labels, the case's as `quantify.quantify` gives them, and what the cascade says of itself
            where it does; what is NaN is left out.
        doubt: why the case needs a look, a comment on the ventricle; None if it does not.

    Raises:
        AttributeFault: as `dicom_segmentation.source_images`.
    """
    sources, _ = source_images(series)
    groups = []
    for label, (category, kind) in SEGMENT_CODES.items() if segmentation is not None else ():
        if voxels := np.count_nonzero(labels == label):
            groups.append(
                sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=_tracking(kind.meaning),
                    referenced_segment=sr.ReferencedSegment.from_segmentation(segmentation, segment_number=label),
                    finding_category=category,
                    finding_type=kind,
                    measurements=[_measurement(codes.SCT.Volume, voxels * np.prod(spacing) / 1000, _ML)],
                )
            )

    def of_images(kind: Code, measurements: list[sr.Measurement]) -> sr.MeasurementsAndQualitativeEvaluations:
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(kind.meaning),
            finding_type=kind,
            measurements=measurements,
            source_images=[sr.SourceImageForMeasurementGroup.from_source_image(source) for source in sources],
        )

    for kind, volume, mass in _WHOLE:
        if quantities[volume]:
            figures = ((codes.SCT.Volume, quantities[volume], _ML), (codes.SCT.MassQuantity, quantities[mass], _G))
            groups.append(of_images(kind, [_measurement(*figure) for figure in figures]))
    ventricle = [
        _measurement(Code(code, PRIVATE_SCHEME, meaning), quantities[key], unit)
        for key, (code, meaning, unit) in _MEASURED.items()
        if not np.isnan(quantities.get(key, np.nan))
    ]
    groups.append(of_images(codes.SCT.LeftVentricle, ventricle))
    if doubt is not None:
        comment = sr.TextContentItem(codes.DCM.Comment, f"Doubtful: {doubt}", sr.RelationshipTypeValues.CONTAINS)
        groups[-1][0].ContentSequence.append(comment)
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
    report = sr.Comprehensive3DSR(
        evidence=[*([] if segmentation is None else [segmentation]), *sources],
        content=content[0],
        series_instance_uid=highdicom.UID(),
        series_number=derived_number(sources[0], 2000),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="cascade_jax",
        is_complete=False,
        series_description="Infarct quantification (research)",
    )
    identify_private_scheme(report)
    return report


def _measurement(name: Code, value: float, unit: Code) -> sr.Measurement:
    return sr.Measurement(name=name, value=_written(value), unit=unit)


def _written(value: float) -> float:
    """A number with the digits that its measurement has: one decimal, two below 1."""
    return round(float(value), 1 if abs(value) >= 1 else 2)


def _tracking(name: str) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(uid=highdicom.UID(), identifier=name)
