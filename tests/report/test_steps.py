"""What each step changed, in words."""

import numpy as np

from cascade_jax.report.steps import postprocessing_note, vote_note
from tests.report.phantom_report import write_model


def test_the_steps_are_put_into_words(tmp_path):
    target = {"a": {"dice": 0.5}}
    columns = {"ensemble": {"a": {"dice": 0.7125}}, "final, mean of folds": target}
    assert vote_note(columns).endswith("on their own: a +21.25.")
    before, after = np.ones((1, 2, 2)), np.eye(2)[None]
    layers = {
        "x": {"before postprocessing": before, "prediction": after},
        "y": dict.fromkeys(("before postprocessing", "prediction"), before),
    }
    rules = [{"name": "small_infarction", "minimum_mm3": 400.0}, {"name": "largest_heart", "minimum_mm3": 0.0}]
    write_model(tmp_path, rules)
    note = postprocessing_note(tmp_path, layers)
    assert note == "Postprocessing: small infarction (below 400 mm3), largest heart; it changed 1 of 2 cases."
    write_model(tmp_path, [])
    assert "none is applied" in postprocessing_note(tmp_path, layers)
