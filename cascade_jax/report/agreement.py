"""How predicted infarcts agree with the reader's: in infarcted hearts alone, in size, and in being there at all.

For the challenge's labels. "Infarct" is infarction and no-reflow together, as in its metrics. All cases of a result are
taken together, whichever fold they are of.
"""

import math
from collections.abc import Mapping

import numpy as np

from cascade_jax.quantify import volumes
from cascade_jax.report.text_tables import Table, interval_text, number, percent, plain
from cascade_jax.statistics import (
    area_under_curve,
    bootstrap_interval,
    intraclass_correlation,
    limits_of_agreement,
    wilson_interval,
)

Sizes = Mapping[str, Mapping[str, Mapping[str, float]]]  # of one case, as `infarct_sizes` returns them

_UNITS = {"g": "infarct mass g", "percent": "infarct % of the myocardium"}
_FIGURES = {"infarction": "infarct", "no_reflow": "no_reflow"}  # what `volumes` calls a target


def infarct_sizes(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]) -> dict:
    """What a prediction and the truth have of infarct and of no-reflow.

    Args:
        prediction: the challenge's labels (depth, height, width).
        truth: the same, of the reader.
        spacing: mm along (depth, height, width); the slice's thickness may be NaN, unknown.

    Returns:
        {"prediction" and "truth": {"infarction" and "no_reflow": {"present": bool, whether there is a voxel of it, "g":
        its mass, NaN if the thickness is unknown, "percent": its share of the myocardium, NaN if there is none}}}.
    """
    depth, *plane = spacing
    unknown = math.isnan(depth)
    sizes: dict[str, dict] = {}
    for outline, labels in (("prediction", prediction), ("truth", truth)):
        figures = volumes(np.asarray(labels).T, (*plane[::-1], 1.0 if unknown else depth))
        sizes[outline] = {
            target: {
                "present": figures[f"{name}_g"] > 0,
                "g": float("nan") if unknown else figures[f"{name}_g"],
                "percent": figures[f"{name}_percent"],
            }
            for target, name in _FIGURES.items()
        }
    return sizes


def infarct_statistics(
    cases: Mapping[str, Mapping[str, Mapping[str, float]]], sizes: Mapping[str, Sizes]
) -> dict[str, dict]:
    """Everything this module says of a result.

    Args:
        cases: {case: {target: {metric: value}}}.
        sizes: {case: its `infarct_sizes`}, of the same cases.

    Returns:
        {"infarcted": `infarcted_hearts`, "agreement": `size_agreement`, "detection": `detection`}.
    """
    return {
        "infarcted": infarcted_hearts(cases, sizes),
        "agreement": size_agreement(sizes),
        "detection": {target: detection(target, sizes) for target in _FIGURES},
    }


def infarcted_hearts(
    cases: Mapping[str, Mapping[str, Mapping[str, float]]], sizes: Mapping[str, Sizes]
) -> dict[str, dict]:
    """The Dice where there is something to outline, and how many normal hearts are left alone.

    Returns:
        {"infarction" and "no_reflow": over hearts with an infarct, "no_reflow_where_present": over those with
        no-reflow: each {"n", "dice", "interval"}, mean Dice and its 95 % bootstrap interval, as fractions,
        "normal": {"n", "left_alone", "share", "interval"}: hearts without an infarct, and in how many none is drawn,
        with Wilson's interval}.
    """
    result: dict[str, dict] = {}
    for key, target, condition in (
        ("infarction", "infarction", "infarction"),
        ("no_reflow", "no_reflow", "infarction"),
        ("no_reflow_where_present", "no_reflow", "no_reflow"),
    ):
        dice = [case[target]["dice"] for name, case in cases.items() if sizes[name]["truth"][condition]["present"]]
        mean = float(np.mean(dice)) if dice else float("nan")
        result[key] = {"n": len(dice), "dice": mean, "interval": bootstrap_interval([dice])}
    found = detection("infarction", sizes)
    result["normal"] = {
        "n": found["absent"],
        "left_alone": found["left_alone"],
        "share": found["specificity"],
        "interval": found["specificity_interval"],
    }
    return result


def size_agreement(sizes: Mapping[str, Sizes]) -> dict[str, dict[str, dict]]:
    """Infarct size against the reader's.

    Returns:
        {"all" and "infarcted" (hearts whose truth has an infarct): {"g" (mass) and "percent" (of the myocardium): {"n",
        "mean_prediction", "mean_truth", "bias" (prediction - truth), "limits" of agreement, "icc": ICC(2,1)}}}. Cases
        without a figure in both are left out.
    """
    groups = {
        "all": sizes.values(),
        "infarcted": [one for one in sizes.values() if one["truth"]["infarction"]["present"]],
    }
    result: dict[str, dict[str, dict]] = {}
    for group, members in groups.items():
        result[group] = {}
        for unit in _UNITS:
            pairs = [[one[outline]["infarction"][unit] for outline in ("prediction", "truth")] for one in members]
            known = np.array(pairs, np.float64).reshape(-1, 2)
            known = known[~np.isnan(known).any(axis=1)]
            means = known.mean(axis=0).tolist() if len(known) else [float("nan")] * 2
            bias, *limits = limits_of_agreement(*known.T)
            values = (len(known), *means, bias, limits, intraclass_correlation(known))
            result[group][unit] = dict(
                zip(("n", "mean_prediction", "mean_truth", "bias", "limits", "icc"), values, strict=True)
            )
    return result


