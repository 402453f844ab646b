"""The working memory of a CPU's programs, kept from one call to the next.

XLA takes a program's working memory anew at every call: 0.7 GB for a training step of stage one, 3.3 GB for one of
stage two. The C library hands blocks of that size back to the system at once, which then has to find and clear their
pages again, one by one, at every call. On Linux with the GNU C library `keep` has it hold on to them instead.

Two things are needed beside a word to the allocator. It holds large blocks only for the thread that the process began
with, so programs have to be computed for the thread that calls them, and not handed to another one. And to align a
block it cuts a little off, which it lays aside for small requests: without it the block is too small for the next call,
which takes another one and has two. So `reusing` has the cuttings joined to the block again before each call.
"""

import ctypes
import functools
import sys
from collections.abc import Callable

import jax

# Names and meaning as in malloc.h; see mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MADV_HUGEPAGE, _HUGE_PAGE_BYTES = 14, 2 << 20  # see madvise(2); the size is that of most processors
_ALIGNMENT = 64  # of XLA's blocks
_LARGE_BYTES = 64 << 20
# Freed blocks of these sizes, to which the allocator adds 8 bytes, it does not join to what lies around them but lays
# aside for later requests: of each size 7, if nobody has it set otherwise.
_LAID_ASIDE_BYTES = range(24, 121, 16)
_MOST_LAID_ASIDE = 16
_LONG_COMPILATION_SECONDS = 1.0

_keeps = False


def keep() -> None:
    """Keeps the working memory of this process' programs on a CPU.

    To be called before JAX is asked for its devices or given anything to compute: how a CPU calls programs is fixed
    then. Programs are afterwards computed while they are called, not beside the caller. Does nothing on other platforms
    and with other C libraries.
    """
    global _keeps
    library = _gnu_library()
    if library is None:
        return
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.default_backend() != "cpu":
        return
    _keeps = bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, -1))


def give_back() -> None:
    """Gives all memory that is free at the moment back to the system, if the C library can."""
    if library := _gnu_library():
        library.malloc_trim(0)


@functools.cache
def release_after_compiling() -> None:
    """Has `release` called after every long compilation on a CPU, before the program itself takes memory.

    Compiling a network's training step leaves up to half a gigabyte in the allocator's hands. This listens to all that
    the process compiles, so it is for programs of one's own, not for libraries.
    """

    def after(event: str, duration: float, **_) -> None:
        compiled_for_long = event.endswith("backend_compile_duration") and duration > _LONG_COMPILATION_SECONDS
        if compiled_for_long and jax.default_backend() == "cpu":
            give_back()

    jax.monitoring.register_event_duration_secs_listener(after)


def reusing_compiled(jitted: Callable) -> Callable:
    """A jitted function of arrays, whose programs are `reusing` once `keep` was called; else the function itself."""
    if not _keeps:
        return jitted
    programs: list[Callable] = []

    def call(*arguments):
        # Each program looks by itself at what it is called with, before it does anything.
        for program in programs:
            try:
                return program(*arguments)
            except (TypeError, ValueError):  # compiled for arguments of another kind, or on other devices
                continue
        programs.insert(0, reusing(jitted.lower(*arguments).compile()))
        return programs[0](*arguments)

    return call


def reusing(program: jax.stages.Compiled) -> Callable:
    """The same program, which with `keep` holds one block of working memory.

    Before each call the C library is asked where it would put the block. If that is not where the last one lay, what is
    free is given back first, and the system asked for huge pages there.
    """
    if not _keeps:
        return program
    library, memory = _gnu_library(), program.memory_analysis()
    if not library or not memory or memory.temp_size_in_bytes < _LARGE_BYTES:
        return program
    size, last = memory.temp_size_in_bytes, None

    def call(*arguments):
        nonlocal last
        _join_cuttings(library)
        block = library.aligned_alloc(_ALIGNMENT, size) or 0
        library.free(block)
        if last is None or abs(block - last) > size // 4:
            library.malloc_trim(0)
            block = library.aligned_alloc(_ALIGNMENT, size) or 0
            _ask_for_huge_pages(library, block, size)
            library.free(block)
        last = block
        return program(*arguments)

    return call


def _ask_for_huge_pages(library: ctypes.CDLL, block: int, size: int) -> None:
    """In huge pages the processor finds addresses faster. Whether there are any is the system's affair."""
    first, end = -(-block // _HUGE_PAGE_BYTES), (block + size) // _HUGE_PAGE_BYTES
    library.madvise(first * _HUGE_PAGE_BYTES, (end - first) * _HUGE_PAGE_BYTES, _MADV_HUGEPAGE)


def _join_cuttings(library: ctypes.CDLL) -> None:
    """Has the C library join what it laid aside to what lies around it, and lay others aside.

    What it has laid aside is the first to be taken; what is freed while as many are laid aside is joined.
    """
    for size in _LAID_ASIDE_BYTES:
        for block in reversed([library.malloc(size) for _ in range(2 * _MOST_LAID_ASIDE)]):
            library.free(block)


def _gnu_library() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    library.aligned_alloc.restype = ctypes.c_void_p
    library.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    return library
