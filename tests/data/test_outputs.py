"""What a command did not make it never replaces."""

import os

import numpy as np
import pytest

from cascade_jax.bundle import PRETRAINED
from cascade_jax.commands.quantify import quantify_folder
from cascade_jax.commands.release import release
from cascade_jax.data import emidec, folders, nnunet, outputs
from cascade_jax.data.case import CaseError
from cascade_jax.phantoms import simulated


def silent(iterable, _):
    return iterable


def write(folder, text):
    with outputs.recording_outputs(folder, ["a.txt", "b/c.txt"]):
        (folder / "b").mkdir(exist_ok=True)
        (folder / "a.txt").write_text(text)
        (folder / "b" / "c.txt").write_text(text)


def test_what_was_made_may_be_made_again(tmp_path):
    write(tmp_path, "one")
    write(tmp_path, "two")
    assert (tmp_path / "b" / "c.txt").read_text() == "two"


@pytest.mark.parametrize("change", ["edited", "replaced by a link", "there before", "a folder"])
def test_what_was_not_made_or_was_changed_since_is_refused_before_anything_is_written(tmp_path, change):
    path = tmp_path / "b" / "c.txt"
    if change in ("there before", "a folder"):
        path.parent.mkdir()
        path.mkdir() if change == "a folder" else path.write_text("theirs")
    else:
        write(tmp_path, "one")
        if change == "edited":
            path.write_text("corrected by hand")
        else:
            path.unlink()
            path.symlink_to(tmp_path / "a.txt")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.txt") if file.is_file()}
    with pytest.raises(CaseError) as error:
        write(tmp_path, "two")
    assert str(error.value).startswith(f"{path}: ") and "choose another output" in str(error.value)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.txt") if file.is_file()} == before


def test_who_was_stopped_while_writing_finds_his_own_files_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), outputs.recording_outputs(tmp_path, ["a.txt", "b/c.txt"]):
        (tmp_path / "a.txt").write_text("half")
        raise KeyboardInterrupt
    write(tmp_path, "whole")

    class Killed(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patch:
        making = outputs.recording_outputs(tmp_path, ["a.txt", "b/c.txt"])
        making.__enter__()
        (tmp_path / "a.txt").write_text("half")
        patch.setattr(outputs, "_update", lambda *_: (_ for _ in ()).throw(Killed()))  # nothing runs after a kill
        with pytest.raises(Killed):
            making.__exit__(None, None, None)
    write(tmp_path, "whole")


def test_a_damaged_record_replaces_nothing(tmp_path):
    write(tmp_path, "one")
    (tmp_path / ".cascade_jax.json").write_text("{")
    with pytest.raises(CaseError, match="damaged"):
        write(tmp_path, "two")
    assert (tmp_path / "a.txt").read_text() == "one"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    simulated.write_cohort(root, 2, 0, field_of_view_mm=90)
    return root


def test_tables_of_quantities_replace_only_their_own(cohort, tmp_path):
    for _ in range(2):
        assert not quantify_folder(cohort, None, tmp_path, None, silent)
    (tmp_path / "slices.csv").write_text("mine")
    with pytest.raises(CaseError, match=r"slices\.csv: is there already"):
        quantify_folder(cohort, None, tmp_path, None, silent)
    assert (tmp_path / "slices.csv").read_text() == "mine"


def test_datasets_and_cohorts_are_never_mixed(cohort, tmp_path):
    raw, back = tmp_path / "raw", tmp_path / "back"
    nnunet.export_dataset(cohort, raw, silent)
    with pytest.raises(CaseError, match="is not empty"):
        nnunet.export_dataset(cohort, raw, silent)
    nnunet.import_dataset(raw, back, {}, silent)
    with pytest.raises(CaseError, match="is not empty"):
        nnunet.import_dataset(raw, back, {}, silent)
    with pytest.raises(CaseError, match="holds 2 cases already, more than the 1"):
        simulated.write_cohort(cohort, 1, 0, field_of_view_mm=90)
    with pytest.raises(CaseError, match="holds no phantom cohort"):
        simulated.write_cohort(raw, 1, 0)


def test_a_release_replaces_no_model_but_its_own(tmp_path):
    release(PRETRAINED, tmp_path / "released")
    release(PRETRAINED, tmp_path / "released")
    other = tmp_path / "run"
    other.mkdir()
    (other / "model.json").write_text("{}")
    with pytest.raises(CaseError, match=r"model\.json: is there already"):
        release(PRETRAINED, other)
    assert sorted(os.listdir(other)) == ["model.json"]


def test_labels_of_a_reader_are_as_they_were(cohort, tmp_path):
    """The prediction's folder is the cohort's own: refused before any network is asked."""
    from cascade_jax.commands.predict import predict_cases

    class Untouched:
        """A cascade that must not be asked."""

        class plan:
            labels = emidec.EMIDEC

        def segment_case(self, *_, **__):
            raise AssertionError("asked")

    before = {path: path.read_bytes() for path in cohort.rglob("*") if path.is_file()}
    with pytest.raises(CaseError, match=r"Contours/.*\.nii\.gz: is there already"):
        predict_cases(Untouched(), cohort, cohort, True, silent)
    assert {path: path.read_bytes() for path in cohort.rglob("*") if path.is_file()} == before
    labels, _ = emidec.read_labels(next(iter(folders.find_contours(cohort).values())))
    assert np.unique(labels).max() >= 2
