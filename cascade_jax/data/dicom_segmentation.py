"""Labels as a DICOM segmentation object, by highdicom."""

import copy
from collections.abc import Mapping, Sequence

import highdicom
import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import config
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Code, codes
from pydicom.valuerep import DA, DT, TM, DSfloat, validate_value

from cascade_jax import __version__
from cascade_jax.data.case import CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW
from cascade_jax.data.dicom_slice import series_number
from cascade_jax.data.dicom_stack import Series

PRIVATE_SCHEME = "99CASCADE"

_ANATOMY, _ABNORMAL = codes.SCT.AnatomicalStructure, codes.SCT.MorphologicallyAbnormalStructure
INFARCT = Code("55641003", "SCT", "Infarct")
# What each label is by itself, since the segments share no voxel: the myocardium is the last three together, the
# infarct the last two. DICOM's own lists have the whole left ventricle but not its cavity, which the Foundational Model
# of Anatomy has.
SEGMENT_CODES = {
    CAVITY: (_ANATOMY, Code("9466", "FMA", "Cavity of left ventricle")),
    MYOCARDIUM: (_ANATOMY, codes.DCM.NormalMyocardium),
    INFARCTION: (_ABNORMAL, Code("infarct_without_no_reflow", PRIVATE_SCHEME, "Infarct without no-reflow")),
    NO_REFLOW: (_ABNORMAL, Code("no_reflow", PRIVATE_SCHEME, "Microvascular obstruction (no-reflow)")),
}
_SEGMENT_LABELS = {
    CAVITY: "cavity",
    MYOCARDIUM: "normal myocardium",
    INFARCTION: "infarction without no-reflow",
    NO_REFLOW: "no-reflow",
}

_SAME_ORIENTATION = 1e-4  # of a direction's components, which images round differently
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# What the standard requires in every image, empty if unknown, and what programs that remove identities leave out.
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
# Kinds whose values programs that remove identities replace by words, and what reads them.
_KINDS = {"AS": str, "DA": DA, "DT": DT, "TM": TM}
_SEXES = ("", "F", "M", "O")
_LARGEST_NUMBER = 2**31 - 1  # of an attribute of kind IS


class AttributeFault(ValueError):
    """An attribute of the source keeps an object that refers to it from being made; its text names the attribute."""


