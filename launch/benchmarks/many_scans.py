"""What many scans through one process take, and whether threads disturb one another, in lines for `load`."""

import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

_DIFFERENT = 12
_THREADS = 4
_MB = 2**20
_SETTLED = 10  # cases after which memory is to be flat, or as many as there are different ones, if those are more


def memory_mb() -> float:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / _MB


def make_scans(root: Path, count: int) -> None:
    """A cohort of `count` cases, of which `_DIFFERENT` differ."""
    from cascade_jax.phantoms import simulated

    simulated.write_cohort(root / "different", _DIFFERENT, seed=0)
    made = sorted(path for path in (root / "different").iterdir() if path.is_dir())
    for number in range(count):
        source = made[number % _DIFFERENT]
        for kind in ("Images", "Contours"):
            target = root / "scans" / f"case{number:04d}" / kind / f"case{number:04d}.nii.gz"
            target.parent.mkdir(parents=True)
            shutil.copy(source / kind / f"{source.name}.nii.gz", target)


def segment_all(cascade, root: Path) -> list[str]:
    """Lines of what `predict` took, its labels in the challenge's layout below `root/labels`."""
    import jax

    from cascade_jax.commands.predict import predict_cases

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(seconds) if event.endswith("backend_compile_duration") else None
    )
    held, started = [], time.monotonic()

    def watched(items, _):
        for item in items:
            held.append(memory_mb())
            yield item

    _, failed = predict_cases(cascade, root / "scans", root / "labels", False, watched)
    seconds = (time.monotonic() - started) / len(held)
    settled, half = held[max(_SETTLED, _DIFFERENT)], len(held) // 2
    return [
        f"predict: {len(held)} cases, {len(failed)} failed, {seconds:.2f} s a case, {len(compiled)} programs compiled",
        f"predict: {settled:.0f} MB after {max(_SETTLED, _DIFFERENT)} cases, at most {max(held[_DIFFERENT:]):.0f} MB"
        f" ({100 * (max(held[_DIFFERENT:]) / settled - 1):+.1f} %)",
        f"predict: {held[half]:.0f} MB after {half} cases, {held[-1]:.0f} MB at the last",
    ]


def run_command(root: Path, name: str, *arguments: str) -> str:
    """A line of what a command took, in a process of its own."""
    script = (
        "import resource, subprocess, sys\n"
        "status = subprocess.call([sys.executable, '-m', 'launch.console', *sys.argv[1:]])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(status)"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script, name, *arguments], capture_output=True, text=True, check=False)
    seconds, peak = time.monotonic() - started, int(done.stdout.split()[-1]) / 1024
    cases = len(list((root / "scans").iterdir()))
    return f"{name}: status {done.returncode}, {1000 * seconds / cases:.0f} ms a case, at most {peak:.0f} MB"


def threads_agree(cascade, root: Path, minutes: float) -> str:
    """A line of how many segmentations by four threads at once differed from those of one thread."""
    from cascade_jax.data import emidec, folders

    files = folders.find_inputs(root / "different")
    cases = [emidec.read_case(file) for file in files]
    alone = [cascade.segment_case(case).labels for case in cases]
    ends, done, different = time.monotonic() + 60 * minutes, [], []

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        while time.monotonic() < ends:
            index = int(random.integers(len(cases)))
            same = np.array_equal(cascade.segment_case(cases[index]).labels, alone[index])
            (done if same else different).append(index)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    all_done = len(done) + len(different)
    return f"{_THREADS} threads: {all_done} segmentations in {minutes:g} minutes, {len(different)} differ"
