"""What a user's program may rely on, for a type checker: run `mypy tests/public_names.py`. It is never executed."""

from pathlib import Path

import numpy as np

import cascade_jax
from cascade_jax import Cascade, CaseError, Segmentation, UNet


def outlines(image: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    cascade: Cascade = cascade_jax.load("pretrained", mirror=False)
    result: Segmentation = cascade.segment(image, spacing, details=True)
    doubt: np.ndarray | None = result.disagreement
    licence: str = cascade.licence
    print(doubt, result.expected_dice["infarction"], result.confidence.interval_ml["infarction"][0], licence)
    reason: str | None = result.confidence.doubtful
    print(reason)
    return cascade.segment(image, spacing)


def scores(labels: np.ndarray, truth: np.ndarray) -> float:
    return cascade_jax.metrics.evaluate_case(labels, truth, (1.5, 1.5, 10.0))["myocardium"]["dice"]


def infarct_ml(labels: np.ndarray) -> float:
    return cascade_jax.quantify.volumes(labels, (1.5, 1.5, 10.0))["infarct_ml"]


def network() -> UNet:
    return UNet(features=(16, 32), kernel_sizes=((3, 3),) * 2, strides=((1, 1), (2, 2)), num_classes=5)


def reason(error: CaseError) -> tuple[str, str]:
    return error.path, error.fault


def versions(folder: Path) -> str:
    return f"{folder} {cascade_jax.__version__} {cascade_jax.LABEL_NAMES[0]}"
