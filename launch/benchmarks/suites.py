"""Which contestants each suite lets run against each other, and what this library aims at."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Contest:
    """Contestants that take turns.

    Attributes:
        name: of the work.
        ours: "module.function" of this library's contestant.
        rivals: what it is measured against: {name: ("module.function", further arguments)}.
        arguments: of every contestant's function.
        targets: {rival: the ratio of our time to its time that we aim at on a CPU}.
        gpu_targets: the same on a GPU.
        memory_target: the ratio of our peak memory to that of each rival in it, on a CPU.
        seconds_target: our own time that we aim at on a CPU.
        memory: whether the contestants' own processes do the work, so that their memory says something.
        is_step: whether a unit of the work is a training step, whose operations can be counted.
    """

    name: str
    ours: str
    rivals: dict[str, tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=dict)
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    targets: dict[str, float] = dataclasses.field(default_factory=dict)
    gpu_targets: dict[str, float] = dataclasses.field(default_factory=dict)
    memory_target: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds_target: float | None = None
    memory: bool = True
    is_step: bool = False


_STAGES = {0: "stage one", 1: "stage two"}
_MIRRORING = {False: "no mirroring", True: "mirroring"}

SUITES: dict[str, list[Contest]] = {
    "train": [
        Contest(
            f"training step, {name}",
            "ours.train_step",
            {"PyTorch": ("pytorch.eager_step", {}), "nnU-Net": ("peers.nnunet_step", {})},
            {"stage": stage},
            {"PyTorch": 1.0, "nnU-Net": 0.9},
            memory_target={"PyTorch": 1.1, "nnU-Net": 1.1},
            is_step=True,
        )
        for stage, name in _STAGES.items()
    ]
    + [
        Contest(
            f"forward pass, {name}",
            "ours.forward",
            {"PyTorch": ("pytorch.eager_forward", {})},
            {"stage": stage},
            {"PyTorch": 0.85},
        )
        for stage, name in _STAGES.items()
    ],
    "loop": [
        Contest(
            f"step of the training loop, {name}",
            "ours.loop",
            {"our bare step": ("ours.train_step", {}), "nnU-Net": ("peers.nnunet_loop", {})},
            {"stage": stage},
            {"our bare step": 1.05},
            {"nnU-Net": 0.667},  # 1.5 times its samples a second
            is_step=True,
        )
        for stage, name in _STAGES.items()
    ]
    + [
        Contest(
            f"second start of a training run, {name}",
            "ours.second_start",
            arguments={"stage": stage},
            seconds_target=10.0,
            memory=False,
        )
        for stage, name in list(_STAGES.items())[:1]
    ],
    "precision": [
        Contest(
            f"step of the training loop in bfloat16, {name}",
            "ours.loop",
            {"our loop in float32": ("ours.loop", {"dtype": "float32"})},
            {"stage": stage, "dtype": "bfloat16"},
            is_step=True,
        )
        for stage, name in _STAGES.items()
    ],
    "augment": [
        Contest(
            f"augmentation of one sample, {name}",
            "ours.augment_samples",
            {"nnU-Net": ("peers.nnunet_augment", {})},
            {"stage": stage},
        )
        for stage, name in _STAGES.items()
    ],
    "folds": [
        Contest(
            "five folds mapped, both stages",
            "ours.five_folds",
            {"five single calls": ("ours.five_calls", {}), "one fold": ("ours.one_fold", {})},
            targets={"five single calls": 1.0},
        )
    ],
    "predict": [
        Contest(
            f"predict, loaded, {name}",
            "ours.predict",
            {"nnU-Net": ("peers.nnunet_predict", {})},
            {"mirror": mirror},
            {"nnU-Net": 0.5},
        )
        for mirror, name in _MIRRORING.items()
    ]
    + [
        Contest(
            f"predict, {name}, no mirroring",
            f"ours.{function}",
            {"nnU-Net": ("peers.nnunet_predict_cold", {})},
            {"mirror": False},
            memory=False,
        )
        for name, function in (("first start", "predict_cold"), ("later start", "predict_again"))
    ],
    "prepare": [
        Contest(
            "preparation of one case", "ours.prepare_cohort", {"nnU-Net": ("peers.nnunet_prepare", {})}, memory=False
        ),
    ],
    "choices": [
        Contest(
            "training step, stage one",
            "ours.train_step",
            {
                "our step, XLA's flags as by default": ("alternatives.without_faster_convolutions", {"work": "step"}),
                "our step, memory taken anew": ("alternatives.step_with_memory_taken_anew", {}),
            },
            {"stage": 0},
        ),
        Contest(
            "training step, stage two",
            "ours.train_step",
            {
                "our step, memory taken anew": ("alternatives.step_with_memory_taken_anew", {}),
                "our step, the compiler's 3D convolutions": ("alternatives.step_with_compilers_volumes", {}),
            },
            {"stage": 1},
        ),
        Contest(
            "predict, loaded, no mirroring",
            "ours.predict",
            {
                "our predict, XLA's flags as by default": (
                    "alternatives.without_faster_convolutions",
                    {"work": "predict"},
                ),
                "our predict, memory held": ("alternatives.predict_with_memory_held", {}),
            },
            {"mirror": False},
        ),
        Contest(
            "kernel gradient, called",
            "alternatives.kernel_gradients",
            {"our kernel gradient in a compiled loop": ("alternatives.kernel_gradients", {"loop": True})},
            {"loop": False},
            memory=False,
        ),
        Contest(
            "five folds one after another",
            "ours.five_folds",
            {"our folds mapped in one program": ("alternatives.five_folds_at_once", {})},
        ),
    ],
}
