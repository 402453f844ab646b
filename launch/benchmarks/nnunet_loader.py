"""What keeps the processes of nnU-Net's data loader alive for as long as a contest lasts."""

import shutil
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 2**28  # twice what twelve processes held at most in stage two


def blur_directly() -> None:
    """Has nnU-Net's blur convolve directly, where it would first time direct convolutions against Fourier transforms.

    Where its number of threads has been set, PyTorch's inverse Fourier transform over three axes writes past its memory
    on Intel's processors (issue 125664 of pytorch/pytorch; `torch.set_num_threads(2)`, then a few times
    `torch.fft.irfftn(torch.randn(10, 512, 512))`). Processes of the loader have died of it within some hundred volumes.
    With the blur's kernels of 3 to 7 points direct convolutions are 2.7 to 12 times as fast, so that nnU-Net would
    choose them anyway.
    """
    from batchgeneratorsv2.transforms.noise import gaussian_blur

    gaussian_blur.GaussianBlurTransform._benchmark_wrapper = lambda _, *arguments: gaussian_blur.blur_dimension(
        *arguments, force_use_fft=False
    )


def shared_memory_lacking() -> str | None:
    """What is said of a machine whose shared memory is too small for the batches of nnU-Net's loader, if it is.

    A container has 64 MB unless it was given more. Batches of volumes do not fit there, and the loader waits for ever.
    """
    if not _SHARED_MEMORY.exists() or (free := shutil.disk_usage(_SHARED_MEMORY).free) >= _NEEDED_BYTES:
        return None
    return f"through pipes, since {_SHARED_MEMORY} has only {free / 1e6:.0f} MB"


def send_through_pipes() -> None:
    """Has processes started from now on send their tensors as bytes, not in shared memory.

    Slices come a tenth faster this way, and volumes up to a sixth more slowly (two processes on two cores of a Xeon).
    """
    import torch

    ForkingPickler.register(torch.Tensor, lambda tensor: (torch.from_numpy, (tensor.numpy(),)))
