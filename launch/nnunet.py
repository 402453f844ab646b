"""Takes a raw dataset over from nnU-Net, or makes one for it.

    cascade-jax nnunet --raw=nnUNet_raw/Dataset001_Infarct --to_cohort=DIR [--label="LV blood=cavity"]
    cascade-jax nnunet --cohort=DIR --to_raw=nnUNet_raw/Dataset001_Infarct

Cohorts are in the challenge's layout, which every other command takes. `--config.data.splits=.../splits_final.json`
then gives a training nnU-Net's folds.
"""

from pathlib import Path

from absl import flags

from cascade_jax.data.case import LABEL_NAMES, number_of_cases
from cascade_jax.data.labels import make_label_table
from cascade_jax.errors import ConfigError
from cascade_jax.progress import bar
from launch import command

_RAW = flags.DEFINE_string("raw", None, "A raw dataset of nnU-Net.")
_TO_COHORT = flags.DEFINE_string("to_cohort", None, "The folder for its cases in the challenge's layout.")
_COHORT = flags.DEFINE_string("cohort", None, "A labelled cohort in the challenge's layout.")
_TO_RAW = flags.DEFINE_string("to_raw", None, "The folder for the raw dataset.")
_NAMES = flags.DEFINE_list("names", list(LABEL_NAMES), "The cohort's labels by value, the background first.")
_LABEL = flags.DEFINE_multi_string("label", [], "THEIRS=OURS: what one of the dataset's labels is; may be repeated.")


def main() -> None:
    from cascade_jax.data import folders
    from cascade_jax.data.nnunet import export_dataset, import_dataset, not_imported

    try:
        make_label_table(_NAMES.value, [("all", _NAMES.value[1:])])
    except ValueError as error:
        raise ConfigError(f"--{error}") from error
    if _RAW.value and _TO_COHORT.value:
        renamed = dict(_mapping(label) for label in _LABEL.value)
        where = _TO_COHORT.value
        command.print_skipped(not_imported(Path(_RAW.value)))
        count = import_dataset(Path(_RAW.value), Path(where), renamed, bar, _NAMES.value)
    elif _COHORT.value and _TO_RAW.value:
        where = _TO_RAW.value
        command.print_skipped(folders.list_skipped(_COHORT.value, folders.find_cases))
        count = export_dataset(Path(_COHORT.value), Path(where), bar, _NAMES.value)
    else:
        raise ConfigError("give --raw and --to_cohort, or --cohort and --to_raw (see --help)")
    print(f"{where}: {number_of_cases(count)}")


def _mapping(label: str) -> tuple[str, str]:
    theirs, _, ours = label.rpartition("=")
    if not (theirs and ours):
        raise ConfigError(f"--label={label}: expected THEIRS=OURS")
    return theirs, ours


if __name__ == "__main__":
    command.run(main, required=())