def detection(target: str, sizes: Mapping[str, Sizes]) -> dict:
    """Whether a target is found where it is and left alone where it is not: present is what has a voxel.

    Args:
        target: "infarction" or "no_reflow".
        sizes: {case: its `infarct_sizes`}.

    Returns:
        "n", "present" and "absent" (cases, by the truth), "found" and "left_alone" (of these, by the prediction),
        "sensitivity" and "specificity" with their "_interval" (Wilson's, 95 %), and "area_under_curve", with the
        predicted mass as the score; NaN unless every case has a mass.
    """
    predicted, true = ([one[outline][target] for one in sizes.values()] for outline in ("prediction", "truth"))
    present = np.array([one["present"] for one in true], bool)
    drawn = np.array([one["present"] for one in predicted], bool)
    mass = np.array([one["g"] for one in predicted], np.float64)
    result: dict = {"n": len(present)}
    for group, right, measure, members, agreeing in (
        ("present", "found", "sensitivity", present, present & drawn),
        ("absent", "left_alone", "specificity", ~present, ~present & ~drawn),
    ):
        n, k = int(members.sum()), int(agreeing.sum())
        result |= {group: n, right: k, measure: k / n if n else float("nan")}
        result[f"{measure}_interval"] = wilson_interval(k, n)
    result["area_under_curve"] = float("nan") if np.isnan(mass).any() else area_under_curve(mass, present)
    return result


_HEARTS = {
    "infarction": "infarction Dice %, infarcted hearts",
    "no_reflow": "no-reflow Dice %, infarcted hearts",
    "no_reflow_where_present": "no-reflow Dice %, hearts with no-reflow",
}


def make_tables(results: Mapping[str, Mapping[str, Mapping]]) -> list[Table]:
    """What `infarct_statistics` found, for people.

    Args:
        results: {what a result is called in the rows, or "": its `infarct_statistics`}.
    """
    hearts, agreement, detected = [], [], []
    for result, values in results.items():
        prefix = f"{result}: " if result else ""
        for key, title in _HEARTS.items():
            dice = values["infarcted"][key]
            cells = (str(dice["n"]), number(dice["dice"], percent), interval_text(dice["interval"], percent))
            hearts.append((prefix + title, *cells))
        normal = values["infarcted"]["normal"]
        share = f"{percent(normal['share'])} ({normal['left_alone']} of {normal['n']})" if normal["n"] else "-"
        title = f"{prefix}normal hearts left alone %"
        hearts.append((title, str(normal["n"]), share, interval_text(normal["interval"], percent)))
        for group, units in values["agreement"].items():
            for unit, size in units.items():
                title = f"{prefix}{_UNITS[unit]}, {group} hearts"
                means = [number(size[name]) for name in ("mean_truth", "mean_prediction", "bias")]
                limits = interval_text(size["limits"], plain)
                agreement.append((title, str(size["n"]), *means, limits, number(size["icc"], "{:.3f}".format)))
        for target, found in values["detection"].items():
            cells = [str(found["n"]), str(found["present"])]
            for measure in ("sensitivity", "specificity"):
                interval = interval_text(found[f"{measure}_interval"], percent)
                cells.append(f"{percent(found[measure])} ({interval})" if interval != "-" else "-")
            cells.append(number(found["area_under_curve"], "{:.3f}".format))
            detected.append((prefix + _FIGURES[target].replace("_", "-"), *cells))
    return [
        Table(
            "Infarcted hearts alone",
            ("", "cases", "mean", "95 % interval"),
            hearts,
            "Infarcted and normal are by the reader; left alone is a heart in which no infarct is drawn. Means over "
            "all cases together; intervals by bootstrap over cases, Wilson's for the share.",
        ),
        Table(
            "Infarct size against the reader",
            ("", "cases", "reader's mean", "predicted mean", "bias", "limits of agreement", "ICC(2,1)"),
            agreement,
            "Bias is predicted minus the reader's, and 95 % of differences lie within the limits if they are normal "
            "(Bland and Altman 1986). ICC(2,1) is the intraclass correlation for absolute agreement of single "
            "measurements, at most 1 (Shrout and Fleiss 1979).",
        ),
        Table(
            "Detection of infarct and no-reflow",
            ("", "cases", "with it", "sensitivity % (95 % interval)", "specificity % (95 % interval)", "AUC"),
            detected,
            "Present is what has a voxel. Intervals are Wilson's; AUC is the area under the ROC curve with the "
            "predicted mass as the score.",
        ),
    ]
