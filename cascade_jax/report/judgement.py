"""What a training says of its own confidence: three tables."""

from collections.abc import Mapping

from cascade_jax.data.labels import display_name
from cascade_jax.report.text_tables import Table, interval_text, number, percent, plain

_WANTED_OF_WORST, _ALLOWED_OF_BEST = 2 / 3, 0.1


def make_tables(judged: Mapping) -> list[Table]:
    """The tables of what `training.judging.judge` found."""
    cases, targets = judged["n"], judged["targets"]
    dice = [
        [display_name(target), *(percent(of[key]) for key in ("expected", "true", "error", "before"))]
        for target, of in targets.items()
    ]
    dice.append(["mean over targets", *(percent(judged["mean"][key]) for key in ("expected", "true", "error")), "-"])
    volumes = [
        [
            display_name(target),
            str(of["present"]),
            f"{percent(of['coverage'])} ({interval_text(of['coverage_interval'], percent)})",
            number(of["coverage_present"], percent),
            plain(of["width_ml"]),
            number(of["area_under_curve"], "{:.3f}".format),
        ]
        for target, of in targets.items()
    ]
    shares = judged["doubtful"]
    reached = shares["worst_fifth"] >= _WANTED_OF_WORST and shares["best_half"] <= _ALLOWED_OF_BEST
    doubtful = [
        ["all cases", percent(shares["all"])],
        ["the worst fifth by the true mean Dice", percent(shares["worst_fifth"])],
        ["the best half", percent(shares["best_half"])],
        ["all cases, for the appearance of image and outline alone", percent(shares["unlike"])],
    ]
    return [
        Table(
            "Confidence, on folds left out: Dice",
            ("", "expected %", "true %", "mean error of a case %", "true without the decision by probability %"),
            dice,
            f"{cases} cases. The calibration that speaks of a case was learnt from the other folds. Dice is counted as "
            "the challenge does.",
        ),
        Table(
            "Confidence, on folds left out: volume and presence",
            (
                "",
                "cases with it",
                "true volume in the 90 % interval %",
                "where it is there %",
                "median width ml",
                "AUC",
            ),
            volumes,
            "In brackets Wilson's 95 % interval. AUC is the area under the ROC curve of the probability that the "
            "target is there.",
        ),
        Table(
            "Confidence, on folds left out: cases called doubtful",
            ("", "called doubtful %"),
            doubtful,
            "Wanted are two thirds of the worst fifth at least, and a tenth of the best half at most: "
            f"{'reached' if reached else 'not reached'}.",
        ),
    ]
