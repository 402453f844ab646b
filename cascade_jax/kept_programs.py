"""Compiled programs that a later start finds again without tracing them.

JAX's own cache of compiled programs is asked with the lowered program. On a CPU, tracing and lowering a network takes
longer than all the rest of a start, so here a program is asked for by what it is made from: this library's source, the
versions of what it is built on, the settings and the processor, the shapes of the arguments, and what the caller says.
The files lie in JAX's cache folder, where there is one, and like what JAX keeps there they are code that is run.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import zlib
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable

from cascade_jax import working_memory
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import replacing

_MOST_BYTES_KEPT = 200_000_000
_BUILT_ON = ("jax", "jaxlib", "flax", "optax", "numpy")


@functools.cache
def processor() -> str:
    """A word that differs between processors whose machine code may."""
    about = Path("/proc/cpuinfo")
    text = about.read_text() if about.exists() else platform.processor()
    features = sorted({line for line in text.splitlines() if line.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256("\n".join(features or [text]).encode()).hexdigest()[:12]


@functools.cache
def _surroundings() -> str:
    """What does not change while a process runs, and may between two."""
    package = Path(__file__).parent
    source = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        source.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    versions = [metadata.version(name) for name in _BUILT_ON]
    devices = [(device.id, device.device_kind) for device in jax.local_devices()]
    flags = sorted((name, value) for name, value in os.environ.items() if name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS"))
    return repr((source.hexdigest(), versions, processor(), devices, flags))


def _circumstances(arguments: tuple) -> Hashable:
    """What a program depends on that may change from call to call."""
    leaves, structure = jax.tree.flatten(arguments)
    settings = tuple(
        (name, str(getattr(jax.config, name, value)))
        for name, value in jax.config.values.items()
        if "cache" not in name and "transfer_guard" not in name
    )
    return structure, tuple(map(jax.typeof, leaves)), settings


def _devices(arguments: tuple) -> tuple[int, ...]:
    arrays = [leaf for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.Array)]
    return tuple(sorted({device.id for array in arrays for device in array.devices()}))


def kept(jitted: Callable, made_from: str) -> Callable:
    """A jitted function whose compiled programs are looked for, and left, in JAX's cache folder.

    Args:
        jitted: what `jax.jit` returned, of a function of arrays given by position. Where these lie on several devices,
            it is called as it is.
        made_from: everything that tells the function from others of the same source: its name, and what it closes over.

    Returns:
        A function that does what `jitted` does. Where JAX has no cache folder on this machine's disk, `jitted` itself.
    """
    folder = jax.config.jax_compilation_cache_dir
    if not folder or "://" in folder or not jax.config.jax_enable_compilation_cache:
        return jitted
    folder, function = Path(folder, "programs"), _digest((made_from, _surroundings()))
    programs: dict[Hashable, Callable] = {}
    likely = _begin_to_read(folder, function)

    def call(*arguments):
        devices = _devices(arguments)
        if len(devices) > 1:
            return jitted(*arguments)
        circumstances = (devices, _circumstances(arguments))
        if circumstances not in programs:
            path = folder / f"{function}-{_digest(circumstances)}"
            program = likely[path].result() if path in likely else _read(path)
            programs[circumstances] = working_memory.reusing(program or _compile(jitted, arguments, path))
        return programs[circumstances](*arguments)

    return call


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:32]


def _begin_to_read(folder: Path, function: str) -> dict[Path, Future]:
    """A function's program, if there is no more than one, read while the arguments are still being made."""
    paths = list(folder.glob(f"{function}-*"))
    if len(paths) != 1:
        return {}
    reader = ThreadPoolExecutor(1)
    likely = {paths[0]: reader.submit(_read, paths[0])}
    reader.shutdown(wait=False)
    return likely


def _read(path: Path) -> Callable | None:
    try:
        program = serialize_executable.deserialize_and_load(*pickle.loads(zlib.decompress(path.read_bytes())))
    except Exception:  # missing, damaged, or of a kind that this device does not read: it is compiled again
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the longest unused go first
    return program


def _compile(jitted: Callable, arguments: tuple, path: Path) -> Callable:
    """Compiles a program and leaves it at `path`, if the disk and the backend let it."""
    lowered = jitted.lower(*arguments)
    # Past JAX's own cache: there is no need to keep it twice, and what was read from there cannot be written again.
    with _settings(
        jax_persistent_cache_min_compile_time_secs=float("inf"), jax_compilation_cache_include_metadata_in_key=True
    ):
        program = lowered.compile()
    # Where this fails the next start compiles again.
    with contextlib.suppress(CaseError, OSError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError):
        packed = zlib.compress(pickle.dumps(serialize_executable.serialize(program)), 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(packed)
        _make_room(path.parent)
    return program


@contextlib.contextmanager
def _settings(**values: Any) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in values}
    for name, value in values.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def _make_room(folder: Path) -> None:
    """Deletes what has not been used for longest, beyond the most that is kept."""
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > _MOST_BYTES_KEPT:
            file.unlink(missing_ok=True)
