"""Many scans through one process: whether memory grows, what is compiled, and whether threads disturb one another.

    python -m launch.benchmarks.load [--cases=1000] [--thread_minutes=60] [--weights=NAME_OR_FOLDER]

The scans are simulated hearts of twelve sizes and spacings, each of them many times under other names. They go through
`predict`, then `evaluate` and `report`; then four threads segment them over and over beside what one thread got.
Memory is read where Linux shows it.
"""

import tempfile
from pathlib import Path

from absl import flags

from launch import command, weights
from launch.benchmarks.many_scans import make_scans, run_command, segment_all, threads_agree

weights.define_flags()
_CASES = flags.DEFINE_integer("cases", 1000, "So many scans.", lower_bound=20)
_MINUTES = flags.DEFINE_float("thread_minutes", 60.0, "So long four threads segment.", lower_bound=0.0)


def main() -> int:
    command.configure_jax()
    cascade = weights.load()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_scans(root, _CASES.value)
        for line in segment_all(cascade, root):
            print(line, flush=True)
        scans, labels = f"{root / 'scans'}", f"{root / 'labels'}"
        print(run_command(root, "evaluate", f"--prediction={labels}", f"--truth={scans}"), flush=True)
        report = [f"--prediction={labels}", f"--images={scans}", f"--truth={scans}", f"--output={root / 'report.html'}"]
        print(run_command(root, "report", *report), flush=True)
        print(threads_agree(cascade, root, _MINUTES.value))
    return 0


if __name__ == "__main__":
    command.run(main, required=())
