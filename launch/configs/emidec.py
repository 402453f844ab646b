"""The EMIDEC training set by the paper's setting: whole slices and volumes, nnU-Net-sized networks, its schedule.

    cascade-jax train --config=emidec --workdir=runs/emidec --config.data.root=.../emidec-dataset-1.0.1

On two cores of a Xeon a step of stage two alone takes more than ten seconds (`cascade-jax benchmark
--suites=train`): the schedule is for accelerators. It has not been run to its end, so there is no figure to quote.

    cascade-jax train --config=emidec:laptop --workdir=runs/laptop --config.data.root=.../emidec-dataset-1.0.1

For two cores: the networks in the box and their weights to start from, finer voxels, and for stage two a window
around the heart that stage one has found. 83 minutes on two cores of a Xeon for 70 of the 100 cases; mean of the five
folds: myocardium 84.7, infarction 69.4, no-reflow 69.2 (docs/results.md).
"""

from ml_collections import ConfigDict

from launch.configs import default


def get_config(machine: str = "") -> ConfigDict:
    if machine not in ("", "laptop"):
        raise ValueError(f"emidec.py:{machine}: known is laptop")
    config = default.get_config()
    config.data.root = "emidec-dataset-1.0.1"
    return _for_laptop(config) if machine else config


def _for_laptop(config: ConfigDict) -> ConfigDict:
    config.init_from = "pretrained"
    config.init_share = 0.0
    config.plan.spacing = (10.0, 1.4, 1.4)
    config.plan.shape = (10, 192, 192)
    config.plan.window = (96, 96)
    config.plan.slices.batch_size = 5
    config.plan.volumes.batch_size = 2
    for stage in (config.stage1, config.stage2):
        stage.steps = 400
        stage.learning_rate = 0.001
        stage.steps_per_dispatch = 1
        stage.validate_every = 100
        stage.checkpoint_every = 50
    return config