def segmentation(series: Series, labels: np.ndarray, colours: Mapping[int, str]) -> Segmentation:
    """The segmentation of a series; each label is a segment with coded categories, and no voxel has two.

    Args:
        series: the source.
        labels: uint8 (depth, height, width), in the series' order.
        colours: {label: "#rrggbb"}, in which viewers show the segments.

    Raises:
        AttributeFault: the source lacks an attribute, or has one, with which there can be none.
    """
    algorithm = AlgorithmIdentificationSequence(
        name="cascade_jax", version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    descriptions = [
        SegmentDescription(
            segment_number=label,
            segment_label=_SEGMENT_LABELS[label],
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(*bytes.fromhex(colours[label].removeprefix("#"))),
        )
        for label, (category, kind) in SEGMENT_CODES.items()
    ]
    if series.slices[0].frame is not None and any(one.dataset is not series.slices[0].dataset for one in series.slices):
        raise AttributeFault("NumberOfFrames: the slices are spread over several files")
    sources, _ = source_images(series)
    if any(not image.get("FrameOfReferenceUID") for image in sources):
        raise AttributeFault("FrameOfReferenceUID is missing")
    references = _references(sources)
    _give_one_geometry(series, sources)
    result = Segmentation(
        source_images=sources,
        pixel_array=_in_source_order(series, labels),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=derived_number(sources[0], 1000),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="cascade_jax",
        manufacturer_model_name="cascade_jax",
        software_versions=__version__,
        device_serial_number="0",
        series_description="Infarct segmentation (research)",
    )
    result.ReferencedSeriesSequence = references
    identify_private_scheme(result)
    return result


def identify_private_scheme(dataset: Dataset) -> None:
    """Says in an object whose the codes of `PRIVATE_SCHEME` are."""
    dataset.CodingSchemeIdentificationSequence = [
        CodingSchemeIdentificationItem(
            designator=PRIVATE_SCHEME, name="cascade_jax", version=__version__, responsible_organization="cascade_jax"
        )
    ]


def derived_number(source: Dataset, offset: int) -> int:
    """The number of a series made from another, by an offset from its."""
    number = next(iter(series_number(source)), 0)
    return offset + (number if 0 < number <= _LARGEST_NUMBER - offset else 0)


def source_images(series: Series) -> tuple[list[Dataset], list[str]]:
    """The source's files as objects that refer to them are made from: copies without pixels and private elements, in
    the series' order.

    Text is in Unicode, whatever character set the files have. Dates, times, ages and the sex are empty where they are
    none of the standard's values, and so is what cannot be read.

    Returns:
        The copies, and the keywords of what was emptied of patient and study.

    Raises:
        AttributeFault: an attribute that nothing can stand for is missing.
    """
    files = list({id(one.dataset): one.dataset for one in series.slices}.values())
    emptied: dict[str, None] = {}
    copies = [_tidy(file, emptied) for file in files]
    for name in _NEEDED:
        if any(not image.get(name) for image in copies):
            raise AttributeFault(f"{name} is missing")
    if any(image.SOPClassUID.type != "SOP Class" for image in copies):
        raise AttributeFault("SOPClassUID is none of the standard's")
    return copies, list(emptied)


def _tidy(dataset: Dataset, emptied: dict[str, None]) -> Dataset:
    result = Dataset()
    result.file_meta = dataset.file_meta
    for tag in list(dataset.keys()):
        if tag.is_private or tag.group == 0x7FE0:
            continue
        try:
            _check_value(dataset[tag])
            result.add(copy.deepcopy(dataset[tag]))  # a shallow copy of pydicom's shares its elements
        except Exception:  # pydicom's converters raise many kinds, whose words quote the value
            keyword = keyword_for_tag(tag)
            if tag.group == 0x0010 or keyword in _MAY_BE_EMPTY:
                emptied[keyword or str(tag)] = None
    for name in _MAY_BE_EMPTY:
        if name not in result:
            setattr(result, name, "")
    if not result.get("Modality"):
        result.Modality = "MR"
    result.SpecificCharacterSet = "ISO_IR 192"
    return result


def _check_value(element) -> None:
    """Raises ValueError where a value is none of its kind's, or could not be told in the file's character set."""
    if element.VR == "SQ":
        for item in element.value if element.keyword not in _FRAME_GROUPS else ():
            for _ in item.iterall():  # each is decoded by being looked at
                pass
        return
    if element.keyword in _MAY_BE_EMPTY and element.VM > 1:
        raise ValueError
    if element.keyword == "PatientSex" and str(element.value or "") not in _SEXES:
        raise ValueError
    for value in element.value if element.VM > 1 else [element.value]:
        if element.VR in _KINDS:
            validate_value(element.VR, str(value or ""), config.RAISE)
            _KINDS[element.VR](str(value or ""))
    if element.VR in ("LO", "LT", "PN", "SH", "ST", "UC", "UT") and "\ufffd" in str(element.value):
        raise ValueError


def _give_one_geometry(series: Series, images: Sequence[Dataset]) -> None:
    """Makes the images what highdicom requires: of one series, also where each breath-hold has its own, and with one
    orientation and voxel size, which files round differently. The slice distance is that of the positions.

    Raises:
        AttributeFault: orientations differ by more than rounding.
    """
    first = series.slices[0]
    directions = np.array([[*one.across, *one.down] for one in series.slices])
    if np.abs(directions - directions[0]).max() > _SAME_ORIENTATION:
        raise AttributeFault("ImageOrientationPatient differs between slices")
    measures = Dataset()
    measures.PixelSpacing = [_decimal(value) for value in first.spacing]
    measures.SliceThickness = _decimal(first.thickness or series.slice_distance)
    measures.SpacingBetweenSlices = _decimal(round(series.slice_distance, 6))
    orientation = Dataset()
    orientation.ImageOrientationPatient = [_decimal(value) for value in directions[0]]
    for image in images:
        image.SeriesInstanceUID = images[0].SeriesInstanceUID
        if first.frame is None:
            image.update(measures)
            image.update(orientation)
            continue
        shared = image.SharedFunctionalGroupsSequence[0] if image.get("SharedFunctionalGroupsSequence") else Dataset()
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
        image.SharedFunctionalGroupsSequence = [shared]
        for frame in image.PerFrameFunctionalGroupsSequence:
            for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
                if name in frame:
                    del frame[name]


def _decimal(value: float) -> DSfloat:
    """A number as DICOM writes it, in 16 characters."""
    return DSfloat(value, auto_format=True)


def _in_source_order(series: Series, labels: np.ndarray) -> np.ndarray:
    """Labels (frame, height, width) in the order in which the source holds its frames."""
    if series.slices[0].frame is None:
        return labels
    ordered = np.zeros((int(series.slices[0].dataset.NumberOfFrames), *labels.shape[1:]), np.uint8)
    for one, plane in zip(series.slices, labels, strict=True):
        ordered[one.frame] = plane
    return ordered


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
