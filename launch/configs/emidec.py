"""The EMIDEC training set by the paper's setting: whole slices and volumes, nnU-Net-sized networks, its schedule.

    cascade-jax train --config=emidec --workdir=runs/emidec --config.data.root=.../emidec-dataset-1.0.1

On two cores of a Xeon a step of stage two alone takes more than ten seconds (`cascade-jax benchmark
--suites=train`): the schedule is for accelerators. It has not been run to its end, so there is no figure to quote.

    cascade-jax train --config=emidec:laptop --workdir=runs/laptop --config.data.root=.../emidec-dataset-1.0.1

For two cores: the networks of "phantom" and its weights to start from, the ones in the box that have seen simulated
hearts alone, and for stage two a window around the heart that stage one has found. Two and a quarter hours on two cores
of a Xeon for 70 of the 100 cases; mean of the five folds: myocardium 86.1, infarction 75.4, no-reflow 69.8
(docs/results.md).
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
    config.init_from = "phantom"  # "emidec" has seen the cases that are held out here
    config.init_share = 0.0
    config.plan.shape = (10, 144, 144)
    config.plan.window = (80, 80)
    config.plan.slices.batch_size = 8
    config.plan.volumes.batch_size = 2
    for stage, steps, validate_every in ((config.stage1, 800, 200), (config.stage2, 1500, 250)):
        stage.steps = steps
        stage.learning_rate = 0.001
        stage.steps_per_dispatch = 1
        stage.validate_every = validate_every
        stage.checkpoint_every = 50
    return config
