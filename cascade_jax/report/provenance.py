"""What a reader has to know of how a report was made."""

import cascade_jax
from cascade_jax.data.labels import EMIDEC
from cascade_jax.report.cases import Sources

RESEARCH_ONLY = "Not a medical device. For research only."
_BY_A_CASCADE = (
    "a 2D U-Net for every slice, a 3D U-Net for the stack, and the vote of several folds (Zhang 2020, arXiv:2012.14128)"
)
_MEASURED = (
    "voxels times their size, mass at 1.05 g/ml, transmurality along chords from the ventricle's centre, segments of "
    "the American Heart Association"
)


def provenance(sources: Sources) -> list[tuple[str, str]]:
    """Titles and texts: the outlines, the method, the weights, how it was measured, the version."""
    known = bool(sources.weights)
    rows = [("outlines", sources.prediction.name)]
    rows.append(("method", _BY_A_CASCADE if known else "who or what drew the outlines is not recorded beside them"))
    rows.append(("weights", sources.weights if known else "not recorded"))
    if sources.labels == EMIDEC:
        rows.append(("measured", _MEASURED))
    return [*rows, ("version", f"cascade_jax {cascade_jax.__version__}")]
