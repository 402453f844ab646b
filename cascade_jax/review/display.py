"""A stack as the page's viewer shows it, and drawings back from there, voxel by voxel.

The viewer knows a volume with x to the right, y upwards and the true voxel size; the library's slices have y downwards.
What is sent is therefore mirrored along y and laid out with x fastest, then y, then slice, whatever the file's own
header says, and what comes back is mirrored back. No voxel is resampled.
"""

import io

import nibabel as nib
import numpy as np

from cascade_jax.data.border import outside_field_of_view

_SHOWN = (1.0, 99.5)  # percentiles of the tissue that are black and white


def image_file(image: np.ndarray, spacing: tuple[float, float, float]) -> bytes:
    """A NIfTI file for the viewer.

    Args:
        image: float32 (depth, height, width).
        spacing: mm along the same axes.
    """
    size = np.array(spacing[::-1])
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(image.shape[::-1])
    header.set_sform(np.diag([*size, 1.0]), code=1)
    header.set_qform(np.diag([*size, 1.0]), code=1)
    header.set_xyzt_units("mm")
    tissue = image[~outside_field_of_view(image)]
    header["cal_min"], header["cal_max"] = np.percentile(tissue if tissue.size else image, _SHOWN)
    content = io.BytesIO()
    header.write_to(content)
    content.write(b"\0" * (header.single_vox_offset - content.tell()))
    content.write(image[:, ::-1].astype("<f4").tobytes())
    return content.getvalue()


def drawing_of(labels: np.ndarray) -> bytes:
    """Labels, uint8 (depth, height, width), as the viewer keeps a drawing: a byte a voxel."""
    return np.ascontiguousarray(labels[:, ::-1], np.uint8).tobytes()


def labels_of(drawing: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The labels, uint8 (depth, height, width), of a drawing that `drawing_of` made of labels of that shape.

    Raises:
        ValueError: it has another size.
    """
    return np.frombuffer(drawing, np.uint8).reshape(shape)[:, ::-1].copy()
