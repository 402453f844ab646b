"""`jax.jit` with the compiler options that serve this library's programs on a CPU."""

import functools
from collections.abc import Callable

import jax

# Sends convolutions of XLA's CPU backend to the faster of its two libraries (1.5 times faster forward, up to 3 times in
# the kernel gradient), and the sums of instance norm to the other.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}

# For what runs once. The random draws of a network's parameters take a quarter of a minute to optimise.
_UNOPTIMIZED = {"xla_backend_optimization_level": 0}


def compiler_options() -> dict[str, str]:
    """The options that this installation's compiler understands; none on other platforms than the CPU."""
    return _understood(tuple(_CPU_OPTIONS.items()))


@functools.cache
def _understood(options: tuple[tuple[str, str | int], ...]) -> dict[str, str | int]:
    """The options on a CPU whose compiler knows them, else none.

    A compiler without an option raises when it is set, so it is tried once on an empty program. (In XLA_FLAGS an
    unknown option would abort the process.)
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except Exception:  # which class depends on the version of jaxlib
        return {}
    return dict(options)


def jit(function: Callable, **arguments) -> Callable:
    """`jax.jit(function, **arguments)` with `compiler_options`. Call it inside a function: it starts the backend."""
    return jax.jit(function, compiler_options=compiler_options(), **arguments)


def run_once(function: Callable, *arguments):
    """`function(*arguments)`, compiled as one program in little time; on a CPU that makes the program itself slow."""
    return jax.jit(function, compiler_options=_understood(tuple(_UNOPTIMIZED.items())))(*arguments)
