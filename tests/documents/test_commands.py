"""The commands of the documents run, in the order of their page, in a folder with what the page takes for granted.

The command stands as it is typed; what is in the tables here is put behind it, to make it small. A command that several
pages show runs once.
"""

import json
import os
import re
import shlex
import shutil
import urllib.request
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.commands.command_line import TINY
from tests.commands.running import run, words_of
from tests.documents.commands import COMMANDS, PAGES, ROOT

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pytest.importorskip("matplotlib")

from tests.documents.assumed import prepare

# Lines that are not run, by how they begin.
NOT_RUN = {
    "python3 -m venv ": "an environment of its own is what .ci/run makes",
    "pip install": "would change the environment that the tests run in",
    ".venv/bin/pip install ": "the same; .ci/run installs the wheel",
    ".venv/bin/python -m pytest ": "is what runs this",
    "python -m sphinx ": "tests/documents/test_site.py runs it",
    "git ": "wants the project's history and the network",
    "cd ": "changes the folder of a shell",
    "podman ": "wants a container engine, and the network to build",
    "ssh ": "wants another computer",
    "tensorboard ": "is another project's program",
    "python -c ": "shows a fault of PyTorch",
    "for cases in ": "the loop; its command runs once",
    "done; ": "the loop's end",
    "scan: ": "what `segment` prints",
    "case -> ": "a drawing",
    "|": "a drawing",
    "tables, report <- ": "a drawing",
    "benchmarks.recipe ": "is a script of an earlier commit, as the page says",
    "sbatch ": "wants a cluster",
    "kubectl ": "wants a cluster",
    "train --config=emidec --workdir=/shared/run": "wants two hosts; tests/commands/test_hosts.py has two processes",
    "for gpu in ": "the loop, over GPUs",
    "CUDA_VISIBLE_DEVICES=": "wants four GPUs; tests/commands/test_shared_folds.py shares folds",
    "plan: ": "what `plan` prints",
    "devices: ": "what `plan` prints",
    "on each device": "what `plan` prints",
    "stage 1": "what `plan` prints",
    "benchmark --suites=scaling": "tests/launch/test_scaling.py runs its trial",
    "benchmarks.compare_machines": "wants the files of several machines; tests/launch/test_scaling.py has two",
    "train --config=launch/configs/pretrain.py": "rounds of a training with other numbers; the model card's runs",
    "benchmarks.folds_in_one_program": "compiles three folds in one program: minutes",
    "benchmarks.sharded_volumes": "compiles nnU-Net's network for one to eight devices: minutes",
    "benchmarks.two_programs": "networks of nnU-Net's size, in search of a compiler's fault: minutes",
}

