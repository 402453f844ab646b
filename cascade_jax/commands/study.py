"""Many patients' scans to one table, a row each; a second run does what is new."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade_jax import __version__
from cascade_jax.bundle import MODEL_FILE, folder_of, load_labels
from cascade_jax.calibration import CONFIDENCE_FILE
from cascade_jax.cascade import Cascade
from cascade_jax.case_warnings import codes, from_one_line, in_one_line, warnings_of_series
from cascade_jax.commands.answer import Answer, answer, columns_of
from cascade_jax.commands.pipeline import overlapped
from cascade_jax.commands.quantify import check_table
from cascade_jax.confidence import with_warnings
from cascade_jax.data import emidec
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.dicom_studies import IDENTIFIERS, names_patient, read_patient
from cascade_jax.data.files import file_checksum, make_writable_folder, read_json, write_text
from cascade_jax.data.folders import LABELS, check_name
from cascade_jax.data.labels import EMIDEC
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from cascade_jax.data.scans import Scan, find_scans
from cascade_jax.extras import missing
from cascade_jax.progress import Progress
from cascade_jax.report.spreadsheet import Row, write_csv, write_xlsx
from cascade_jax.weights import WEIGHTS_FILE

CSV, XLSX, RECORD = "study.csv", "study.xlsx", "study.json"
_FAILED = "failed"  # the column with the reason


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a study command has to say.

    Attributes:
        rows: of the table.
        done, kept: how many scans were segmented, and how many an earlier run had done.
        left_out: lines of what is no scan, or is in the table no longer.
    """

    rows: list[dict]
    done: int
    kept: int
    left_out: list[str]

    @property
    def failed(self) -> list[str]:
        return [f"{row['case']}: {row[_FAILED]}" for row in self.rows if row[_FAILED]]


def make_study(
    load: Callable[[], Cascade],
    source: Path,
    output: Path,
    weights: str,
    *,
    identifiers: bool,
    progress: Progress,
    strict: bool = False,
) -> Outcome:
    """Segments what is in a folder and writes `output/study.csv` and, with the extra "tables", `output/study.xlsx`.

    Scans whose files are as an earlier run has found them, segmented with the same weights, are left as they are. What
    is known of each stands in `output/study.json`, also which folder it is, which is written after every scan.

    Args:
        load: gives the cascade, which takes a while; not called where nothing is left to segment.
        source: the folder of scans (`data.scans`).
        output: the folder for the tables and for the labels, `<case>_seg.nii.gz`.
        weights: what `load` loads, as the user names it.
        identifiers: whether the table has the patients' names, numbers and dates of birth.
        progress: wraps the loop with a bar.
        strict: whether a case with a warning counts as failed; its row has its figures all the same.

    Raises:
        CaseError: there is nothing to segment; the output cannot be written, or has such a file from elsewhere; the
            weights have other labels than the challenge's.
    """
    scans, left_out = find_scans(source, output)
    if not scans:
        raise CaseError(source, "holds nothing to segment")
    tables = [CSV, *([] if missing("tables") else [XLSX])]
    refuse_to_replace(output, [*tables, RECORD])
    make_writable_folder(output)
    record = _read_record(output)
    patients = {scan.key: read_patient(scan.source, scan.files) for scan in scans if scan.is_dicom}
    names = name_cases(scans, source, patients, {key: entry["case"] for key, entry in record.items()})
    gone = [entry["case"] for key, entry in record.items() if key not in names]
    left_out += [f"{name}: is no longer in {source}, and left out of the table" for name in gone]
    record = {key: entry for key, entry in record.items() if key in names}
    model = identity_of_weights(weights)
    made_of = {scan.key: _made_of(scan, source, model) for scan in scans}
    todo = [scan for scan in scans if not _is_done(record.get(scan.key), made_of[scan.key], output)]
    count = f"{len(todo)} of {len(scans)} scans" if len(todo) < len(scans) else f"{len(scans)} scans"
    rows_of_this_run: Iterable[tuple[Scan, dict]] = []
    if todo:
        shown = progress(todo, f"segmenting {count} in {source}")
        rows_of_this_run = _rows(load().for_cases(len(todo)), shown, names, output)
    for scan, row in rows_of_this_run:
        place = str(scan.place.relative_to(source)) if source in scan.place.parents else scan.place.name
        record[scan.key] = {"case": names[scan.key], "place": place, "made_of": made_of[scan.key], "row": row}
        with recording_outputs(output, [RECORD]):
            write_text(output / RECORD, json.dumps({"cases": record}, indent=1))
    rows = [_with_patient(record[scan.key]["row"], patients.get(scan.key) if identifiers else None) for scan in scans]
    rows = [_failing_by_warnings(row) for row in rows] if strict else rows
    with recording_outputs(output, tables):
        write_csv(output / CSV, rows)
        if XLSX in tables:
            write_xlsx(output / XLSX, rows, "study")
    return Outcome(rows, len(todo), len(scans) - len(todo), left_out)


def identity_of_weights(weights: str) -> str:
    """What tells a cascade from another: a digest of its model, its confidence, and its weights or when it was trained.

    Raises:
        CaseError: there is no such cascade, or it has other labels than the challenge's.
    """
    check_table(load_labels(weights), weights)
    folder = folder_of(weights)
    model, released = folder / MODEL_FILE, folder / WEIGHTS_FILE
    weights_are = file_checksum(released) if released.exists() else str(model.stat().st_mtime_ns)
    said = folder / CONFIDENCE_FILE
    confidence_is = file_checksum(said) if said.exists() else ""
    return hashlib.sha256(f"{__version__} {file_checksum(model)} {weights_are} {confidence_is}".encode()).hexdigest()


