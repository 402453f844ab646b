"""Makes one HTML page about a run, or about any predictions: every case to look through, tables and charts; and one
page of PDF a patient.

    cascade-jax report --workdir=DIR [--output=DIR] [--pdf=DIR]
    cascade-jax report --prediction=DIR [--images=DIR] [--truth=DIR] [--stage_one=DIR] --output=report.html [--pdf=DIR]

The page needs no network and no other file. --pdf=DIR writes DIR/<case>.pdf, A4; without --output it is written alone.
Where the right ventricle meets the left is looked for in the image;
--insertions=FILE.csv, with the columns case and insertion_degrees as for `cascade-jax quantify`, says it instead. Wants
`pip install 'cascade_jax[report]'`.
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from cascade_jax.bundle import load_labels
from cascade_jax.data.labels import EMIDEC
from cascade_jax.data.outputs import refuse_to_replace
from cascade_jax.errors import ConfigError
from cascade_jax.extras import missing
from cascade_jax.progress import bar
from launch import command

_WORKDIR = flags.DEFINE_string("workdir", None, "The working folder of a finished training.")
_PREDICTION = flags.DEFINE_string("prediction", None, "The folder of predicted labels, instead of a working folder.")
_IMAGES = flags.DEFINE_string("images", None, "The images of the same cases: a file, a folder of them, or a cohort.")
_TRUTH = flags.DEFINE_string("truth", None, "The folder of true labels.")
_STAGE_ONE = flags.DEFINE_string("stage_one", None, "The folder of stage one's labels, to be shown beside.")
_LABELS_OF = flags.DEFINE_string(
    "labels_of", None, "The working folder of the training that has these labels; without it, the challenge's."
)
_INSERTIONS = flags.DEFINE_string(
    "insertions",
    None,
    "A CSV file with the columns case, insertion_degrees (of the right ventricle's anterior insertion, degrees "
    "counter-clockwise from the right of a slice as it is looked at) and, where they are known, base_first and "
    "mirrored (yes or no).",
)
_CORRECTED = command.define_corrected()
_OUTPUT = flags.DEFINE_string("output", None, "The HTML file; with --workdir a folder, by default that one.")
_PDF = flags.DEFINE_string("pdf", None, "The folder for one page of PDF a patient.")


def _path(flag) -> Path | None:
    return Path(flag.value) if flag.value else None


def main() -> int:
    if install := missing("report"):
        raise ConfigError(f"a report needs {install}")
    from cascade_jax.commands.report import sources_of_run
    from cascade_jax.data import folders
    from cascade_jax.quantify.orientations import read_orientations
    from cascade_jax.report.cases import Sources
    from cascade_jax.report.page import write_report

    if (_WORKDIR.value is None) == (_PREDICTION.value is None):
        raise ConfigError("give either --workdir or --prediction (see --help)")
    pages: dict[Path | None, Sources] = {}
    if _WORKDIR.value:
        folder = _path(_OUTPUT) or Path(_WORKDIR.value)
        pages |= {folder / name: sources for name, sources in sources_of_run(Path(_WORKDIR.value)).items()}
    else:
        if not _OUTPUT.value and not _PDF.value:
            raise ConfigError("--output is needed, the HTML file, or --pdf, the folder of PDF files (see --help)")
        prediction = Path(_PREDICTION.value)
        earlier = {"stage one": _path(_STAGE_ONE)} if _STAGE_ONE.value else {}
        table = load_labels(_LABELS_OF.value) if _LABELS_OF.value else EMIDEC
        sources = Sources(
            prediction.name,
            prediction,
            _path(_IMAGES),
            _path(_TRUTH),
            earlier,
            labels=table,
            corrected=_CORRECTED.value,
            weights=_LABELS_OF.value or "",
        )
        if _CORRECTED.value:
            command.print_corrected(prediction)
        pages[_path(_OUTPUT)] = sources
    for output in pages:
        if output is not None:
            refuse_to_replace(output.parent, [output.name])
    for folder, find in (
        (_PREDICTION.value, folders.find_contours),
        (_IMAGES.value, folders.find_inputs),
        (_TRUTH.value, folders.find_contours),
        (_STAGE_ONE.value, folders.find_contours),
    ):
        if folder:
            command.print_skipped(folders.list_skipped(folder, find))
    orientations = read_orientations(Path(_INSERTIONS.value)) if _INSERTIONS.value else {}
    failed = {}
    for output, sources in pages.items():
        papers = _path(_PDF)
        if papers is not None and len(pages) > 1:  # cases of the one may be called like cases of the other
            papers /= output.stem
        failed |= write_report(dataclasses.replace(sources, orientations=orientations), output, bar, papers=papers)
        if output is not None:
            print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
        if papers is not None:
            print(f"{papers}: one page of PDF a patient")
    for reason in failed.values():
        print(f"failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command.run(main, required=())
