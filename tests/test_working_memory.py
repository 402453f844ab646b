"""Working memory: kept from call to call where it is asked for, never twice, and given back."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")

# A program whose matrix of 256 MB is 65,536 pages of its working memory. Prints the pages that the system handed out
# for each of twenty calls, the most megabytes ever held, and those held before and after memory was given back.
_PROGRAM = """
import resource, sys
from cascade_jax import compilation, working_memory
if sys.argv[1] == "kept":
    working_memory.keep()
import jax.numpy as jnp
vector = jnp.ones(8192)
program = working_memory.reusing(compilation.jit(lambda x: jnp.outer(x, x) @ x).lower(vector).compile())

def pages_of_a_call():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(vector).block_until_ready()
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


def test_working_memory_is_kept_at_most_of_the_calls():
    pages, (anew_peak, *_) = _run("not kept")
    assert min(pages) > 60_000
    # Where small things settle beside the block differs from process to process: of 116 each kept its memory at 12 to
    # 19 of the twenty calls, but one elsewhere at three only. Without `keep`, none does at any.
    for _ in range(3):
        pages, (kept_peak, *_) = _run("kept")
        assert kept_peak < anew_peak + 100
        if sum(count < 1_000 for count in pages) > 10:
            return
    pytest.fail(f"no process kept its memory; pages of the last one's calls: {pages}")


def test_kept_memory_is_given_back_when_asked_for():
    _, (_, before, after) = _run("kept")
    assert before - after > 200
