"""`jax.jit` with the compiler options that serve this library's programs on a CPU."""

import functools
from collections.abc import Callable

import jax

from cascade_jax import working_memory
from cascade_jax.kept_programs import kept

# Sends convolutions of XLA's CPU backend to the faster of its two libraries (1.5 times faster forward, up to 3 times in
# the kernel gradient), and the sums of instance norm to the other.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}

# For what runs once. The random draws of a network's parameters take a quarter of a minute to optimise.
_UNOPTIMIZED = {"xla_backend_optimization_level": 0}

_LONG_COMPILATION_SECONDS = 1.0


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


@functools.cache
def _return_memory_after_compiling() -> None:
    """Gives back to the system what the compiler used, before the program itself takes memory.

    Compiling a network's training step leaves up to half a gigabyte in the allocator's hands.
    """

    def after(event: str, duration: float, **_) -> None:
        if event.endswith("backend_compile_duration") and duration > _LONG_COMPILATION_SECONDS:
            working_memory.release()

    if jax.default_backend() == "cpu":
        jax.monitoring.register_event_duration_secs_listener(after)


def jit(function: Callable, made_from: str | None = None, **arguments) -> Callable:
    """`jax.jit(function, **arguments)` with `compiler_options`. Call it inside a function: it starts the backend.

    Args:
        function: as for `jax.jit`.
        made_from: what tells the function from others of this library's source (see `kept_programs.kept`), if a later
            start is to find the compiled program without tracing it.
        **arguments: as for `jax.jit`.
    """
    _return_memory_after_compiling()
    jitted = jax.jit(function, compiler_options=compiler_options(), **arguments)
    return jitted if made_from is None else kept(jitted, made_from)


def run_once(function: Callable, *arguments, made_from: str | None = None):
    """`function(*arguments)`, compiled as one program in little time; on a CPU that makes the program itself slow.

    `made_from` is as for `jit`.
    """
    jitted = jax.jit(function, compiler_options=_understood(tuple(_UNOPTIMIZED.items())))
    return (jitted if made_from is None else kept(jitted, made_from))(*arguments)
