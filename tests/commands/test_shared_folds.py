"""Two processes with the same command share the folds of one working folder."""

import subprocess

from cascade_jax.report import tables
from tests.commands.command_line import ROOT, TINY, command, train_command


def test_two_processes_train_each_fold_once_and_both_end_with_the_tables(tmp_path):
    workdir = tmp_path / "run"
    started = command("train", **train_command(workdir, share_folds=True, figures=0))
    processes = [
        subprocess.Popen(started, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=900) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert all(tables.TITLES["table3"] in out for out, _ in said)
    assert sum("nothing was left to do" in out for out, _ in said) == 1, "one has made the results"
    for stage in (1, 2):
        for fold in (0, 1):
            end = f"stage {stage}, fold {fold}: step {TINY[f'stage{stage}.steps']}/"
            assert sum(out.count(end) for out, _ in said) == 1
            rows = (workdir / f"stage{stage}" / f"fold{fold}" / "metrics.csv").read_text().splitlines()[1:]
            logged = [int(row.split(",")[0]) for row in rows if row.split(",")[1]]
            assert logged == list(range(1, TINY[f"stage{stage}.steps"] + 1))
