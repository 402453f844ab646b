"""How much of a cascade's result hangs on rounding: the same labels, with the networks and the vote in float64."""

import jax
import jax.numpy as jnp

from cascade_jax.cascade import Cascade, build_networks
from cascade_jax.data.case import Case


def in_double_precision(cascade: Cascade) -> Cascade:
    """The cascade with networks and parameters in float64. It is for the context of `jax.enable_x64(True)`."""
    networks = build_networks(cascade.plan, jnp.dtype("float64"))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), cascade.params)
    settings = (cascade.rules, cascade.folds, cascade.mirror, cascade.licence, cascade.calibration)
    return Cascade(cascade.plan, networks, params, *settings)


def voxels_that_differ(cascade: Cascade, case: Case) -> tuple[int, int]:
    """How many of a case's voxels have another label when both stages and the vote are computed in float64.

    Args:
        cascade: as `load` returns it.
        case: the case; its preprocessing is the same for both.

    Returns:
        The voxels that differ, and all voxels of the case.

    Raises:
        CaseError: the image has no contrast.
    """
    labels = cascade.segment_case(case).labels
    with jax.enable_x64(True):
        exact = in_double_precision(cascade).segment_case(case).labels
    return int((exact != labels).sum()), labels.size
