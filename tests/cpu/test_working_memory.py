"""Working memory: kept from call to call where it is asked for, never twice, and given back."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")

# A program whose matrix of 256 MB is 65,536 pages of its working memory. Prints the pages that the system handed out
# for each of twenty calls, then megabytes: the most ever held, those held before and after memory was given back, and
# those that huge pages were asked for. With "crowded", small things of many sizes come to stay after each call.
_PROGRAM = """
import ctypes, resource, sys
from cascade_jax.cpu import compilation, working_memory
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages are counted, and huge ones would be few
if sys.argv[1] != "not kept":
    working_memory.keep()
import jax.numpy as jnp
vector = jnp.ones(8192)
program = working_memory.reusing(compilation.jit(lambda x: jnp.outer(x, x) @ x).lower(vector).compile())

def pages_of_a_call():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(vector).block_until_ready()
    if sys.argv[1] == "crowded":
        for size in list(range(8, 256, 8)) * 10:
            library.malloc(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

print(*(pages_of_a_call() for _ in range(20)))
kilobytes = asked_for = 0
for line in open("/proc/self/smaps"):
    name, *words = line.split()
    if name == "Size:":
        kilobytes = int(words[0])
    if name == "VmFlags:" and "hg" in words:
        asked_for += kilobytes
held = megabytes()
working_memory.give_back()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, held, megabytes(), asked_for >> 10)
"""


def _run(how):
    done = subprocess.run([sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True)
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


def test_working_memory_is_kept_after_the_first_call():
    anew_pages, (anew_peak, *_) = _run("not kept")
    kept_pages, (kept_peak, *_) = _run("kept")
    assert min(anew_pages) > 60_000
    assert max(kept_pages[1:]) < 1_000
    assert kept_peak < anew_peak + 100


def test_working_memory_is_kept_while_small_things_settle_around_it():
    # Of 58 processes 46 kept theirs at all calls but the first, the others moved it at up to 18 of twenty. Where the C
    # library's cuttings are left lying, all of eight moved it at 19 or 20.
    for _ in range(5):
        pages, _ = _run("crowded")
        if max(pages[1:]) < 1_000:
            return
    pytest.fail(f"no process kept its memory; pages of the last one's calls: {pages}")


_OTHER_SHAPES = """
import jax, jax.numpy as jnp
from cascade_jax.cpu import working_memory
working_memory.keep()
program = working_memory.reusing_compiled(jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 2, tree)))
for argument in (jnp.ones(3), jnp.ones((2, 2)), {"a": jnp.ones(3)}, jnp.ones(3, jnp.int32), jnp.ones(3)):
    doubled = program(argument)
    assert jax.tree.structure(doubled) == jax.tree.structure(argument)
    assert all((leaf == 2).all() for leaf in jax.tree.leaves(doubled))
"""


def test_each_kind_of_arguments_has_its_own_program():
    subprocess.run([sys.executable, "-c", _OTHER_SHAPES], check=True)


def test_kept_memory_is_given_back_when_asked_for():
    _, (_, before, after, _) = _run("kept")
    assert before - after > 200


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="this system has no huge pages")
def test_huge_pages_are_asked_for_where_the_working_memory_lies():
    _, (*_, without) = _run("not kept")
    _, (*_, asked_for) = _run("kept")
    assert 250 <= asked_for - without <= 260
