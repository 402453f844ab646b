"""Label tables: made from names, kept as JSON, refused where they cannot be."""

import json

import pytest

from cascade_jax.data.case import INFARCTION, MYOCARDIUM
from cascade_jax.data.labels import EMIDEC, LabelTable, make_label_table
from cascade_jax.errors import ConfigError
from cascade_jax.plan import make_plan
from cascade_jax.training.config import labels_of
from launch.configs import default, two_labels

NAMES = ("background", "cavity", "myocardium")


def test_a_table_is_made_from_names_and_comes_back_from_json():
    table = make_label_table(NAMES, [("heart", ("cavity", "myocardium")), ("cavity", ("cavity",))])
    assert table == LabelTable(NAMES, {"heart": (1, 2), "cavity": (1,)})
    assert table.main == "heart"
    assert LabelTable.from_json(json.loads(json.dumps(table.to_json()))) == table
    plan = make_plan([(6, 64, 64)], [(10.0, 1.5, 1.5)], labels=table)
    assert type(plan).from_json(json.loads(json.dumps(plan.to_json()))) == plan
    hash(plan)


@pytest.mark.parametrize(
    ("names", "targets", "fault"),
    [
        (("background",), [("all", ("background",))], "names is"),
        (("background", "a", "a"), [("a", ("a",))], "each name once"),
        (("background", "a"), [], "at least one"),
        (("background", "a"), [("a", ("a",)), ("a", ("a",))], "each name once"),
        (("background", "a"), [("b", ("b",))], "target b"),
        (("background", "a"), [("b", ())], "target b"),
        (("background", "a"), [("b", ("background",))], "target b"),
    ],
)
def test_a_table_that_cannot_be_is_named(names, targets, fault):
    with pytest.raises(ValueError, match=fault):
        make_label_table(names, targets)
    config = default.get_config()
    config.labels.names, config.labels.targets = names, tuple(targets)
    with pytest.raises(ConfigError, match=r"labels\."):
        labels_of(config)


def test_the_default_is_the_challenges_and_others_need_data():
    assert labels_of(default.get_config()) == EMIDEC
    with pytest.raises(ConfigError, match=r"data\.root"):
        labels_of(two_labels.get_config())


def test_a_part_knows_what_it_is_a_part_of_and_what_else_its_voxels_could_be():
    assert [EMIDEC.container(target) for target in EMIDEC.targets] == [None, "myocardium", "infarction"]
    assert (EMIDEC.replacement("infarction"), EMIDEC.replacement("no_reflow")) == (MYOCARDIUM, INFARCTION)
    table = make_label_table(("background", "left", "right"), [("left", ("left",)), ("right", ("right",))])
    assert table.container("right") is None
    assert table.replacement("right") == 0
