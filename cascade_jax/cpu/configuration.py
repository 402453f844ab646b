"""One process set up for this library's programs on a CPU."""

import ctypes
import os
import sys

import jax
import jaxlib

from cascade_jax.cpu import winograd
from cascade_jax.models.convolution import Convolve, convolve

# Sends convolutions to the faster of the two libraries of XLA's CPU backend, and sums of instance norm to the other.
# It is experimental: with two programs at once, some convolutions were computed wrongly (docs/performance.md).
FASTER_CONVOLUTIONS = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
_KNOWN_TO = ((0, 10), (0, 13))  # from which jaxlib on, and before which; an unknown flag ends the process

# Names as in malloc.h; see mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def configure() -> Convolve:
    """Sets this process up for a CPU, and does nothing where JAX has another platform.

    For commands, at their start: it changes the whole process, and XLA reads its flags once, when JAX is first asked
    for devices or given anything to compute. Afterwards programs run one at a time, while they are called, with the
    faster of XLA's convolutions, and with the GNU C library their working memory is kept from call to call.

    Returns:
        The convolution for inference, and for training on slices, on this machine.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    version = tuple(int(part) for part in jaxlib.__version__.split(".")[:2])
    if "xla_cpu_experimental_ynn" not in flags and _KNOWN_TO[0] <= version < _KNOWN_TO[1]:
        os.environ["XLA_FLAGS"] = f"{flags} {FASTER_CONVOLUTIONS}".strip()
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.default_backend() != "cpu":
        return convolve
    _hold_freed_memory()
    return winograd.convolve


def _hold_freed_memory() -> None:
    """Has the GNU C library hold on to what is freed.

    XLA takes a program's working memory, 0.7 to 3 GB in training, anew at every call. Handed back to the system in
    between, its pages would have to be found and cleared again, one by one.
    """
    if sys.platform.startswith("linux") and hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, -1)
