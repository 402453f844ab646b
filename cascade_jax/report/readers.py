"""How readers of the same hearts agree, each pair and all together; the program may be one of them.

For the challenge's labels. "Infarct" is infarction and no-reflow together, as in its metrics.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from cascade_jax.data.case import CAVITY
from cascade_jax.data.labels import EMIDEC, display_name
from cascade_jax.metrics import dice, hausdorff, mean_surface_distance
from cascade_jax.quantify import Orientation, aha
from cascade_jax.report.quantities import measure_alike
from cascade_jax.report.text_tables import Table, estimate_text, number, percent, plain
from cascade_jax.statistics import (
    bootstrap_interval,
    intraclass_correlation,
    intraclass_interval,
    kappa,
    kappa_interval,
    limits_intervals,
    limits_of_agreement,
    observed_agreement,
    reproducibility_coefficient,
)

TARGETS = {"cavity": (CAVITY,), **EMIDEC.targets}
SIZES = {
    "cavity_ml": "cavity ml",
    "myocardium_g": "myocardium g",
    "infarct_g": "infarct g",
    "infarct_percent": "infarct % of the myocardium",
    "no_reflow_g": "no-reflow g",
}
_FINDINGS = {
    "infarct_in_heart": "an infarct in the heart",
    "no_reflow_in_heart": "no-reflow in the heart",
    "infarct_in_segment": "an infarct in the AHA segment",
}
ALL = "all"
_UNDEFINED = (float("nan"), float("nan"))


def pair_name(first: str, second: str) -> str:
    """What a pair of readers is called: "A - B", as a bias is the first's figure minus the second's."""
    return f"{first} - {second}"


def compare_readers(
    outlines: Mapping[str, np.ndarray],
    spacing: tuple[float, float, float],
    image: np.ndarray | None = None,
    orientation: Orientation | None = None,
    right_handed: bool | None = None,
) -> dict:
    """What readers drew in one heart.

    Args:
        outlines: {reader: the challenge's labels, uint8 (depth, height, width)}, two readers or more. The AHA segments
            of all are counted from where they are with the first one's outline.
        spacing: mm along the same axes.
        image: same shape: to find the right ventricle; None counts segments from the stack's x axis.
        orientation: what is known of how the slices lie; what it leaves open is found.
        right_handed: as for `quantify.quantify`.

    Returns:
        {"pairs": {pair: {target: {"dice", "hausdorff_mm" and "mean_distance_mm", NaN unless both drew it, "drawn": by
        how many of the two}}}, "sizes": {reader: {quantity of `SIZES`: value}}, "segments": {reader: {AHA segment that
        the outline reaches: whether there is an infarct in it}}, "segments_from": as `quantify` says it}.

    Raises:
        ValueError: as `quantify.quantify`.
    """
    masks = {
        reader: {target: np.isin(labels, members) for target, members in TARGETS.items()}
        for reader, labels in outlines.items()
    }
    leading = next(iter(outlines))
    measured = measure_alike(outlines, leading, spacing, image, orientation or Orientation(), right_handed)
    return {
        "pairs": {
            pair_name(first, second): {
                target: _compare_masks(masks[first][target], masks[second][target], spacing) for target in TARGETS
            }
            for first, second in combinations(outlines, 2)
        },
        "sizes": {reader: {key: found.case[key] for key in SIZES} for reader, found in measured.items()},
        "segments": {
            reader: {row["segment"]: row["infarct_ml"] > 0 for row in found.segments}
            for reader, found in measured.items()
        },
        "segments_from": measured[leading].case["segments_from"],
    }


def _compare_masks(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> dict:
    return {
        "dice": dice(first, second),
        "hausdorff_mm": hausdorff(first, second, spacing),
        "mean_distance_mm": mean_surface_distance(first, second, spacing),
        "drawn": int(first.any()) + int(second.any()),
    }


def reader_statistics(readers: Sequence[str], cases: Mapping[str, Mapping]) -> dict[str, dict[str, dict[str, dict]]]:
    """What a cohort says of how its readers agree.

    Args:
        readers: two or more.
        cases: {case: its `compare_readers`}, of the same readers.

    Returns:
        {pair, and with three readers or more "all": {of what: {measure: {"n", "value", "interval"}}}}, with the number
        of hearts (of yes or no: of answers by each reader) and the 95 % interval, NaN where a measure has none. Of
        what and measures are

        - of a pair, each of `TARGETS`: "dice" (fraction; over hearts in which one of the two at least drew it),
          "hausdorff_mm" and "mean_distance_mm" (where both drew it);
        - each of `SIZES`: of a pair "mean_first", "mean_second", "bias" (first minus second), "lower_limit" and
          "upper_limit" of agreement; always "icc", ICC(2,1), and "reproducibility", `reproducibility_coefficient`;
        - "infarct_in_heart", "no_reflow_in_heart", "infarct_in_segment" (all AHA segments that all of the readers
          reach), and "infarct_in_segment_1" to "_17" (each segment by itself, in hearts whose segments lie where their
          names say): "same_answer" (fraction) and "kappa".
    """
    found = {}
    for first, second in combinations(readers, 2):
        name = pair_name(first, second)
        found[name] = (
            {target: _outlines([case["pairs"][name][target] for case in cases.values()]) for target in TARGETS}
            | _sizes((first, second), cases)
            | _findings((first, second), cases)
        )
    if len(readers) > 2:
        found[ALL] = _sizes(readers, cases) | _findings(readers, cases)
    return found


def _estimate(n: int, value: float, interval: Sequence[float] = _UNDEFINED) -> dict:
    return {"n": n, "value": float(value), "interval": tuple(interval)}


def _outlines(compared: Sequence[Mapping]) -> dict[str, dict]:
    result = {}
    for measure, least in (("dice", 1), ("hausdorff_mm", 2), ("mean_distance_mm", 2)):
        values = [one[measure] for one in compared if one["drawn"] >= least]
        mean = np.mean(values) if values else float("nan")
        result[measure] = _estimate(len(values), mean, bootstrap_interval([values]))
    return result


def _sizes(readers: Sequence[str], cases: Mapping[str, Mapping]) -> dict[str, dict[str, dict]]:
    result = {}
    for key in SIZES:
        figures = np.array([[case["sizes"][reader][key] for reader in readers] for case in cases.values()], np.float64)
        figures = figures.reshape(-1, len(readers))
        figures = figures[~np.isnan(figures).any(axis=1)]
        n = len(figures)
        result[key] = {
            "icc": _estimate(n, intraclass_correlation(figures), intraclass_interval(figures)),
            "reproducibility": _estimate(n, reproducibility_coefficient(figures)),
        }
        if len(readers) == 2:
            means = figures.mean(axis=0) if n else _UNDEFINED
            result[key] |= {
                f"mean_{place}": _estimate(n, means[index]) for index, place in enumerate(("first", "second"))
            }
            limits = zip(limits_of_agreement(*figures.T), limits_intervals(*figures.T), strict=True)
            names = ("bias", "lower_limit", "upper_limit")
            result[key] |= {name: _estimate(n, *one) for name, one in zip(names, limits, strict=True)}
    return result


def _findings(readers: Sequence[str], cases: Mapping[str, Mapping]) -> dict[str, dict[str, dict]]:
    answers: dict[str, list] = {key: [] for key in _FINDINGS}  # bool (judged, reader) of each heart
    by_segment: dict[int, list] = {}
    for case in cases.values():
        for key, quantity in (("infarct_in_heart", "infarct_g"), ("no_reflow_in_heart", "no_reflow_g")):
            answers[key].append([[case["sizes"][reader][quantity] > 0 for reader in readers]])
        segments = [case["segments"][reader] for reader in readers]
        reached = [segment for segment in sorted(segments[0]) if all(segment in one for one in segments)]
        found = {segment: [one[segment] for one in segments] for segment in reached}
        if found:
            answers["infarct_in_segment"].append(list(found.values()))
        for segment, row in found.items() if case["segments_from"] != "x axis" else ():
            by_segment.setdefault(segment, []).append([row])
    answers |= {f"infarct_in_segment_{segment}": by_segment[segment] for segment in sorted(by_segment)}
    return {key: _yes_or_no(groups, len(readers)) for key, groups in answers.items()}


def _yes_or_no(groups: Sequence[Sequence[Sequence[bool]]], readers: int) -> dict[str, dict]:
    arrays = [np.array(group, bool) for group in groups]
    answers = np.concatenate([np.zeros((0, readers), bool), *arrays])
    return {
        "same_answer": _estimate(len(answers), observed_agreement(answers)),
        "kappa": _estimate(len(answers), kappa(answers), kappa_interval(arrays)),
    }


def make_tables(found: Mapping[str, Mapping[str, Mapping[str, Mapping]]]) -> list[Table]:
    """What `reader_statistics` found, for people."""
    three = "{:.3f}".format
    outlines = [
        (
            f"{display_name(target)}: {pair}",
            str(of[target]["dice"]["n"]),
            _text(of[target]["dice"], percent),
            str(of[target]["hausdorff_mm"]["n"]),
            *(_text(of[target][measure]) for measure in ("hausdorff_mm", "mean_distance_mm")),
        )
        for target in TARGETS
        for pair, of in found.items()
        if target in of
    ]
    sizes = []
    for key, title in SIZES.items():
        for pair, of in found.items():
            limits = ("mean_first", "mean_second", "bias", "lower_limit", "upper_limit")
            cells = [_text(of[key][measure]) if measure in of[key] else "-" for measure in limits]
            cells += [_text(of[key]["icc"], three), _text(of[key]["reproducibility"])]
            sizes.append((f"{title}: {pair}", str(of[key]["icc"]["n"]), *cells))
    answers = [
        (f"{title}: {pair}", str(of[key]["kappa"]["n"]), *_answers(of[key]))
        for key, title in _FINDINGS.items()
        for pair, of in found.items()
    ]
    tables = [
        Table(
            "Outlines",
            ("", "hearts", "Dice %", "hearts with both", "Hausdorff mm", "mean surface distance mm"),
            outlines,
            "Means, with their 95 % intervals by bootstrap over hearts: of Dice over the hearts in which one or both "
            "drew it, of distances over those in which both did.",
        ),
        Table(
            "Sizes",
            (
                *("", "hearts", "first's mean", "second's mean", "bias", "lower limit", "upper limit"),
                *("ICC(2,1)", "reproducibility"),
            ),
            sizes,
            "Bias is the first reader's figure minus the second's, and 95 % of differences lie within the limits of "
            "agreement if they are normal (Bland and Altman 1999). ICC(2,1) is the intraclass correlation for absolute "
            "agreement of single readings (McGraw and Wong 1996). Readings of a heart by two of these readers are no "
            "further apart than the reproducibility coefficient in 95 % of hearts. In brackets 95 % intervals.",
        ),
        Table(
            "Yes or no",
            ("", "answers of each", "same answer %", "kappa"),
            answers,
            "Present is what has a voxel. Kappa, Cohen's of two readers and Fleiss' of more, is 1 for the same answers "
            "and 0 for agreement by chance; in brackets its 95 % interval by bootstrap over hearts. Of segments those "
            "count that every one of the readers reaches.",
        ),
    ]
    segments = [
        segment for segment in aha.SEGMENT_NAMES if any(f"infarct_in_segment_{segment}" in of for of in found.values())
    ]
    if segments:
        rows = [
            (f"{segment} {aha.SEGMENT_NAMES[segment]}", *(_segment_text(of, segment) for of in found.values()))
            for segment in segments
        ]
        note = "In hearts whose segments lie where their names say; in brackets the number of hearts."
        tables.append(Table("Kappa of an infarct by AHA segment", ("", *found), rows, note))
    return tables


def _text(estimate: Mapping, form=plain) -> str:
    return estimate_text(estimate["value"], estimate["interval"], form)


def _answers(of: Mapping) -> tuple[str, str]:
    return number(of["same_answer"]["value"], percent), _text(of["kappa"])


def _segment_text(of: Mapping, segment: int) -> str:
    estimate = of.get(f"infarct_in_segment_{segment}", {}).get("kappa")
    return "-" if estimate is None else f"{number(estimate['value'])} ({estimate['n']})"


def rows_of(found: Mapping[str, Mapping[str, Mapping[str, Mapping]]]) -> Iterator[dict]:
    """What `reader_statistics` found as rows of a table: a row for each measure."""
    for readers, of in found.items():
        for what, measures in of.items():
            for measure, estimate in measures.items():
                lower, upper = estimate["interval"]
                yield {
                    "readers": readers,
                    "of": what,
                    "measure": measure,
                    "n": estimate["n"],
                    "value": estimate["value"],
                    "from_95_percent": lower,
                    "to_95_percent": upper,
                }
