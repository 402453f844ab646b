"""The plain U-Net in eager PyTorch; see `worker.py` for what a contestant is."""

import os
from collections.abc import Callable

import numpy as np

from launch.benchmarks import workspace as shared

LABELS = {"background": 0, "cavity": 1, "myocardium": 2, "infarction": 3, "no_reflow": 4}


def chosen_device():
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return torch.device("cpu")


def wait(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def build_network(workspace: str, stage: int, channels: int):
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    plan = shared.plan(workspace)
    one = (plan.slices, plan.volumes)[stage]
    convolution, norm = (
        (torch.nn.Conv2d, torch.nn.InstanceNorm2d) if stage == 0 else (torch.nn.Conv3d, torch.nn.InstanceNorm3d)
    )
    blocks = len(one.features)
    return PlainConvUNet(
        channels,
        blocks,
        one.features,
        convolution,
        one.kernel_sizes,
        one.strides,
        2,
        len(LABELS),
        2,
        True,
        norm,
        {"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )


def batch_of(workspace: str, stage: int, channels: int):
    import torch

    plan = shared.plan(workspace)
    spatial = plan.shape if stage else plan.shape[1:]
    size = (plan.slices, plan.volumes)[stage].batch_size
    return torch.randn(size, channels, *spatial), torch.randint(0, len(LABELS), (size, 1, *spatial))


def at_resolutions(labels, shapes) -> list:
    """Labels at the size of each output, one voxel of each block."""
    result = []
    for shape in shapes:
        steps = (slice(None, None, full // size) for full, size in zip(labels.shape[2:], shape[2:], strict=True))
        result.append(labels[(slice(None), slice(None), *steps)].contiguous())
    return result


def eager_step(workspace: str, stage: int) -> Callable[[], None]:
    """One training step of the same network in eager PyTorch."""
    import torch

    device = chosen_device()
    channels = len(LABELS) if stage else 1
    network = build_network(workspace, stage, channels).to(device)
    inputs, labels = (array.to(device) for array in batch_of(workspace, stage, channels))
    with torch.no_grad():
        shapes = [output.shape for output in network(inputs)]
    targets = [target[:, 0] for target in at_resolutions(labels, shapes)]
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
    weights = np.array([0.5**level for level in range(len(shapes))])
    weights /= weights.sum()

    def loss_of(logits, target):
        probabilities = logits.softmax(1)
        truth = torch.nn.functional.one_hot(target, len(LABELS)).movedim(-1, 1).float()
        axes = (0, *range(2, logits.ndim))
        overlap, total = (probabilities * truth).sum(axes), probabilities.sum(axes) + truth.sum(axes)
        dice = (2 * overlap + 1e-5) / (total + 1e-5)
        return torch.nn.functional.cross_entropy(logits, target) + 1 - dice[1:].mean()

    def work():
        optimizer.zero_grad(set_to_none=True)
        pairs = zip(weights, network(inputs), targets, strict=True)
        loss = sum(weight * loss_of(logits, target) for weight, logits, target in pairs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        loss.item()
        wait(device)

    return work


def eager_forward(workspace: str, stage: int) -> Callable[[], None]:
    """The logits of one batch in eager PyTorch, in inference mode."""
    import torch

    device = chosen_device()
    channels = len(LABELS) if stage else 1
    network = build_network(workspace, stage, channels).to(device).eval()
    network.decoder.deep_supervision = False
    inputs = batch_of(workspace, stage, channels)[0].to(device)

    def work():
        with torch.inference_mode():
            network(inputs)
        wait(device)

    return work
