"""Working memory: kept from call to call where it is asked for, never twice, and given back."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")

# A program whose matrix of 256 MB is 65,536 pages of its working memory. Prints the pages that the system handed out
# for each of twenty calls, the most megabytes ever held, and those held before and after memory was given back. "crowded"
# has small things of many sizes come to stay after each call.
_PROGRAM = """
import ctypes, resource, sys
from cascade_jax import compilation, working_memory
if sys.argv[1] != "not kept":
    working_memory.keep()
import jax.numpy as jnp
vector = jnp.ones(8192)
program = working_memory.reusing(compilation.jit(lambda x: jnp.outer(x, x) @ x).lower(vector).compile())
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p

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
held = megabytes()
working_memory.release()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, held, megabytes())
"""


def _run(how):
    done = subprocess.run([sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True)
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


def test_working_memory_is_kept_after_the_first_call():
    anew_pages, (anew_peak, *_) = _run("not kept")
    kept_pages, (kept_peak, *_) = _run("kept")
    assert min(anew_pages) > 60_000
    assert kept_pages[0] > 60_000
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


def test_kept_memory_is_given_back_when_asked_for():
    _, (_, before, after) = _run("kept")
    assert before - after > 200