ONE_STEP = {
    f"config.stage{stage}.{name}": 2
    for stage in (1, 2)
    for name in ("steps", "steps_per_dispatch", "validate_every", "checkpoint_every")
} | {f"config.stage{stage}.learning_rate": 0.001 for stage in (1, 2)}  # of a single value, so that all compile alike
NETWORKS = {name: value for name, value in TINY.items() if name.startswith("plan.")}
CROSS_VALIDATION = ONE_STEP | {f"config.{name}": TINY[name] for name in ("num_folds", "folds", "mirror")}
FROM_SCRATCH = CROSS_VALIDATION | {f"config.{name}": value for name, value in NETWORKS.items()}
FROM_WEIGHTS = CROSS_VALIDATION | {"config.plan.shape": "8,24,24", "config.plan.window": "16,16"}
PHANTOMS = {
    "config.data.phantom.cases": 2,
    "config.data.phantom.held_out_cases": 1,
    "config.data.phantom.field_of_view_mm": 90.0,
}
PRETRAINING = (
    ONE_STEP
    | {f"config.{name}": value for name, value in NETWORKS.items() if "spacing" not in name}
    | {
        "config.plan.shape": "3,32,32",
        "config.plan.spacing": "10.0,6.0,6.0",
        "config.plan.volumes.kernel_sizes": "((1,3,3),(3,3,3))",
        "config.plan.volumes.strides": "((1,1,1),(1,2,2))",
        "config.validation_phantoms": 2,
        "config.postprocessing_phantoms": 2,
        "config.held_out_phantoms": 2,
    }
)
ONE_BENCHMARK = {"trial": True, "peers": False, "repeats": 1}
# What makes a verb small.
SMALL = {
    "phantom": {"cases": 2, "field_of_view_mm": 90},
    "septum": {"hearts": 64, "steps": 40},
    "benchmarks.other_images": {"cases": 1},
    "benchmarks.robustness": {"cases": 1},
    "benchmarks.phantom_distances": {"phantoms": 2},
    "benchmarks.load": {"cases": 20},
    "benchmarks.streaming": {"trial": True, "cases": 12, "turns": 1, "stages": 1},
}
# What is put behind one command, by how it begins.
FURTHER = {
    "predict --images": {"input": "scans", "output": "segmented"},  # a flag that the page speaks of
    "train --config=emidec --workdir=runs/emidec": {"workdir": "runs/paper"},  # instead of the page's command before it
    "train --config=emidec": {"workdir": "runs/paper", "config.data.root": "emidec-dataset-1.0.1"},  # likewise
    "benchmark --suites=predict,loop,train,folds,augment,prepare": {"only": "preparation"},
    "train --config=emidec --workdir=runs/many": {"config.data.processes": 2},
    "plan --config=emidec:laptop": {"compare": "false"}
    | {f"config.data.phantom.{name}": value for name, value in (("cases", 2), ("field_of_view_mm", 90))},
    "benchmark --suites=loop,precision": {"suites": "loop", "only": "step of the training loop, stage one"},
    "benchmark": {"suites": "prepare"},
}
VARIABLES = {"cases": "2", "start": ""}  # of the loop
WITH_SMALL_WEIGHTS = ("export", "benchmarks.load", "benchmarks.other_images", "benchmarks.robustness")
OUTPUTS = ("--output", "-o", "--to_cohort", "--to_raw", "--pdf")
# Pages that tell how their figures were made, with trainings and measurements: minutes, so they run by hand,
# `CASCADE_JAX_LONG=1 python -m pytest tests/documents/test_commands.py`.
BY_HAND = ("performance.md", "results.md", "model_card_emidec.md", "model_card_phantom.md")
LEFT_OUT = () if os.environ.get("CASCADE_JAX_LONG") else BY_HAND
RUN = [one for one in COMMANDS if one.program and one.page not in LEFT_OUT]
FIRST = list({(one.verb, one.arguments): one for one in reversed(RUN)}.values())


def line_of(command):
    return f"{command.verb} {command.arguments}".strip()


def reason_not_to_run(command):
    return next((reason for start, reason in NOT_RUN.items() if line_of(command).startswith(start)), None)


def test_every_line_of_the_documents_is_run_or_has_a_reason_not_to_be():
    for command in COMMANDS:
        assert command.program or reason_not_to_run(command), command
    for start in (*NOT_RUN, *FURTHER):
        assert any(line_of(command).startswith(start) for command in COMMANDS), f"no page has {start!r}"
    assert len(FIRST) > 40


def test_the_python_of_the_documents_is_run():
    pages = {page.name for page in PAGES if "```python" in page.read_text(encoding="utf-8")}
    # tests/test_examples.py runs that of the library's page, tests/commands/test_predict.py that of the others.
    assert pages == {"library.md", "README.md", "train.md"}


