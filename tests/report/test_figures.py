"""The picture of a case: labels where they belong, in the paper's colours, over an image still to be seen."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from cascade_jax.data.case import CAVITY, INFARCTION, LABEL_NAMES, MYOCARDIUM, NO_REFLOW, CaseError
from cascade_jax.report import figures
from cascade_jax.report.figures import LABEL_COLOURS, draw_case, write_colour_tables

SPACING = (10.0, 1.5, 1.5)
SHAPE = (2, 60, 50)


def noise(shape=SHAPE):
    return np.random.default_rng(0).normal(2300, 100, shape).astype(np.float32)


def four_blocks(shape=SHAPE):
    """In the first slice blocks side by side, one of each label; nothing in the others."""
    labels = np.zeros(shape, np.uint8)
    for label in (CAVITY, MYOCARDIUM, INFARCTION, NO_REFLOW):
        labels[0, 25:35, 5 + 8 * label : 13 + 8 * label] = label
    return labels


def draw(path, image, panels, **options):
    """The pixels of the picture, (height, width, RGB), without the legend below the tiles."""
    draw_case(path, image, panels, spacing=options.pop("spacing", SPACING), **options)
    picture = imread(path)[..., :3]
    return picture[: -round(figures.FOOT * figures.DOTS_PER_INCH)]


def coloured(picture, label):
    """Where a picture has a label's hue: the directions from grey of pixel and label colour agree."""
    hue = np.array(to_rgb(LABEL_COLOURS[label]))
    hue -= hue.mean()
    offset = picture - picture.mean(-1, keepdims=True)
    length = np.linalg.norm(offset, axis=-1)
    return (offset @ hue > 0.97 * length * np.linalg.norm(hue)) & (length > 0.2)


def test_the_colours_are_the_papers():
    red, green, blue = range(3)
    for label, strongest in {CAVITY: red, MYOCARDIUM: green, INFARCTION: blue}.items():
        assert np.argmax(to_rgb(LABEL_COLOURS[label])) == strongest
    yellow = to_rgb(LABEL_COLOURS[NO_REFLOW])
    assert min(yellow[red], yellow[green]) > 0.8 and yellow[blue] < 0.2
    assert set(LABEL_COLOURS) == set(range(1, len(LABEL_NAMES)))


def test_every_label_appears_in_its_colour_where_it_lies_and_the_image_row_stays_grey(tmp_path):
    picture = draw(tmp_path / "case.png", noise(), {"truth": four_blocks()})
    image_row, truth_row = np.array_split(picture[round(figures.HEADINGS * figures.DOTS_PER_INCH) :], 2)
    centres = []
    for label in LABEL_COLOURS:
        assert not coloured(image_row, label).any()
        rows, columns = coloured(truth_row, label).nonzero()
        assert len(rows) > 200
        centres.append(columns.mean())
        assert columns.max() < picture.shape[1] / 2, "the second slice has no labels"
    assert centres == sorted(centres)


def test_the_image_is_still_seen_through_the_labels(tmp_path):
    picture = draw(tmp_path / "case.png", noise(), {"truth": four_blocks()})
    assert picture[coloured(picture, CAVITY)].std(axis=0).max() > 0.05


def test_every_panel_shows_its_own_labels_in_the_same_window(tmp_path):
    truth, prediction = four_blocks(), np.zeros(SHAPE, np.uint8)
    prediction[0, 27:33, 20:40] = CAVITY
    picture = draw(tmp_path / "case.png", noise(), {"truth": truth, "prediction": prediction})
    _, truth_row, prediction_row = np.array_split(picture[round(figures.HEADINGS * figures.DOTS_PER_INCH) :], 3)
    assert coloured(truth_row, NO_REFLOW).any() and not coloured(prediction_row, NO_REFLOW).any()
    areas = [coloured(row, CAVITY).sum() for row in (truth_row, prediction_row)]
    np.testing.assert_allclose(areas[1] / areas[0], (6 * 20) / (10 * 8), rtol=0.15)


