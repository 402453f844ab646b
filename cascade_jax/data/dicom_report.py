"""What the labels say in numbers, as a DICOM structured report (TID 1500, Measurement Report), by highdicom.

What is measured, where, and how has the standard's codes; `PRIVATE_SCHEME` has those for which there are none in
DICOM's lists (as pydicom and highdicom have them). docs/formats.md lists both.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import highdicom
import numpy as np
from highdicom import sr
from highdicom.seg import Segmentation
from pydicom.sr.codedict import Code, codes

from cascade_jax import __version__
from cascade_jax.data.case import CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW
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
_VOLUME, _MASS = codes.SCT.Volume, codes.SCT.MassQuantity
_RATIO = codes.UCUM.Ratio


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


_MYOCARDIUM_SHARE = _private("share_of_myocardium", "Share of the myocardium")
_TRANSMURALITY = _private("transmurality", "Transmurality of the infarct")
_ENDOCARDIUM = _private("infarct_endocardium_area", "Endocardium that the infarct touches")
_ENDOCARDIUM_SHARE = _private("infarct_endocardium_share", "Infarct, share of the endocardium")


class _Figure(NamedTuple):
    """A quantity of `quantify`: its name there, what it is, its unit, and how it was derived from several values."""

    key: str
    name: Code
    unit: Code
    derivation: Code | None = None


_TRANSMURALITIES = (
    _Figure("transmurality_mean_percent", _TRANSMURALITY, _PERCENT, codes.SCT.Mean),
    _Figure("transmurality_max_percent", _TRANSMURALITY, _PERCENT, codes.SCT.Maximum),
)
_STATED = (  # by the cascade of its own result
    _Figure("myocardium_dice", _private("expected_dice_myocardium", "Expected Dice of the myocardium"), _RATIO),
    _Figure("infarct_dice", _private("expected_dice_infarct", "Expected Dice of the infarct"), _RATIO),
    _Figure("infarct_low_g", _private("infarct_mass_low", "Mass of the infarct, 90 % interval, lower end"), _G),
    _Figure("infarct_high_g", _private("infarct_mass_high", "Mass of the infarct, 90 % interval, upper end"), _G),
    _Figure("infarct_probability", _private("infarct_probability", "Probability of an infarct"), _RATIO),
)
_OF_LABELS = {  # what is said of a label's segment besides its volume
    CAVITY: (),
    MYOCARDIUM: (),
    INFARCTION: (),
    NO_REFLOW: (_Figure("no_reflow_g", _MASS, _G), _Figure("no_reflow_percent", _MYOCARDIUM_SHARE, _PERCENT)),
}
_WHOLE = (  # of several labels: what it is, where, and what is said of it
    (
        codes.SCT.LeftVentricleMyocardium,
        codes.SCT.LeftVentricle,
        (_Figure("myocardium_ml", _VOLUME, _ML), _Figure("myocardium_g", _MASS, _G)),
    ),
    (
        INFARCT,
        codes.SCT.LeftVentricleMyocardium,
        (
            _Figure("infarct_ml", _VOLUME, _ML),
            _Figure("infarct_g", _MASS, _G),
            _Figure("infarct_percent", _MYOCARDIUM_SHARE, _PERCENT),
            *_TRANSMURALITIES,
            _Figure("infarct_endocardium_cm2", _ENDOCARDIUM, _CM2),
            _Figure("infarct_endocardium_percent", _ENDOCARDIUM_SHARE, _PERCENT),
        ),
    ),
)
_OF_SEGMENTS = (  # the infarct in an AHA segment
    _Figure("infarct_ml", _VOLUME, _ML),
    _Figure("infarct_g", _MASS, _G),
    _Figure("infarct_percent", _MYOCARDIUM_SHARE, _PERCENT),
    *_TRANSMURALITIES,
)
AHA_SEGMENTS = {  # DICOM's list CID 3717, Left Ventricle Myocardial Wall 17 Segment Model
    1: codes.SCT.LeftVentricleBasalAnteriorSegment,
    2: codes.SCT.LeftVentricleBasalAnteroseptalSegment,
    3: codes.SCT.LeftVentricleBasalInferoseptalSegment,
    4: codes.SCT.LeftVentricleBasalInferiorSegment,
    5: codes.SCT.LeftVentricleBasalInferolateralSegment,
    6: codes.SCT.LeftVentricleBasalAnterolateralSegment,
    7: codes.SCT.LeftVentricleMidAnteriorSegment,
    8: codes.SCT.LeftVentricleMidAnteroseptalSegment,
    9: codes.SCT.LeftVentricleMidInferoseptalSegment,
    10: codes.SCT.LeftVentricleMidInferiorSegment,
    11: codes.SCT.LeftVentricleMidInferolateralSegment,
    12: codes.SCT.LeftVentricleMidAnterolateralSegment,
    13: codes.SCT.LeftVentricleApicalAnteriorSegment,
    14: codes.SCT.LeftVentricleApicalSeptalSegment,
    15: codes.SCT.LeftVentricleApicalInferiorSegment,
    16: codes.SCT.LeftVentricleApicalLateralSegment,
    17: codes.SCT.ApexOfLeftVentricle,
}


def structured_report(
    series: Series,
    segmentation: Segmentation | None,
    labels: np.ndarray,
    spacing: Sequence[float],
    quantities: Mapping,
    segments: Sequence[Mapping] = (),
    doubt: str | None = None,
) -> sr.Comprehensive3DSR:
    """The report: the volume of every label, volume and mass of the whole myocardium, and of the whole infarct volume,
    mass, share and extent, also by AHA segment where it is known where these lie.

    Args:
        series: the source.
        segmentation: of the source, whose segments the labels' volumes refer to; None refers to the images.
        labels: uint8 (depth, height, width), what the segmentation holds.
        spacing: mm along the same axes.
        quantities: of the labels, the case's as `quantify.quantify` gives them, and what the cascade says of itself
            where it does; what is NaN is left out.
        segments: of the same, the AHA segments'. Those that are counted from the x axis are left out: they are not
            where their names say.
        doubt: why the case needs a look, a comment; None if it does not.

    Raises:
        AttributeFault: as `dicom_segmentation.source_images`.
    """
    sources, _ = source_images(series)

    def of_images(
        kind: Code, measurements: list[sr.Measurement], site: Code | None = None, category: Code | None = None
    ) -> sr.MeasurementsAndQualitativeEvaluations:
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(kind, site),
            finding_category=category,
            finding_type=kind,
            finding_sites=[sr.FindingSite(site)] if site else None,
            measurements=measurements,
            source_images=[sr.SourceImageForMeasurementGroup.from_source_image(source) for source in sources],
        )

    groups = []
    for label, (category, kind) in SEGMENT_CODES.items():
        voxels = np.count_nonzero(labels == label)
        measurements = [_measurement(_VOLUME, voxels * np.prod(spacing) / 1000, _ML)]
        measurements += _measurements(_OF_LABELS[label], quantities)
        if segmentation is None or not voxels:
            groups.append(of_images(kind, measurements, category=category))
            continue
        groups.append(
            sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(kind),
                referenced_segment=sr.ReferencedSegment.from_segmentation(segmentation, segment_number=label),
                finding_category=category,
                finding_type=kind,
                measurements=measurements,
            )
        )
    for kind, site, figures in _WHOLE:
        groups.append(of_images(kind, list(_measurements(figures, quantities)), site))
    if quantities["segments_from"] != "x axis":
        for row in segments:
            measurements = list(_measurements(_OF_SEGMENTS, row))
            groups.append(of_images(INFARCT, measurements, AHA_SEGMENTS[row["segment"]]))
    if stated := list(_measurements(_STATED, quantities)):
        groups.append(of_images(codes.SCT.LeftVentricle, stated))
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


def _measurements(figures: Sequence[_Figure], values: Mapping) -> Iterator[sr.Measurement]:
    for key, name, unit, derivation in figures:
        if not np.isnan(values.get(key, np.nan)):
            yield _measurement(name, values[key], unit, derivation)


def _measurement(name: Code, value: float, unit: Code, derivation: Code | None = None) -> sr.Measurement:
    return sr.Measurement(name=name, value=_written(value), unit=unit, derivation=derivation)


def _written(value: float) -> float:
    """A number with the digits that its measurement has: one decimal, two below 1."""
    return round(float(value), 1 if abs(value) >= 1 else 2)


def _tracking(kind: Code, site: Code | None = None) -> sr.TrackingIdentifier:
    identifier = f"{kind.meaning}, {site.meaning}" if site else kind.meaning
    return sr.TrackingIdentifier(uid=highdicom.UID(), identifier=identifier)
