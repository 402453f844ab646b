"""Trains the cascade: both stages on every fold, the paper's tables, figures.

    cascade-jax train --config=phantom --workdir=DIR [--config.key=value ...]

Run again on the same working folder it goes on where it stopped. Several processes train together, on one host or
many, where each gets the same command and, beside it, --coordinator=HOST:PORT --num_processes=N --process_id=I, or
--distributed on a cluster that knows these. Figures and reports want
`pip install 'cascade_jax[report]'`, event files for TensorBoard `pip install 'cascade_jax[logs]'`.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict

from cascade_jax.errors import CaseError
from cascade_jax.progress import bar
from launch import command, config_flag, hosts, weights

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string("workdir", None, "The working folder: everything the run makes goes there.")


def main() -> None:
    with hosts.joined():
        _train()


def _train() -> None:
    command.configure_jax(hold_memory=True)
    from cascade_jax import processes
    from cascade_jax.commands import train

    config = config_flag.load(_CONFIG)
    if not processes.is_first():
        logging.set_verbosity(logging.ERROR)
        train.run_training(config, Path(_WORKDIR.value), _no_bar)
        return
    _say_what_is_missing(config)
    print(train.run_training(config, Path(_WORKDIR.value), bar))


def _no_bar(iterable: Iterable, _: str) -> Iterable:
    return iterable


def _say_what_is_missing(config: ConfigDict) -> None:
    """Says on standard error which files are skipped, which licence the weights are under, and what is left out."""
    from cascade_jax.bundle import read_model
    from cascade_jax.data import folders

    for name in ("root", "held_out"):
        if folder := config.get("data", {}).get(name):
            of_predictions = name == "root" and config.data.get("corrected")
            find = folders.find_contours if of_predictions else folders.find_cases
            command.print_skipped(folders.list_skipped(folder, find))
    if start := config.get("init_from"):
        with contextlib.suppress(CaseError):  # training says what is wrong with it; a finished one wants it no more
            weights.print_licence(start, read_model(start)["licence"])
    command.print_left_out("logs", "event files for TensorBoard")
    if config.get("kind") != "pretraining":
        command.print_left_out("report", "figures and reports")


if __name__ == "__main__":
    command.run(main, required=("config", "workdir"))