def test_a_square_in_millimetres_is_drawn_square_whatever_the_pixels(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 20:40, 20:30] = CAVITY
    picture = draw(tmp_path / "case.png", noise(), {"truth": labels}, spacing=(10, 1, 2))
    first_tile = coloured(picture, CAVITY)[:, : picture.shape[1] // 2]
    rows, columns = first_tile.nonzero()
    np.testing.assert_allclose(np.ptp(rows), np.ptp(columns), rtol=0.05)


def test_the_picture_grows_with_slices_and_panels(tmp_path):
    one = draw(tmp_path / "one.png", noise((5, 60, 50)), {"truth": four_blocks((5, 60, 50))})
    shape = (7, 60, 50)
    more = draw(tmp_path / "more.png", noise(shape), dict.fromkeys(("truth", "stage one"), four_blocks(shape)))
    tile = (figures.TILE + figures.GAP) * figures.DOTS_PER_INCH
    np.testing.assert_allclose(np.subtract(more.shape, one.shape), (tile, 2 * tile, 0), atol=2)


def test_a_case_without_any_label_is_shown_whole_in_greys(tmp_path):
    image = noise()
    image[:, :3, :3] = 5000
    picture = draw(tmp_path / "case.png", image, {"prediction": np.zeros(SHAPE, np.uint8)}, title="Case_P001")
    assert np.ptp(picture, axis=-1).max() < 0.01
    tile = picture[round((figures.TITLE + figures.HEADINGS) * figures.DOTS_PER_INCH) + 20 :]
    assert 0.1 < tile[tile < 0.99].mean() < 0.9


def test_the_slices_run_from_left_to_right(tmp_path):
    image = np.full((3, 60, 50), [[[1000.0]], [[2000.0]], [[3000.0]]])
    band = draw(tmp_path / "case.png", image, {})[100:150, :, 0]
    (dark,) = (band < 0.02).all(axis=0).nonzero()
    (middle,) = (np.abs(band - 0.5) < 0.02).all(axis=0).nonzero()
    assert len(dark) > 100 and len(middle) > 100
    assert dark.max() < middle.min()


def test_the_black_border_does_not_change_the_greys_of_the_tissue(tmp_path):
    bordered = noise()
    bordered[:, 40:] = 0
    plain, other = (draw(tmp_path / "case.png", image, {})[100:150] for image in (noise(), bordered))
    assert np.abs(plain - other).mean() < 0.02


def test_an_image_that_is_border_throughout_is_drawn_all_the_same(tmp_path):
    picture = draw(tmp_path / "case.png", np.zeros(SHAPE), {"truth": four_blocks()})
    assert all(coloured(picture, label).sum() > 200 for label in LABEL_COLOURS)


def test_the_same_case_gives_the_same_file(tmp_path):
    for name in "ab":
        draw(tmp_path / name, noise(), {"truth": four_blocks()})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"matplotlib" not in (tmp_path / "a").read_bytes(), "a new version of it would change the file"


def test_drawing_leaves_no_other_file_and_an_earlier_picture_whole_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "case.png"
    draw(path, noise(), {"truth": four_blocks()})
    before = path.read_bytes()

    def disk_full(self, filename, **_):
        filename.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FigureCanvasAgg, "print_png", disk_full)
    with pytest.raises(CaseError, match=r"case\.png: cannot be written: No space left"):
        draw(path, noise(), {"truth": four_blocks()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_labels_of_another_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'prediction' has shape"):
        draw(tmp_path / "case.png", noise(), {"prediction": four_blocks()[:1]})


def test_a_name_is_no_formula(tmp_path):
    def width_of(title):
        """Columns of the picture in which the line of the title has ink."""
        picture = draw(tmp_path / "case.png", noise(), {}, title=title)[: round(figures.TITLE * figures.DOTS_PER_INCH)]
        return np.count_nonzero((picture < 0.9).any(axis=(0, 2)))

    assert width_of("aaaa$aaaa$$$$$$") > 1.3 * width_of("aaaaaaaa"), "each character is drawn"
    assert width_of(r"a$\frac{$b") > width_of("ab")


def test_other_programs_get_the_names_and_colours_of_the_pictures(tmp_path):
    write_colour_tables(tmp_path)
    slicer = [line.split() for line in (tmp_path / "labels.ctbl").read_text().splitlines() if line[0] != "#"]
    bids = [line.split("\t") for line in (tmp_path / "dseg.tsv").read_text().splitlines()[1:]]
    assert [row[1] for row in slicer] == [row[1] for row in bids] == list(LABEL_NAMES)
    for number, colour in LABEL_COLOURS.items():
        assert np.allclose([int(level) / 255 for level in slicer[number][2:5]], to_rgb(colour))
        assert bids[number] == [str(number), LABEL_NAMES[number], colour]


def test_the_right_ventricles_insertions_are_marked_in_the_image_or_said_not_to_be_found(tmp_path):
    y, x = np.indices(SHAPE[1:])
    radius = np.hypot(y - 30, x - 25)
    labels = np.broadcast_to(np.select([radius < 8, radius < 13], [CAVITY, MYOCARDIUM], 0), SHAPE).astype(np.uint8)
    dark = np.zeros(SHAPE, np.float32)
    dark[:, 0, 0] = 1

    def column_of_mark(degrees):
        """Where, from the left of the first slice's tile to its right (0 to 1), the picture is white inside it."""
        picture = draw(tmp_path / "case.png", dark, {"prediction": labels}, insertions={"A": degrees})
        first, tile = (round(inches * figures.DOTS_PER_INCH) for inches in (figures.HEADINGS, figures.TILE))
        left = picture.shape[1] // 2 - round((figures.TILE + figures.GAP) * figures.DOTS_PER_INCH)
        left += round(figures.LEFT * figures.DOTS_PER_INCH / 2)
        inside = picture[first + 20 : first + tile - 20, left + 20 : left + tile - 20]
        return np.nonzero((inside > 0.8).all(axis=-1))[1].mean() / (tile - 40)

    assert column_of_mark(180.0) < 0.3 < 0.7 < column_of_mark(0.0)
    draw_case(tmp_path / "none.png", dark, {"prediction": labels}, spacing=SPACING, insertions={})
    draw_case(tmp_path / "plain.png", dark, {"prediction": labels}, spacing=SPACING)
    assert len(imread(tmp_path / "none.png")) > len(imread(tmp_path / "plain.png")), "a line of words more"


def test_the_pictures_of_the_documents_have_all_their_colours():
    from PIL import Image

    pictures = list((Path(__file__).parents[2] / "docs").glob("*.png"))
    assert pictures
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.mode in ("RGB", "RGBA"), path
