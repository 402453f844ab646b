"""What a reader has to know of how a report was made."""

from collections.abc import Iterable

import cascade_jax
from cascade_jax.data.labels import EMIDEC
from cascade_jax.report.cases import ReportCase, Sources

RESEARCH_ONLY = "Not a medical device. For research only."
_BY_A_CASCADE = (
    "a 2D U-Net for every slice, a 3D U-Net for the stack, and the vote of several folds (Zhang 2020, arXiv:2012.14128)"
)
_MEASURED = (
    "voxels times their size, mass at 1.05 g/ml, transmurality along chords from the ventricle's centre, segments of "
    "the American Heart Association"
)


def provenance(sources: Sources, cases: Iterable[ReportCase]) -> list[tuple[str, str]]:
    """Titles and texts: the outlines, the method, the weights, how it was measured, the version.

    Args:
        sources: of the report.
        cases: of which it is said.
    """
    recorded = {case.account.confidence.weights for case in cases if case.account.confidence} - {""}
    weights = sources.weights or ", ".join(sorted(recorded))
    known = bool(weights)
    rows = [("outlines", sources.prediction.name)]
    rows.append(("method", _BY_A_CASCADE if known else "who or what drew the outlines is not recorded beside them"))
    rows.append(("weights", weights if known else "not recorded"))
    if sources.labels == EMIDEC:
        rows.append(("measured", _MEASURED))
    return [*rows, ("version", f"cascade_jax {cascade_jax.__version__}")]
