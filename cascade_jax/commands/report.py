"""Where a training's working folder keeps what the report shows."""

from pathlib import Path

from cascade_jax.bundle import load_labels
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import read_json
from cascade_jax.report.cases import Sources


def sources_of_run(workdir: Path) -> dict[str, Sources]:
    """What a finished training has to show.

    Returns:
        {file name: sources}: the cross-validation's final predictions, and the vote on held-out cases if there are any.

    Raises:
        CaseError: the folder holds no finished training.
    """
    config, predictions = workdir / "config.json", workdir / "predictions"
    if not config.exists() or not (predictions / "final").exists():
        raise CaseError(workdir, "holds no finished training (config.json or predictions/final is missing)")
    try:
        data = read_json(config)["data"]
        made = not data["root"] or data.get("corrected")
        root = workdir / "data" / "training" if made else Path(data["root"])
    except (KeyError, TypeError):
        raise CaseError(config, "is damaged, or of a pretraining: it names no cohort") from None
    title = f"{workdir.name}: cross-validation"
    table = load_labels(workdir)
    sources = {
        "report.html": Sources(
            title,
            predictions / "final",
            root,
            root,
            _earlier(predictions, ""),
            predictions / "stage2",
            workdir,
            ("table1", "table2"),
            labels=table,
            weights=f"{workdir.name}, each case by the fold that has not seen it",
        )
    }
    if (predictions / "held_out").exists():
        root = Path(data["held_out"]) if data["root"] else workdir / "data" / "held_out"
        sources["report_held_out.html"] = Sources(
            f"{workdir.name}: the folds' vote on held-out cases",
            predictions / "held_out",
            root,
            root,
            _earlier(predictions, "held_out_"),
            workdir=workdir,
            tables=("table3",),
            labels=table,
            weights=f"{workdir.name}, the folds' vote",
        )
    return sources


def _earlier(predictions: Path, prefix: str) -> dict[str, Path]:
    """The folders of the earlier steps' labels that are there."""
    steps = {"stage one": predictions / f"{prefix}stage1", "before postprocessing": predictions / f"{prefix}stage2"}
    return {step: folder for step, folder in steps.items() if folder.exists()}
