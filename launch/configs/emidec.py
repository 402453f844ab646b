"""The paper's setting on the EMIDEC training set: whole slices and volumes, nnU-Net-sized networks, its schedule.

    cascade-jax train --config=emidec --workdir=runs/emidec --config.data.root=.../emidec-dataset-1.0.1

On two cores of a Xeon a step of stage two alone takes more than ten seconds (`cascade-jax benchmark
--suites=train`): the schedule is for accelerators. It has not been run to its end, so there is no figure to quote.
"""

from ml_collections import ConfigDict

from launch.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.data.root = "emidec-dataset-1.0.1"
    return config
