"""The 17-segment plot."""

import re

import numpy as np
import pytest

from cascade_jax.quantify.aha import SEGMENT_NAMES
from cascade_jax.report.bullseye import TERRITORIES, as_svg, colour_of, ink_on, on_circle, place_of, values_of


def segment(number, maximum=0.0, mean=np.nan, share=0.0):
    return {
        "segment": number,
        "transmurality_max_percent": maximum,
        "transmurality_mean_percent": mean,
        "infarct_percent": share,
        "infarct_g": share,
    }


HEART = [segment(1, 37.0, 20.0, 12.0), segment(2), segment(17, 92.0, 80.0, 55.0)]


def test_segments_say_value_number_and_name_and_those_not_reached_are_empty():
    svg = as_svg(HEART, "transmurality_max_percent", "maximum transmurality of a case")
    assert re.findall(r">(\d+|-)</text>", svg)[:4] == ["37", "1", "0", "2"]
    assert svg.count(">-</text>") == 14
    assert (
        "<title>1 basal anterior: maximum transmurality, %: 37; mean transmurality, %: 20; infarct share, %: 12<" in svg
    )
    assert svg.count("not reached by the stack") == 14
    for number, name in SEGMENT_NAMES.items():
        assert f"<title>{number} {name}:" in svg
    assert [text in svg for text in (">0 %<", ">100 %<")] == [True, True], "a colour bar"


def test_every_segment_belongs_to_one_artery_and_lies_beside_its_arc():
    assert sorted(number for territory in TERRITORIES for number in territory.segments) == list(range(1, 18))
    for territory in TERRITORIES:
        for number in territory.segments:
            if number <= 12:
                assert 0 <= (place_of(number).start - territory.start) % 360 <= 60
    svg = as_svg(HEART, "infarct_percent", "shares")
    assert [name for name in ("LAD", "RCA", "LCX") if f">{name}</text>" in svg] == ["LAD", "RCA", "LCX"]


def test_counted_from_the_x_axis_is_written_across_and_no_wall_or_artery_is_named():
    svg = as_svg(HEART, "infarct_percent", "shares", from_x_axis=True)
    assert svg.count(">counted from the x axis</text>") == 1
    assert ">anterior<" not in svg
    assert "LAD" not in svg


def test_without_infarct_the_mean_transmurality_is_none_of_the_wall():
    without_wall = segment(3, maximum=np.nan)
    assert values_of([*HEART, without_wall], "transmurality_mean_percent") == {1: 20.0, 2: 0.0, 17: 80.0}


def test_anterior_is_at_the_top_and_the_septum_to_the_left():
    anterior, septum, lateral = (place_of(number).middle for number in (7, 14, 16))
    assert anterior == pytest.approx((0, 2.5))
    assert septum == pytest.approx((-1.5, 0))
    assert lateral == pytest.approx((1.5, 0))
    assert on_circle(2, 90) == pytest.approx((0, 2))


def test_more_is_darker_and_the_writing_stays_legible():
    def luminance(colour):  # relative, as WCAG 2 has it
        levels = np.array(list(bytes.fromhex(colour[1:]))) / 255
        return np.where(levels <= 0.03928, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)

    shades = [luminance(colour_of(percent)) for percent in range(0, 101, 5)]
    assert shades == sorted(shades, reverse=True)
    for percent in range(101):
        dark, light = sorted((luminance(ink_on(percent)), luminance(colour_of(percent))))
        assert (light + 0.05) / (dark + 0.05) > 4
