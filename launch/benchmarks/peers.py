"""The same work by nnU-Net's own code; see `worker.py` for what a contestant is.

nnU-Net reads its folders from environment variables (`environment`). On a GPU it runs as its users run it, compiled and
in mixed precision; on a CPU it does neither by itself.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from cascade_jax.data import emidec, folders
from launch.benchmarks import nnunet_loader
from launch.benchmarks import workspace as shared
from launch.benchmarks.pytorch import LABELS, at_resolutions, batch_of, chosen_device, wait

_DATASET = "Dataset001_Phantom"
_CONFIGURATIONS = ("2d", "3d_fullres")


def environment(workspace: Path) -> dict[str, str]:
    return {
        name: str(Path(workspace).absolute() / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    }


def describe() -> dict:
    """Versions and what is not as nnU-Net's users have it, as the benchmark prints them."""
    from importlib.metadata import version

    about = {name: version(name) for name in ("torch", "nnunetv2")}
    if lacking := nnunet_loader.shared_memory_lacking():
        about["nnU-Net's batches"] = lacking
    return about


def _raw(workspace: Path) -> Path:
    return Path(environment(workspace)["nnUNet_raw"]) / _DATASET


def _write_raw(workspace: Path) -> None:
    """The cohort as nnU-Net's raw dataset; its readers take the spacing from the affine, which the cohort's lacks."""
    raw = _raw(workspace)
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    for files in folders.find_cases(shared.cohort(workspace), labelled=True):
        case = emidec.read_case(files)
        affine = np.diag([*case.spacing[::-1], 1.0])
        for array, path in (
            (case.image.astype(np.float32), raw / "imagesTr" / f"{case.name}_0000.nii.gz"),
            (case.labels, raw / "labelsTr" / f"{case.name}.nii.gz"),
        ):
            nib.save(nib.Nifti1Image(emidec.to_file_axes(array), affine), path)
    (raw / "dataset.json").write_text(
        json.dumps(
            {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": shared.CASES, "file_ending": ".nii.gz"}
        )
    )


def _preprocessed(workspace: Path) -> Path:
    return Path(environment(workspace)["nnUNet_preprocessed"]) / _DATASET


def _plan_and_preprocess(workspace: Path) -> None:
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    processes = len(os.sched_getaffinity(0))
    api.extract_fingerprints([1], num_processes=processes, verbose=False, show_progress_bar=False)
    api.plan_experiments([1])
    _adopt_plan(workspace)
    api.preprocess_dataset(1, configurations=_CONFIGURATIONS, num_processes=[processes], show_progress_bar=False)


def _adopt_plan(workspace: Path) -> None:
    """Gives nnU-Net's plan the sizes of the benchmark's."""
    path = _preprocessed(workspace) / "nnUNetPlans.json"
    plans, plan = json.loads(path.read_text()), shared.plan(workspace)
    if "3d_fullres" not in plans["configurations"]:
        raise RuntimeError("nnU-Net plans no 3D network for this cohort")
    for configuration, one, shape, spacing in (
        ("2d", plan.slices, plan.shape[1:], plan.spacing[1:]),
        ("3d_fullres", plan.volumes, plan.shape, plan.spacing),
    ):
        settings = plans["configurations"][configuration]
        settings |= {"batch_size": one.batch_size, "patch_size": shape, "spacing": spacing}
        settings["architecture"]["arch_kwargs"] |= {
            "n_stages": len(one.features),
            "features_per_stage": one.features,
            "kernel_sizes": one.kernel_sizes,
            "strides": one.strides,
            "n_conv_per_stage": [2] * len(one.features),
            "n_conv_per_stage_decoder": [2] * (len(one.features) - 1),
        }
    path.write_text(json.dumps(plans))


def make_dataset(workspace: str) -> Callable[[], None]:
    """Not a contestant: nnU-Net's raw and preprocessed dataset, which the others need."""
    if not (_preprocessed(workspace) / "gt_segmentations").exists():
        _write_raw(workspace)
        _plan_and_preprocess(workspace)
    return lambda: None


def _plans(workspace: str) -> tuple[dict, dict]:
    folder = _preprocessed(workspace)
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    return plans, json.loads((folder / "dataset.json").read_text())


def _trainer(workspace: str, stage: int):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans, dataset = _plans(workspace)
    return nnUNetTrainer(plans, _CONFIGURATIONS[stage], 0, dataset, chosen_device())


def nnunet_step(workspace: str, stage: int) -> Callable[[], None]:
    """One training step of nnU-Net's trainer, on a batch that lies on the device."""
    import torch

    trainer = _trainer(workspace, stage)
    trainer.initialize()
    trainer.network.train()
    inputs, labels = (array.to(trainer.device) for array in batch_of(workspace, stage, 1))
    with torch.no_grad():
        shapes = [output.shape for output in trainer.network(inputs)]
    batch = {"data": inputs, "target": at_resolutions(labels, shapes)}

    def work():
        trainer.train_step(batch)
        wait(trainer.device)

    return work


def nnunet_loop(workspace: str, stage: int) -> Callable[[], int]:
    """nnU-Net's training loop with its data loader and augmentation. Units: steps."""
    nnunet_loader.blur_directly()
    if nnunet_loader.shared_memory_lacking():
        nnunet_loader.send_through_pipes()
    trainer = _trainer(workspace, stage)
    steps = shared.loop_steps(trainer.device.type)
    trainer.on_train_start()
    trainer.on_train_epoch_start()

    def work():
        for _ in range(steps):
            trainer.train_step(next(trainer.dataloader_train))
        wait(trainer.device)
        return steps

    return work


def nnunet_augment(workspace: str, stage: int, samples: int = 16) -> Callable[[], int]:
    """nnU-Net's loading and augmentation of samples in one process. Units: samples."""
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 nnU-Net's spelling
    nnunet_loader.blur_directly()
    trainer = _trainer(workspace, stage)
    trainer.initialize()
    loader, _ = trainer.get_dataloaders()
    batches = -(-samples // trainer.batch_size)

    def work():
        for _ in range(batches):
            next(loader)
        return batches * trainer.batch_size

    return work


def nnunet_prepare(workspace: str) -> Callable[[], int]:
    """nnU-Net's fingerprint, plan and preprocessing of the cohort, 2D and 3D. Units: cases."""
    if not _raw(workspace).exists():
        _write_raw(workspace)

    def work():
        shutil.rmtree(_preprocessed(workspace), ignore_errors=True)
        _plan_and_preprocess(workspace)
        return shared.CASES

    return work


def _trained(workspace: str) -> list[Path]:
    """Model folders as nnU-Net's training leaves them, with random parameters."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans, dataset = _plans(workspace)
    folders = []
    for configuration, mirrored in zip(_CONFIGURATIONS, ((0, 1), (1, 2)), strict=True):
        folder = Path(environment(workspace)["nnUNet_results"]) / configuration
        folders.append(folder)
        if (folder / "dataset.json").exists():
            continue
        manager = PlansManager(plans)
        for fold in range(shared.FOLDS):
            torch.manual_seed(fold)
            network = nnUNetTrainer.build_network_architecture(
                manager, manager.get_configuration(configuration), 1, len(LABELS), False
            )
            (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
            checkpoint = {
                "network_weights": network.state_dict(),
                "trainer_name": "nnUNetTrainer",
                "init_args": {"configuration": configuration},
                "inference_allowed_mirroring_axes": mirrored,  # as this library mirrors: in the plane
            }
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
    return folders


def nnunet_predict(workspace: str, mirror: bool) -> Callable[[], None]:
    """One case from file to file, a 2D and a 3D ensemble of five folds averaged, the models loaded."""
    from nnunetv2.ensembling.ensemble import ensemble_folders
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictors = []
    for folder in _trained(workspace):
        predictor = nnUNetPredictor(use_mirroring=mirror, device=chosen_device(), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), tuple(range(shared.FOLDS)))
        predictors.append(predictor)
    image = sorted((_raw(workspace) / "imagesTr").iterdir())[0]

    def work():
        with tempfile.TemporaryDirectory(dir=workspace) as output:
            folders = [str(Path(output) / configuration) for configuration in _CONFIGURATIONS]
            for predictor, folder in zip(predictors, folders, strict=True):
                Path(folder).mkdir()
                predictor.predict_from_files_sequential([[str(image)]], folder, save_probabilities=True)
            ensemble_folders(folders, str(Path(output) / "both"), num_processes=1)

    return work


def nnunet_predict_cold(workspace: str, mirror: bool) -> Callable[[], None]:
    """The same from the command line: starting Python, loading the models."""
    program = f"from launch.benchmarks import peers; peers.nnunet_predict({str(workspace)!r}, {mirror!r})()"
    guarded = f"if __name__ == '__main__':\n    {program}"
    script = Path(workspace) / f"predict_cold_{mirror}.py"
    script.write_text(guarded)
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    _trained(workspace)
    return lambda: (
        subprocess.run([sys.executable, str(script)], check=True, env=os.environ | {"PYTHONPATH": path}) and None
    )
