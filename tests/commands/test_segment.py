"""Scans in any form in, labels beside them and a line of what was found out."""

import dataclasses
import shutil
import subprocess
import zipfile

import nibabel as nib
import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from cascade_jax.commands import segment
from cascade_jax.commands.answer import answer, in_words
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import EMIDEC, make_label_table
from cascade_jax.progress import bar
from tests.commands.command_line import ROOT, command, fails_with_one_line, read
from tests.commands.scans import Reader, TwoDevices, files_in, write_scan
from tests.data.dicom_series import PATIENT, write_classic


def segmented(heart, *inputs, output=None, everything=False, **reader):
    """Lines of what was found, of what was skipped, and of what failed."""
    jobs, skipped, failed = segment.plan([str(path) for path in inputs], output, everything)
    said = list(segment.segment_scans(Reader(heart.labels, **reader), jobs, everything, bar))
    return [line for line, _ in said if line], skipped, failed + [line for _, lines in said for line in lines]


def test_labels_lie_beside_the_image_in_its_grid_and_the_line_says_how_large_the_infarct_is(heart, tmp_path):
    write_scan(tmp_path / "scan.nii.gz", heart)
    (line,), skipped, failed = segmented(heart, tmp_path / "scan.nii.gz")
    assert skipped == failed == []
    labels, image = read(tmp_path / "scan_seg.nii.gz")
    np.testing.assert_array_equal(labels, emidec.to_file_axes(heart.labels))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(image.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    gram = 1.05 * np.prod(heart.spacing) / 1000
    myocardium, infarct = (gram * (heart.labels >= least).sum() for least in (2, 3))
    assert 10 < infarct < myocardium
    assert line.startswith(
        f"scan: myocardium {myocardium:.0f} g, infarct {infarct:.0f} g ({100 * infarct / myocardium:.0f} %), no-reflow "
    )
    assert line.endswith(f"; expected Dice of the myocardium 0.90; labels in {tmp_path / 'scan_seg.nii.gz'}")


def test_the_line_says_what_to_look_at(heart, tmp_path):
    write_scan(tmp_path / "scan.nii.gz", heart)
    labels = heart.labels.copy()
    labels[3] = 0
    (line,), _, _ = segmented(dataclasses.replace(heart, labels=labels), tmp_path / "scan.nii.gz", myocardium=0.6)
    assert "look at it: low-confidence: a Dice of 0.6 is expected; slice-gap: no myoc" in line


def test_a_warning_is_a_failure_where_that_is_asked_for_and_the_labels_are_written(heart, tmp_path):
    for name in ("good", "gap"):
        write_scan(tmp_path / f"{name}.nii.gz", heart)
    gap = heart.labels.copy()
    gap[3] = 0
    for name, labels, expected in (("good", heart.labels, []), ("gap", gap, ["gap: slice-gap (--strict)"])):
        jobs, _, _ = segment.plan([str(tmp_path / f"{name}.nii.gz")], None, False)
        ((_, failed),) = segment.segment_scans(Reader(labels), jobs, False, bar, strict=True)
        assert failed == expected
        assert (tmp_path / f"{name}_seg.nii.gz").exists()


def test_labels_beside_their_image_are_no_inputs_and_are_replaced_by_the_next_run(heart, tmp_path):
    write_scan(tmp_path / "scan.nii.gz", heart)
    for _ in range(2):
        lines, _, failed = segmented(heart, tmp_path)
        assert len(lines) == 1 and failed == []
    labels = f"{tmp_path / 'scan_seg.nii.gz'}: is the labels of an image"
    lines, skipped, failed = segmented(heart, *sorted(tmp_path.glob("*.nii.gz")))  # as a shell's * gives them
    assert (len(lines), skipped, failed) == (1, [labels], [])
    assert segmented(heart, tmp_path / "scan_seg.nii.gz") == ([], [], [labels])
    assert files_in(tmp_path) == ["scan.nii.gz", "scan_seg.nii.gz"]


def test_labels_that_no_earlier_run_has_made_or_that_were_corrected_since_are_never_replaced(heart, tmp_path):
    for name in ("mine", "corrected", "other"):
        write_scan(tmp_path / f"{name}.nii.gz", heart)
    (tmp_path / "mine_seg.nii.gz").write_bytes(b"mine")
    segmented(heart, tmp_path / "corrected.nii.gz")
    (tmp_path / "corrected_seg.nii.gz").write_bytes(b"corrected")
    lines, _, failed = segmented(heart, tmp_path)
    assert [line.split(":")[0] for line in lines] == ["other"]
    assert len(failed) == 2 and all("is there already" in line for line in failed)
    for name in ("mine", "corrected"):
        assert (tmp_path / f"{name}_seg.nii.gz").read_bytes() == name.encode()


def test_a_dicom_study_has_its_labels_beside_its_folder_or_archive(heart, tmp_path):
    write_classic(tmp_path / "one" / "deep" / "deeper", heart)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for path in (tmp_path / "one" / "deep" / "deeper").iterdir():
            archive.write(path, path.name)
    for inputs in ([tmp_path / "one", tmp_path / "two.zip"], [tmp_path]):
        lines, _, failed = segmented(heart, *inputs)
        assert [line.split(":")[0] for line in lines] == ["one", "two"] and failed == []
        assert not any(word in line for line in lines for word in PATIENT)
        for name in ("one", "two"):
            np.testing.assert_array_equal(
                read(tmp_path / f"{name}_seg.nii.gz")[0], emidec.to_file_axes(heart.labels), strict=True
            )
    assert len(files_in(tmp_path)) == len(heart.image) + 3


def test_several_studies_in_one_folder_are_told_apart_by_their_identity(heart, tmp_path):
    write_classic(tmp_path / "all", heart, number=5, StudyInstanceUID="1.1")
    for path in (tmp_path / "all").iterdir():
        path.rename(path.with_name(f"a{path.name}"))
    write_classic(tmp_path / "all", heart, number=6, StudyInstanceUID="1.2")
    lines, _, failed = segmented(heart, tmp_path / "all")
    assert failed == [] and {line.split(":")[0] for line in lines} == {"all_1", "all_2"}
    assert {path.name for path in tmp_path.glob("*.gz")} == {"all_1_seg.nii.gz", "all_2_seg.nii.gz"}


def test_of_several_series_the_one_called_late_enhancement_is_taken_and_of_two_alike_the_last(heart, tmp_path):
    for number, description, skip in ((3, "SA CINE", ()), (4, "LGE SA mag", (0,)), (5, "LGE SA PSIR", (0,))):
        write_classic(tmp_path / "in", heart, number, description, skip=skip)
    reader = Reader(heart.labels[1:])
    jobs, _, _ = segment.plan([str(tmp_path / "in")], None, False)
    ((line, _),) = segment.segment_scans(reader, jobs, False, bar)
    assert "look at it" not in line and jobs[0].scan.read(EMIDEC)[1].numbers == (5,)
    write_classic(tmp_path / "in", heart, 9, "LGE SA PSIR", skip=(0,))
    jobs, _, _ = segment.plan([str(tmp_path / "in")], None, False)
    ((line, _),) = segment.segment_scans(reader, jobs, False, bar)
    assert "series 9 is the last of several stacks that could be meant: series 5 (5 slices), series 9 (5 sl" in line


def test_several_devices_share_the_scans_and_lines_come_in_their_order(heart, tmp_path):
    for number in range(6):
        write_scan(tmp_path / "in" / f"{number}.nii.gz", heart)
    jobs, _, _ = segment.plan([str(tmp_path / "in")], tmp_path / "out", False)
    cascade = TwoDevices(heart.labels)
    lines = [line for line, _ in segment.segment_scans(cascade, jobs, False, bar)]
    assert [line.split(":")[0] for line in lines] == list("012345")
    assert sorted(cascade.each[0].segmented + cascade.each[1].segmented) == list("012345")
    assert not cascade.segmented


def test_an_output_behind_links_that_lead_to_each_other_is_one_line(heart, tmp_path):
    write_scan(tmp_path / "in.nii.gz", heart)
    (tmp_path / "loop").symlink_to("loop")
    jobs, _, (line,) = segment.plan([str(tmp_path / "in.nii.gz")], tmp_path / "loop" / "out", False)
    assert jobs == [] and str(tmp_path / "loop") in line and "cannot be written" in line


def test_one_scan_goes_to_the_file_that_is_asked_for_and_several_to_a_folder(heart, tmp_path):
    for name in ("one", "two"):
        write_scan(tmp_path / "in" / f"{name}.nii.gz", heart)
    segmented(heart, tmp_path / "in" / "one.nii.gz", output=tmp_path / "labels.nii.gz")
    segmented(heart, tmp_path / "in" / "one.nii.gz", tmp_path / "in" / "two.nii.gz", output=tmp_path / "in" / "out")
    expected = ["in/one.nii.gz", "in/out/one_seg.nii.gz", "in/out/two_seg.nii.gz", "in/two.nii.gz", "labels.nii.gz"]
    assert files_in(tmp_path) == expected
    assert len(segmented(heart, tmp_path / "in", output=tmp_path / "in" / "out")[0]) == 2, "the output is no input"
    with pytest.raises(CaseError, match="is one file, and 2 scans need a folder"):
        segmented(heart, tmp_path / "in", output=tmp_path / "labels.nii.gz")
    with pytest.raises(CaseError, match=r"must end in \.nii\.gz"):
        segmented(heart, tmp_path / "in" / "one.nii.gz", output=tmp_path / "labels.nrrd")


def test_no_result_takes_the_place_of_another_or_of_an_input(heart, tmp_path):
    for folder in ("a", "b"):
        write_scan(tmp_path / folder / "scan.nii.gz", heart)
    lines, _, (failed,) = segmented(heart, tmp_path / "a", tmp_path / "b", output=tmp_path / "out")
    assert len(lines) == 1 and str(tmp_path / "b" / "scan.nii.gz") in failed and str(tmp_path / "a") in failed
    scan = tmp_path / "a" / "scan.nii.gz"
    before = scan.read_bytes()
    lines, _, (failed,) = segmented(heart, scan, output=scan)
    assert lines == [] and "would replace" in failed and scan.read_bytes() == before


def test_a_bad_scan_is_named_and_the_others_are_done(heart, tmp_path):
    write_scan(tmp_path / "good.nii.gz", heart)
    (tmp_path / "bad.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:500])
    lines, _, failed = segmented(heart, tmp_path / "nowhere.nii.gz", tmp_path / "bad.nii.gz", tmp_path / "good.nii.gz")
    assert len(lines) == 1 and lines[0].startswith("good: ")
    assert [line.split(":")[0] for line in failed] == [str(tmp_path / f"{name}.nii.gz") for name in ("nowhere", "bad")]
    assert files_in(tmp_path) == ["bad.nii.gz", "good.nii.gz", "good_seg.nii.gz"]


def test_a_cohort_in_the_challenges_layout_stays_one(heart, tmp_path):
    for name in ("Case_1", "Case_2"):
        emidec.write_case(tmp_path, dataclasses.replace(heart, name=name))
    lines, _, failed = segmented(heart, tmp_path)
    assert len(lines) == 2 and failed == []
    assert {path.name for path in tmp_path.glob("*.nii.gz")} == {"Case_1_seg.nii.gz", "Case_2_seg.nii.gz"}
    for files in (folders.find_inputs(tmp_path), folders.find_cases(tmp_path)):
        assert [one.name for one in files] == ["Case_1", "Case_2"]
    assert list(folders.find_contours(tmp_path)) == ["Case_1", "Case_2"]


def test_labels_beside_their_images_are_no_inputs_of_other_commands_either(heart, tmp_path):
    write_scan(tmp_path / "scan.nii.gz", heart)
    write_scan(tmp_path / "lone_seg.nii.gz", heart)
    segmented(heart, tmp_path / "scan.nii.gz")
    assert [files.name for files in folders.find_inputs(tmp_path)] == ["lone_seg", "scan"]


def test_all_gives_what_predict_gives_for_an_image_and_a_series(heart, tmp_path):
    write_scan(tmp_path / "scan.nii.gz", heart)
    write_classic(tmp_path / "study", heart)
    for _ in range(2):
        lines, _, failed = segmented(heart, tmp_path / "scan.nii.gz", tmp_path / "study", everything=True)
        assert failed == [] and f"files in {tmp_path / 'scan_seg' / 'scan'}" in lines[0]
    tables = ["confidence.csv", "dseg.tsv", "labels.ctbl"]
    maps = [f"{kind}/{{0}}.nii.gz" for kind in ("Contours", "Doubt")]
    for name, more in (("scan", []), ("study", ["Images/study.nii.gz", "study.seg.dcm", "study.sr.dcm"])):
        expected = [f"{name}/{file.format(name)}" for file in [*maps, *more, f"{name}.png"]]
        assert files_in(tmp_path / f"{name}_seg") == sorted([*expected, *tables])
    assert len(segmented(heart, tmp_path)[0]) == 2, "what it wrote is no input"


def test_labels_of_another_table_are_measured_by_their_volumes(heart, tmp_path):
    write_scan(tmp_path / "scan.nii.gz", heart)
    table = make_label_table(("background", "cavity", "wall", "c", "d"), [("whole_wall", ("wall", "c", "d"))])
    (line,), _, _ = segmented(heart, tmp_path / "scan.nii.gz", table=table)
    volume = np.prod(heart.spacing) / 1000 * (heart.labels >= 2).sum()
    assert f"scan: whole-wall {volume:.3g} ml; expected Dice of the whole-wall 0.90" in line


def test_a_slice_of_unknown_thickness_has_no_masses(heart):
    one = dataclasses.replace(heart, image=heart.image[2:3], spacing=(np.nan, *heart.spacing[1:]))
    said = answer(one, Reader(heart.labels[2:3]).segment_case(one), EMIDEC)
    assert said.quantities == {}
    assert in_words(said) == (
        "expected Dice of the myocardium 0.90; look at it: few-slices: the stack has 1 slice, fewer than 4; "
        "no-thickness: a single slice of unknown thickness, which has no volumes"
    )


def test_the_command_segments_with_a_trained_cascade(trained, tmp_path):
    workdir, _ = trained
    (files,) = folders.find_cases(workdir / "data" / "held_out")
    for name in ("one", "two"):
        shutil.copy(files.image, tmp_path / f"{name}.nii.gz")
    (tmp_path / "bad.nii.gz").write_text("hello")

    def run(*arguments):
        arguments = [str(argument) for argument in arguments]
        started = [*command("segment"), *arguments, f"--workdir={workdir}"]
        return subprocess.run(started, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)

    result = run(tmp_path / "one.nii.gz", "-o", tmp_path / "labels.nii.gz")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("one: myocardium") and len(result.stdout.splitlines()) == 1
    expected = emidec.contour_path(workdir / "predictions" / "held_out", files.name)
    np.testing.assert_array_equal(read(tmp_path / "labels.nii.gz")[0], read(expected)[0])
    result = run(tmp_path)
    fails_with_one_line(result, tmp_path / "bad.nii.gz")
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["labels", "one", "two"]