@pytest.fixture(scope="module")
def assumed(trained, tmp_path_factory):
    workdir, _ = trained
    os.environ["BROWSER"] = "true"  # a program that shows nothing
    yield prepare(tmp_path_factory.mktemp("assumed"), workdir)
    del os.environ["BROWSER"]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder in which a page's commands run; the README's are answers to questions of their own."""
    folders = {}

    def folder(command):
        key = command if command.page == "README.md" else command.page
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp(command.page.removesuffix(".md"))
            (folders[key] / "launch").symlink_to(ROOT / "launch")
        return folders[key]

    return folder


def provide(verb, words, folder, assumed):
    """Puts what a command reads into the folder, unless a command before it has made it."""
    for word in words:
        flag, _, value = word.rpartition("=")
        if flag in OUTPUTS or (flag == "--workdir" and verb == "train"):
            continue
        for part in value.split(","):
            for name, source in assumed.items():
                if (part == name or part.startswith(f"{name}/")) and not (folder / name).exists():
                    (folder / name).parent.mkdir(exist_ok=True)
                    (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)


def training_made_small(words, trained):
    """Two steps of small networks, from weights of this size where the command or its config starts from some."""
    given = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
    config = given["config"].removeprefix("launch/configs/").replace(".py", "")
    start = given.get("config.init_from", {"emidec:laptop": "phantom", "corrections": "emidec"}.get(config, ""))
    if config.startswith("pretrain"):
        return PRETRAINING
    small = FROM_WEIGHTS | {"config.init_from": trained} if start else FROM_SCRATCH
    small = small | ({"config.phantom_share": 0.0} if config == "corrections" else {})
    small = small | ({} if config == "phantom" else {"config.figures": 0})
    return small | (PHANTOMS if config == "phantom" else {})


def made_small(command, words, trained):
    """The words, with what makes the command small behind them; of numbers in a row, which add up, in their place."""
    if "--help" in words:
        return words
    flags = dict(SMALL.get(command.verb, {}))
    if command.verb in ("train", "plan"):
        flags |= training_made_small(words, trained)
    if command.verb == "benchmark":
        flags |= ONE_BENCHMARK
    if command.verb in WITH_SMALL_WEIGHTS or (command.verb == "predict" and "--weights=phantom" in words):
        flags["weights"] = trained
    line = f"{line_of(command)} "
    flags |= next((further for start, further in FURTHER.items() if line.startswith(f"{start} ")), {})
    rows = tuple(f"--{name}=" for name, value in flags.items() if "," in str(value))
    return [word for word in words if not word.startswith(rows)] + [
        f"--{name}={value}" for name, value in flags.items()
    ]


def reader_looks_and_leaves(said):
    """Whether the page has been there to look at."""
    address = re.search(r"http://\S+", said)
    return bool(address) and urllib.request.urlopen(address[0]).status == 200


def stand_for(command, folder, assumed):
    """Puts what a command of another page has made into the folder."""
    for word in shlex.split(command.arguments):
        flag, _, made = word.rpartition("=")
        if flag in OUTPUTS and made in assumed:
            shutil.rmtree(folder / made, ignore_errors=True)
            provide(command.verb, [made], folder, assumed)


@pytest.mark.parametrize("command", [one for one in RUN if not reason_not_to_run(one)], ids=str)
def test_a_command_of_the_documents_runs(command, assumed, trained, folder_of, monkeypatch):
    folder = folder_of(command)
    if command not in FIRST:
        stand_for(command, folder, assumed)
        return
    provide(command.verb, shlex.split(command.arguments), folder, assumed)  # a shell's patterns ask for files
    words = words_of(command.arguments, folder, **VARIABLES)
    words = made_small(command, words, trained[0])
    provide(command.verb, words, folder, assumed)
    if command.program == "cascade-jax":
        module, words = "launch.console", [command.verb, *words]
    else:
        module = f"launch.{command.verb}"
    result = run(module, words, folder, reader_looks_and_leaves if command.verb == "review" else None)
    assert result.returncode == 0, f"{module} {shlex.join(words)}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    if (command.page, command.verb) == ("library.md", "export"):
        exported_program_runs(folder, monkeypatch)


def exported_program_runs(folder, monkeypatch):
    """The page's program that reads the file."""
    text = (ROOT / "docs" / "library.md").read_text()
    [program] = re.findall(r"(?:^    .*\n)*^    .*jax\.export\.deserialize.*\n(?:^    .*\n)*", text, re.MULTILINE)
    monkeypatch.chdir(folder)
    shape = json.loads(Path("cascade.json").read_text())["inputs"][0]["shape"]
    names = {"json": json, "jax": jax, "image": np.zeros(shape, np.float32), "valid": np.ones(shape, bool)}
    exec(re.sub("^    ", "", program, flags=re.MULTILINE), names)
    assert names["labels"].shape == tuple(shape)
