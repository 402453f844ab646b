"""From files to files: every case of a folder through a trained cascade."""

import dataclasses
from pathlib import Path

from cascade_jax.confidence import DOUBTFUL, doubt
from cascade_jax.data import emidec
from cascade_jax.data.case import Case, CaseError, number_of_cases
from cascade_jax.data.files import make_writable_folder
from cascade_jax.data.orientation import with_credible_affine
from cascade_jax.expected_dice import ranked, read_expected_dice, write_expected_dice
from cascade_jax.figures import draw_case, write_colour_tables
from cascade_jax.inference import Cascade, Segmentation
from cascade_jax.progress import Progress


def predict_cases(
    cascade: Cascade, source: Path, output: Path, figures: bool, progress: Progress, *, images: bool = False
) -> tuple[dict[str, float], dict[str, str]]:
    """Segments every case of `source` and writes its labels; a bad case does not keep the others from it.

    `output/expected_dice.csv` has the Dice that the cascade expects of each case there, the most doubtful first;
    `output/labels.ctbl` and `dseg.tsv` tell viewers the labels' names and colours.

    Args:
        cascade: the trained cascade.
        source: a NIfTI file, a folder of them, or a cohort in the challenge's layout.
        output: labels go to `output/<case>/Contours/<case>.nii.gz`.
        figures: also draw `output/<case>/<case>.png`, beside the truth where there is one, and write
            `output/<case>/Doubt/<case>.nii.gz`, the share of doubt in every voxel, and, if several folds vote,
            `output/<case>/Disagreement/<case>.nii.gz`, the share of them that vote otherwise.
        progress: wraps the loop with a bar.
        images: also write `output/<case>/Images/<case>.nii.gz`, and give all that is written of a case an affine of its
            voxels' true size where its file's own says another.

    Returns:
        {case: expected Dice of the main target (the myocardium)} of the doubtful cases, and {case: reason} of those
        that failed.

    Raises:
        CaseError: the source holds no case at all, or the output has a table of other labels.
    """
    failed: dict[str, str] = {}
    expected: dict[str, dict[str, float]] = {}
    table = cascade.plan.labels
    files = emidec.find_inputs(source, faults=failed)
    make_writable_folder(output)
    others = read_expected_dice(output, table)
    for file in progress(files, f"segmenting {number_of_cases(len(files))} of {source}"):
        try:
            case = emidec.read_case(file, table)
            if images:
                if (output / case.name / emidec.IMAGES).resolve() == Path(file.image).resolve().parent:
                    raise CaseError(file.image, "would be replaced by its copy: choose another output")
                case = with_credible_affine(case)
                emidec.write_case(output, dataclasses.replace(case, labels=None))
            result = cascade.segment_case(case, details=figures)
            emidec.write_labels(output, result.labels, case)
            write_maps(output, result, case)
            expected[case.name] = result.expected_dice
            if figures:
                truth = {} if case.labels is None else {"truth": case.labels}
                draw_case(
                    output / case.name / f"{case.name}.png",
                    case.image,
                    {**truth, "prediction": result.labels},
                    spacing=case.spacing,
                    title=case.name,
                    table=table,
                )
        except CaseError as error:
            failed[file.name] = str(error)
    write_colour_tables(output, table)
    write_expected_dice(output, others | expected, table)
    of_main = {name: dice[table.main] for name, dice in ranked(expected, table).items()}
    return {name: dice for name, dice in of_main.items() if dice < DOUBTFUL}, failed


def write_maps(output: Path, result: Segmentation, case: Case) -> None:
    """Writes where the networks doubt and, if several folds voted, where these disagree, if `result` has its details.

    Maps that an earlier prediction left are removed.
    """
    maps = {
        emidec.DOUBT: None if result.probabilities is None else doubt(result.probabilities),
        emidec.DISAGREEMENT: result.disagreement,
    }
    for kind, values in maps.items():
        if values is None:
            emidec.map_path(output, kind, case.name).unlink(missing_ok=True)
        else:
            emidec.write_map(output, kind, values, case)
