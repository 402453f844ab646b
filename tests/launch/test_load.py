"""What the benchmark of load says is what happened."""

import re
from types import SimpleNamespace

import numpy as np

from launch.benchmarks import many_scans


class Forgetful:
    """Segments every case right but for each third time, once it is asked from a thread."""

    def __init__(self):
        self.asked = 0

    def segment_case(self, case):
        self.asked += 1
        wrong = self.asked > many_scans._DIFFERENT and self.asked % 3 == 0
        return SimpleNamespace(labels=np.full(case.image.shape, wrong, np.uint8))


def test_scans_are_made_and_threads_that_differ_are_counted(tmp_path):
    many_scans.make_scans(tmp_path, 20)
    scans = sorted((tmp_path / "scans").glob("*/Images/*.nii.gz"))
    assert len(scans) == 20
    assert len({scan.read_bytes() for scan in scans}) == many_scans._DIFFERENT
    line = many_scans.threads_agree(Forgetful(), tmp_path, 0.005)
    done, different = map(int, re.search(r"(\d+) segmentations in 0.005 minutes, (\d+) differ", line).groups())
    assert done > 12
    assert 0.2 < different / done < 0.5
