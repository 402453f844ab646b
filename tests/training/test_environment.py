"""Every start of a run says with what it was computed."""

import pytest

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import read_json
from cascade_jax.training import environment
from cascade_jax.training.environment import record_start


def test_every_start_is_recorded_and_another_environment_is_said(tmp_path, monkeypatch, caplog):
    record_start(tmp_path)
    record_start(tmp_path)
    assert not caplog.text
    first = read_json(tmp_path / "run.json")[0]
    assert {"jax", "numpy", "cascade_jax"} <= first["versions"].keys() and first["device_count"] >= 1
    monkeypatch.setattr(environment, "environment", lambda: {"device_count": 8})
    record_start(tmp_path)
    assert "device_count (was 1, is 8)" in caplog.text.replace(str(first["device_count"]), "1")
    assert "to float tolerance, not to the bit" in caplog.text
    assert len(read_json(tmp_path / "run.json")) == 3


def test_a_fold_that_was_trained_on_more_devices_is_said_at_every_later_start(tmp_path, monkeypatch, caplog):
    for count in (8, 4, 8, 2, 2):
        caplog.clear()
        monkeypatch.setattr(environment, "environment", lambda count=count: {"device_count": count, "device": "cpu"})
        record_start(tmp_path)
    (line,) = caplog.messages
    assert line == (
        f"{tmp_path}: device_count (was 8 and 4, is 2); what follows equals the run's to float tolerance, not to the "
        "bit"
    )


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(CaseError, match="is damaged"):
        record_start(tmp_path)
