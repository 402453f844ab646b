"""A prepared cohort is written case by case, by several and in any order, and read case by case."""

import numpy as np
import pytest

from cascade_jax.data import prepared
from cascade_jax.data.case import CaseError
from cascade_jax.data.prepared import PreparedCohort, Writer
from cascade_jax.data.preprocess import Example, Grid, heart_box

SHAPE, FILES = (3, 8, 8), {"files": [1, 2]}
GRID = Grid((3, 9, 8), ((0, 3), (1, 8), (0, 8)), (3, 6, 7), ((0, 3), (1, 7), (0, 7)), (0, 0, 0))


def examples(count=3):
    random = np.random.default_rng(0)
    return [
        Example(f"case{i}", random.normal(size=SHAPE).astype("f4"), random.integers(0, 5, SHAPE).astype("u1"), GRID)
        for i in range(count)
    ]


def begin(location, count=3, provenance=FILES, *, replace=False):
    prepared.begin(location, [f"case{i}" for i in range(count)], SHAPE, {"plan": 1}, provenance, replace=replace)


def write_all(location):
    """A complete cohort of three cases, and what wrote it."""
    begin(location)
    writer = Writer(location)
    for number, example in enumerate(examples()):
        writer.write(number, example)
    writer.finish()
    return writer


@pytest.fixture(params=["path", "file", "memory"])
def location(request, tmp_path):
    return {
        "path": tmp_path / "a cohort",
        "file": f"file://{tmp_path}/cohort",
        "memory": f"memory://{tmp_path.name}/cohort",
    }[request.param]


def test_a_cohort_written_by_two_in_any_order_and_read_is_the_same(location):
    written = examples()
    begin(location)
    first, second = Writer(location), Writer(location)
    for number, writer in ((2, second), (0, first), (1, second)):
        assert not writer.has(number)
        writer.write(number, written[number])
        assert first.has(number)
    assert not prepared.is_complete(location, FILES) and prepared.read_provenance(location) is None
    first.finish()
    assert prepared.is_complete(location, FILES) and not prepared.is_complete(location, {"files": [1]})
    cohort = PreparedCohort(location)
    assert (cohort.provenance, cohort.plan, cohort.shape) == (FILES, {"plan": 1}, SHAPE)
    assert cohort.names == ["case0", "case1", "case2"] and cohort[-1].name == "case2"
    for position, (before, after) in enumerate(zip(written, cohort, strict=True)):
        assert (
            (before.name, before.grid) == (after.name, after.grid) == (cohort.names[position], cohort.grids[position])
        )
        np.testing.assert_array_equal(before.image, after.image)
        np.testing.assert_array_equal(before.labels, after.labels)
        assert after.labels.dtype == np.uint8
        np.testing.assert_array_equal(cohort.extents[position], before.grid.extent)
        np.testing.assert_array_equal(cohort.hearts[position], heart_box(before.labels, cohort.extents[position]))


def test_a_cohort_with_a_case_missing_is_not_complete(location):
    begin(location)
    writer = Writer(location)
    for number in (0, 2):
        writer.write(number, examples()[number])
    with pytest.raises(CaseError, match="case case1 is missing"):
        writer.finish()
    assert prepared.read_provenance(location) is None
    with pytest.raises(CaseError, match="holds no complete cohort"):
        PreparedCohort(location)


def test_a_place_in_common_keeps_what_it_holds_and_a_runs_own_is_made_anew(location):
    begin(location)
    Writer(location).write(0, examples()[0])
    assert prepared.read_begun(location, FILES)["plan"] == {"plan": 1}
    assert prepared.read_begun(location, {"files": [3]}) is None
    with pytest.raises(CaseError, match="from other files or for another plan"):
        begin(location, 2, {"files": [3]})
    assert Writer(location).has(0)
    begin(location, 2, {"files": [3]}, replace=True)
    assert not Writer(location).has(0)
    assert prepared.read_begun(location, FILES) is None


def test_a_damaged_case_is_named_and_is_the_only_one_to_be_made_again(tmp_path):
    writer = write_all(tmp_path)
    file = next(path for path in (tmp_path / "labels" / "c" / "1").rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    cohort = PreparedCohort(tmp_path)
    assert cohort[0].name == "case0"
    with pytest.raises(CaseError, match=r"case case1 is damaged .*; remove cohort.json in it to have") as error:
        cohort[1]
    assert "\n" not in str(error.value)
    assert [writer.has(number) for number in range(3)] == [True, False, True]
    writer.write(1, examples()[1])
    np.testing.assert_array_equal(cohort[1].labels, examples()[1].labels)


def test_a_case_of_another_cohort_in_its_place_is_damage(tmp_path):
    """Each array is sound by itself; the checksum that was written down is another."""
    writer = write_all(tmp_path)
    writer._arrays["image"][1].write(examples()[2].image).result()
    assert not writer.has(1)
    with pytest.raises(CaseError, match=r"case case1 is damaged \(its checksum differs"):
        PreparedCohort(tmp_path)[1]


@pytest.mark.parametrize("text", ["", "[{", "3", '{"provenance": 1, "format": 2}'])
def test_a_damaged_index_is_one_line(tmp_path, text):
    (tmp_path / "cohort.json").write_text(text)
    with pytest.raises(CaseError, match=r"cohort\.json.* is damaged; remove its folder to make it again"):
        PreparedCohort(tmp_path)
