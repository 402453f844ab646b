"""Goes on from weights that are in use, on cases whose outlines a reader has corrected; five are enough to begin with.

    cascade-jax predict --input=scans --output=segmented --images
    cascade-jax review segmented
    cascade-jax train --config=corrections --workdir=runs/corrected --config.data.root=segmented

Every case is judged by networks that were trained without it, beside the weights at the start; the run ends with
whether the new ones, WORKDIR/all, are better. Nothing is replaced.
"""

from ml_collections import ConfigDict

from launch.configs import emidec


def get_config() -> ConfigDict:
    config = emidec.get_config("laptop")
    config.data.root = "segmented"
    config.data.corrected = True
    config.init_from = "pretrained"
    config.init_share = 0.5
    config.phantom_share = 0.25
    config.all_cases = True
    for stage, steps in ((config.stage1, 100), (config.stage2, 100)):
        stage.steps = steps
        stage.learning_rate = 0.0005
        stage.validate_every = 50
    return config
