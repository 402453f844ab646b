"""What draws a cross-validation's batches, by its config."""

from ml_collections import ConfigDict

from cascade_jax.cascade import STAGES
from cascade_jax.data import augment
from cascade_jax.models.unet import UNet
from cascade_jax.plan import Plan
from cascade_jax.training.batches import (
    Draw,
    draw_phantom_slices,
    draw_phantom_volumes,
    draw_slices,
    draw_volumes,
    mix_phantoms,
)
from cascade_jax.training.loop import stage_plan
from cascade_jax.training.windows import HEART_SHARE


def make_draw(config: ConfigDict, plan: Plan, networks: tuple[UNet, UNet], stage: int) -> Draw:
    """What draws the batches of a stage (0 or 1)."""
    settings = config[STAGES[stage]]
    augmentation = augment.Augmentation(**settings.augmentation)
    batch_size = stage_plan(plan, stage).batch_size
    if stage == 0:
        of_cohort = draw_slices(batch_size, plan.shape[1:], augmentation)
        of_phantoms = draw_phantom_slices(batch_size, plan)
    else:
        corruption = augment.PriorCorruption(**settings.prior)
        num_classes = len(plan.labels.names)
        share = HEART_SHARE if plan.window is None else 1.0
        of_cohort = draw_volumes(batch_size, plan.volume_shape, augmentation, corruption, num_classes, share)
        of_phantoms = draw_phantom_volumes(batch_size, plan, networks[0], corruption)
    return mix_phantoms(config.phantom_share, of_cohort, of_phantoms) if config.phantom_share > 0 else of_cohort
