"""What an installation without the extras does, and what it says of the rest."""

import configparser
import os
import re
import subprocess
import sys

import pytest

from cascade_jax import extras
from cascade_jax.data import folders
from tests.commands.command_line import ROOT, TINY

# As sitecustomize.py it is run before anything else of the process, and of those that it starts.
BLOCKS = "import sys; sys.modules.update(dict.fromkeys({names!r}))"
NO_PICTURES = "left out: pictures, which need pip install 'cascade_jax[report]'"
NOT_OF_TRAINING = [
    "left out: event files for TensorBoard, which need pip install 'cascade_jax[logs]'",
    "left out: figures and reports, which need pip install 'cascade_jax[report]'",
]
ONE_STEP = {
    f"stage{stage}.{name}": 1
    for stage in (1, 2)
    for name in ("steps", "steps_per_dispatch", "validate_every", "checkpoint_every")
}
SMALLER = TINY | {"plan.slices.batch_size": 2, "plan.volumes.batch_size": 1} | ONE_STEP
TRAINING = ["train", "--config=launch/configs/default.py"] + [
    f"--config.{name}={value}" for name, value in SMALLER.items()
]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Starts Python as an installation without any extra would."""
    folder = tmp_path_factory.mktemp("bare")
    names = [name for names in extras._PACKAGES.values() for name in names]
    (folder / "sitecustomize.py").write_text(BLOCKS.format(names=names))
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return lambda *arguments: python(*arguments, PYTHONPATH=path)


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=os.environ | environment,
    )


def command(verb, *flags):
    return "-m", f"launch.{verb}", *flags


@pytest.fixture(scope="module")
def trained(bare, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained") / "run"
    return workdir, bare(*command(*TRAINING, f"--workdir={workdir}"))


@pytest.fixture
def held_out(trained):
    workdir, _ = trained
    (files,) = folders.find_cases(workdir / "data" / "held_out")
    return files


def test_training_says_at_its_start_what_it_leaves_out_and_does_the_rest(trained):
    workdir, result = trained
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[:2] == NOT_OF_TRAINING and result.stderr.count("left out") == 2
    for number in (1, 2, 3):
        assert f"Table {number}" in result.stdout
    assert "Figures" not in result.stdout
    assert len(list(workdir.glob("stage*/fold*/metrics.csv"))) == 4
    assert not [*workdir.rglob("events.out.*"), *workdir.rglob("*.png"), *workdir.glob("*.html")]


def test_a_finished_training_draws_what_it_left_out_once_it_can(trained, bare):
    workdir, _ = trained
    again = (*command(*TRAINING), f"--workdir={workdir}")
    assert "nothing was left to do" in bare(*again).stdout
    result = python(*again)
    assert result.returncode == 0 and "left out" not in result.stderr
    assert f"Figures are in {workdir / 'figures'}" in result.stdout
    assert len(list(workdir.glob("figures/*/*.png"))) == 2 and len(list(workdir.glob("*.html"))) == 2
    assert "nothing was left to do" in python(*again).stdout


def test_prediction_leaves_out_the_picture_and_says_so(trained, held_out, bare, tmp_path):
    flags = (f"--workdir={trained[0]}", f"--input={held_out.image}", f"--output={tmp_path}")
    result = bare(*command("predict", *flags))
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines().count(NO_PICTURES) == 1 and result.stderr.count("left out") == 1
    made = {path.parent.name for path in (tmp_path / held_out.name).rglob("*.nii.gz")}
    assert made == {"Contours", "Doubt", "Disagreement"} and not list(tmp_path.rglob("*.png"))
    assert "left out" not in bare(*command("predict", *flags, "--nofigures")).stderr


def test_labels_are_measured_and_compared(trained, bare, tmp_path):
    cohort = trained[0] / "data" / "held_out"
    for verb, *flags in (
        ("evaluate", f"--prediction={cohort}", f"--truth={cohort}"),
        ("quantify", f"--labels={cohort}", f"--images={cohort}", f"--output={tmp_path}"),
    ):
        result = bare(*command(verb, *flags))
        assert result.returncode == 0 and "left out" not in result.stderr, result.stderr
    assert (tmp_path / "cases.csv").exists()


def test_the_library_segments_an_array(trained, held_out, bare):
    program = (
        "import cascade_jax, nibabel; "
        f"scan = nibabel.load({str(held_out.image)!r}); cascade = cascade_jax.load({str(trained[0])!r}); "
        "print(cascade.segment(scan.get_fdata(), scan.header.get_zooms()).shape == scan.shape)"
    )
    result = bare("-c", program)
    assert result.stdout == "True\n", result.stderr


def test_a_report_is_refused_before_any_work(trained, bare, tmp_path):
    output = tmp_path / "new" / "report.html"
    for flags in ((f"--prediction={tmp_path / 'none'}", f"--output={output}"), (f"--workdir={trained[0]}",)):
        result = bare(*command("report", *flags))
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "error: a report needs pip install 'cascade_jax[report]'\n"
    assert not output.parent.exists()
    assert "--insertions" in bare(*command("report", "--help")).stdout


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("one.nrrd", "failed: {}: needs pip install 'cascade_jax[formats]' to be read (.nrrd)"),
        ("one.dcm", "error: {}: DICOM needs pip install 'cascade_jax[dicom]'"),
    ],
)
def test_other_formats_are_faults_of_their_files(trained, bare, tmp_path, name, line):
    path = tmp_path / "in" / name
    path.parent.mkdir()
    path.write_bytes(bytes(128) + b"DICM" if name.endswith("dcm") else b"NRRD0004\n")
    source = path if name.endswith("nrrd") else path.parent
    flags = (f"--workdir={trained[0]}", f"--input={source}", f"--output={tmp_path / 'out'}", "--nofigures")
    result = bare(*command("predict", *flags))
    assert result.returncode == 1
    assert [one for one in result.stderr.splitlines() if re.match("failed|error", one)] == [line.format(source)]


def test_what_is_looked_for_is_what_the_extras_install():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = setup["options.extras_require"]
    for extra, packages in extras._PACKAGES.items():
        names = re.findall(r"^[A-Za-z]\w+", installed[extra].strip(), re.MULTILINE)
        assert sorted(names) == sorted("pillow" if package == "PIL" else package for package in packages)
    assert installed["all"] == f"cascade_jax[{','.join(sorted(extras._PACKAGES))}]"


def test_one_package_that_is_not_there_is_enough(monkeypatch):
    assert extras.missing("report") is None
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert extras.missing("report") == "pip install 'cascade_jax[report]'"
    assert extras.missing("logs") is None
