"""From files to files: every case of a folder through a trained cascade."""

import csv
from pathlib import Path

import numpy as np

from cascade_jax.confidence import DOUBTFUL, disagreement
from cascade_jax.data import emidec
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import make_writable_folder, replacing, write_text
from cascade_jax.data.labels import LabelTable
from cascade_jax.figures import colour_tables, draw_case
from cascade_jax.inference import Cascade
from cascade_jax.preparation import Progress


def predict_cases(
    cascade: Cascade, source: Path, output: Path, figures: bool, progress: Progress
) -> tuple[dict[str, float], dict[str, str]]:
    """Segments every case of `source` and writes its labels; a bad case does not keep the others from it.

    `output/expected_dice.csv` has the Dice that the cascade expects of each case, the most doubtful first;
    `output/labels.ctbl` and `.tsv` tell viewers the labels' names and colours.

    Args:
        cascade: the trained cascade.
        source: a NIfTI file, a folder of them, or a cohort in the challenge's layout.
        output: labels go to `output/<case>/Contours/<case>.nii.gz`.
        figures: also draw `output/<case>/<case>.png`, beside the truth where there is one, and write
            `output/<case>/Disagreement/<case>.nii.gz`, the share of doubt in every voxel.
        progress: wraps the loop with a bar.

    Returns:
        {case: expected Dice of the main target (the myocardium)} of the doubtful cases, and {case: reason} of those
        that failed.

    Raises:
        CaseError: the source holds no case at all.
    """
    failed: dict[str, str] = {}
    expected: dict[str, dict[str, float]] = {}
    files = emidec.find_inputs(source, faults=failed)
    make_writable_folder(output)
    for file in progress(files, f"segmenting {len(files)} case{'s' if len(files) > 1 else ''} of {source}"):
        try:
            case = emidec.read_case(file, cascade.plan.labels)
            labels, probabilities, expected[case.name] = cascade.segment_case(case, probabilities=figures)
            emidec.write_labels(output, labels, case)
            if figures:
                emidec.write_disagreement(output, disagreement(probabilities), case)
                truth = {} if case.labels is None else {"truth": case.labels}
                draw_case(
                    output / case.name / f"{case.name}.png",
                    case.image,
                    {**truth, "prediction": labels},
                    spacing=case.spacing,
                    title=case.name,
                    table=cascade.plan.labels,
                )
        except CaseError as error:
            failed[file.name] = str(error)
    main = cascade.plan.labels.main
    for name, text in colour_tables(cascade.plan.labels).items():
        write_text(output / name, text)
    write_expected_dice(output, expected, cascade.plan.labels)
    doubtful = {name: dice[main] for name, dice in _ranked(expected, main).items() if dice[main] < DOUBTFUL}
    return doubtful, failed


def _ranked(expected: dict[str, dict[str, float]], main: str) -> dict[str, dict[str, float]]:
    return dict(sorted(expected.items(), key=lambda item: item[1][main]))


def write_expected_dice(folder: Path, expected: dict[str, dict[str, float]], table: LabelTable) -> None:
    """Writes `folder/expected_dice.csv`: {case: {target: expected Dice}}, the most doubtful first."""
    with replacing(folder / "expected_dice.csv") as partial, partial.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case", *table.targets, "doubtful"])
        for name, dice in _ranked(expected, table.main).items():
            values = ["" if np.isnan(dice[target]) else f"{dice[target]:.3f}" for target in table.targets]
            rows.writerow([name, *values, "yes" if dice[table.main] < DOUBTFUL else "no"])
