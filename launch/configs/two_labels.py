"""Another task: the cavity and the whole myocardium, with the quick start's networks and schedule.

    cascade-jax train --config=two_labels --config.data.root=DIR --workdir=runs/two_labels

`cascade-jax predict` reads the labels from the working folder, `evaluate` and `report` take `--labels_of=WORKDIR`.
"""

from ml_collections import ConfigDict

from launch.configs import phantom


def get_config() -> ConfigDict:
    config = phantom.get_config()
    config.labels.names = ("background", "cavity", "myocardium")  # by value, in the files of labels
    config.labels.targets = (
        ("heart", ("cavity", "myocardium")),  # the first is what every case has, and what cases are ranked by
        ("cavity", ("cavity",)),
        ("myocardium", ("myocardium",)),
    )
    return config