def name_cases(
    scans: Sequence[Scan], source: Path, patients: Mapping[str, Mapping[str, str]], known: Mapping[str, str]
) -> dict[str, str]:
    """What each scan is called in the table, and its labels' file: its folder or file, if need be with a number.

    A folder that is named like its patient is withheld, and the scan is called "study 1", say.

    Args:
        scans: all of them.
        source: the folder that they are in.
        patients: {key of a scan: what identifies its patient}.
        known: {key of a scan: its name} of an earlier run, which stays.

    Returns:
        {key: name}, all different, also in lower case.
    """
    names = {scan.key: known[scan.key] for scan in scans if scan.key in known}
    taken = {name.casefold() for name in known.values()}
    for scan in scans:
        if scan.key in names:
            continue
        name, number = _place_in(scan, source), 1
        candidate = name
        if names_patient(name, patients.get(scan.key, {})):
            name, candidate = "study", "study_1"
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name}_{number}"
        names[scan.key] = candidate
        taken.add(candidate.casefold())
    return names


def _place_in(scan: Scan, source: Path) -> str:
    """The scan's folder or file as one word: folders below the source are joined."""
    above = scan.place.parent.relative_to(source).parts if source in scan.place.parents else ()
    text = "_".join([*above, scan.name]).encode("utf-8", "backslashreplace").decode()
    return "".join(character if character.isprintable() else "_" for character in text).strip() or "study"


def _made_of(scan: Scan, source: Path, model: str) -> str:
    """A digest of what a row depends on: the weights, and each file's name, size and time of its last change."""
    digest = hashlib.sha256(model.encode())
    for path in scan.files:
        with contextlib.suppress(OSError):  # reading it will say why
            state = path.stat()
            name = path.relative_to(source) if source in path.parents else path.name
            digest.update(f"\n{name} {state.st_size} {state.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _is_done(entry: Mapping | None, made_of: str, output: Path) -> bool:
    if entry is None or entry["made_of"] != made_of or entry["row"][_FAILED]:
        return False
    return (output / entry["row"]["labels"]).is_file()


def _read_record(output: Path) -> dict[str, dict]:
    path = output / RECORD
    if not path.exists():
        return {}
    try:
        return {key: _read_entry(entry) for key, entry in read_json(path)["cases"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CaseError(path, "is damaged: which scans are done is unknown; remove it to do all anew") from None


def _read_entry(entry: Mapping) -> dict:
    """What the record says of one scan; raises KeyError, TypeError, ValueError or AttributeError if it says less."""
    result: dict = {name: entry[name] for name in ("case", "place", "made_of")} | {"row": dict(entry["row"])}
    words = [result["case"], result["place"], result["made_of"], result["row"]["case"], result["row"][_FAILED]]
    if not all(isinstance(word, str) for word in words) or not all(
        value is None or isinstance(value, str | int | float) for value in result["row"].values()
    ):
        raise ValueError("a scan has words and numbers")
    if not result["row"][_FAILED] and not isinstance(result["row"]["labels"], str):
        raise ValueError("a scan has labels")
    check_name(Path(result["case"]), result["case"])  # a file is written by it
    return result


def _rows(
    cascades: Sequence[Cascade], scans: Iterable[Scan], names: Mapping[str, str], output: Path
) -> Iterator[tuple[Scan, dict]]:
    """Each scan when its labels are written, with its row."""

    def labels_of(scan: Scan) -> str:
        return f"{names[scan.key]}{LABELS}.nii.gz"

    def read(scan: Scan) -> tuple[Case, Any, list[str]]:
        refuse_to_replace(output, [labels_of(scan)])
        return scan.read(EMIDEC)

    def compute(cascade: Cascade, read: tuple) -> tuple:
        case, series, notes = read
        result = cascade.segment_case(case)
        return case, series, result._replace(confidence=with_warnings(result.confidence, warnings_of_series(notes)))

    def write(scan: Scan, done: tuple) -> dict:
        case, series, result = done
        with recording_outputs(output, [labels_of(scan)]):
            emidec.write_labels_as(output / labels_of(scan), result.labels, case)
        return _row(names[scan.key], labels_of(scan), series, len(case.image), answer(case, result, EMIDEC))

    for scan, row, error in overlapped(scans, read, compute, write, cascades):
        # Without the path, which may name the patient.
        yield scan, row if error is None else {"case": names[scan.key], _FAILED: error.fault}


def _row(name: str, labels: str, series: Any, slices: int, said: Answer) -> dict:
    return {
        "case": name,
        "series": series.name.removeprefix("series ") if series else "",
        "slices": slices,
        **_finite(said.quantities),
        **_finite(columns_of(said.confidence, said.table)),
        "warnings": in_one_line(said.confidence.warnings),
        "weights": said.confidence.weights,
        "labels": labels,
        _FAILED: "",
    }


def _failing_by_warnings(row: dict) -> dict:
    """The row as `strict` has it; not as the record does, since a next run need not do it again."""
    found = codes(from_one_line(row.get("warnings", "")))
    return row if row[_FAILED] or not found else row | {_FAILED: f"{found} (--strict)"}


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """As JSON can hold them."""
    return {name: value if value == value else None for name, value in figures.items()}


def _with_patient(row: Row, patient: Mapping[str, str] | None) -> dict:
    if patient is None:
        return dict(row)
    first = {"case": row["case"]} | {name: patient[name] for name in IDENTIFIERS}
    return first | {name: value for name, value in row.items() if name != "case"}
