"""The quick start: a synthetic cohort of small images, small networks, all five folds of both stages.

    cascade-jax train --config=phantom --workdir=runs/phantom

16 minutes on two cores of a Xeon, the installation included, 1.2 GB. On the ten held-out cases the five folds' vote
reaches Dice 0.92 for the myocardium and 0.81 for the infarction; no-reflow is not found.
"""

from ml_collections import ConfigDict

from launch.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.data.phantom.cases = 40
    config.data.phantom.held_out_cases = 10
    config.data.phantom.field_of_view_mm = 115.0
    config.plan.spacing = (10.0, 1.8, 1.8)
    config.mirror = False
    config.plan.slices.features = (16, 32, 64, 128)
    config.plan.volumes.features = (16, 32, 64, 128)
    config.plan.slices.batch_size = 16
    config.plan.volumes.batch_size = 2
    for stage, steps in ((config.stage1, 200), (config.stage2, 200)):
        stage.steps = steps
        stage.steps_per_dispatch = 1
        stage.validate_every = 50
        stage.checkpoint_every = 50
        stage.augmentation.mirror_plane = False
        stage.augmentation.mirror_depth = False
        stage.augmentation.rotation_degrees = 30.0
    return config
