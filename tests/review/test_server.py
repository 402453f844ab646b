"""The review page's server answers whoever has its address, about the cases that were found, and nobody else."""

import http.client
import json
import threading

import nibabel as nib
import numpy as np
import pytest

from cascade_jax.data import emidec
from cascade_jax.data.case import CaseError
from cascade_jax.review.cases import find_cases
from cascade_jax.review.display import drawing_of, labels_of
from cascade_jax.review.server import ReviewServer
from tests.review.hearts import SHAPE, write_predictions

VOXELS = int(np.prod(SHAPE))


class Served:
    """A running server, and what a browser sends it."""

    def __init__(self, root):
        self.labels = write_predictions(root)
        self.out, self.scans = root / "out", root / "scans"
        cases, self.faults = find_cases(self.out, self.scans)
        self.server = ReviewServer(self.out, cases, "Ada")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_port}"

    def ask(self, path, body=None, *, token=None, headers=None):
        """Status, headers and content of the answer; `path` follows the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=60)
        sent = {"Origin": f"http://{self.host}"} | (headers or {}) if body is not None else headers or {}
        token = self.server.token if token is None else token
        connection.request("GET" if body is None else "POST", f"/{token}/{path}", body, sent)
        answer = connection.getresponse()
        result = answer.status, answer.headers, answer.read()
        connection.close()
        return result

    def json(self, path, body=None):
        status, _, content = self.ask(path, body)
        assert status == 200, content
        return json.loads(content)

    def save(self, labels, query="", **options):
        version = self.json("cases/0/case")["version"]
        return self.ask(f"cases/0/save?version={version}{query}", drawing_of(labels), **options)


@pytest.fixture
def served(tmp_path):
    served = Served(tmp_path)
    yield served
    served.server.shutdown()
    served.server.server_close()


def error(answer, status):
    assert answer[0] == status, answer
    return json.loads(answer[2])["error"]


def test_it_listens_on_this_machine_alone_and_its_address_is_a_secret(served):
    assert served.server.server_address[0] == "127.0.0.1"
    assert len(served.server.token) > 40
    assert served.ask("")[0] == 200


@pytest.mark.parametrize("token", ["", "x", "x" * 43])
@pytest.mark.parametrize("path", ["", "review.js", "cases", "cases/0/case", "cases/0/labels"])
def test_nothing_is_answered_without_the_token(served, token, path):
    assert "token" in error(served.ask(path, token=token), 403)


def test_nothing_is_written_without_the_token(served):
    assert "token" in error(served.ask("cases/0/save", drawing_of(served.labels), token="x"), 403)
    assert not (served.out / "bad" / "Corrected").exists()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_another_host_name_is_refused(served, host):
    """As a page has it that makes its own name resolve to this machine."""
    headers = {"Host": host.format(port=served.server.server_port)}
    assert "another address" in error(served.ask("cases", headers=headers), 403)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
def test_nothing_is_taken_from_another_page(served, origin):
    assert "another page" in error(served.save(served.labels, headers={"Origin": origin}), 403)
    assert not (served.out / "bad" / "Corrected").exists()


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "static/../server.py",
        "server.py",
        "cases/9/case",
        "cases/-1/case",
        "cases/0/../1/case",
        "cases/bad/case",
    ],
)
def test_no_path_leads_out_of_the_cases(served, path):
    assert served.ask(path)[0] == 404


def test_a_case_whose_file_is_a_link_out_of_the_folder_is_left_out(tmp_path):
    write_predictions(tmp_path)
    contour = emidec.contour_path(tmp_path / "out", "good")
    contour.rename(tmp_path / "elsewhere.nii.gz")
    contour.symlink_to(tmp_path / "elsewhere.nii.gz")
    cases, faults = find_cases(tmp_path / "out", tmp_path / "scans")
    assert [case.name for case in cases] == ["bad"]
    assert "leads out of" in faults["good"]


def test_a_correction_that_is_a_link_out_of_the_folder_is_not_shown(served, tmp_path):
    folder = served.out / "bad" / "Corrected"
    folder.mkdir()
    (folder / "bad.nii.gz").symlink_to(emidec.contour_path(served.out, "bad").rename(tmp_path / "elsewhere.nii.gz"))
    emidec.contour_path(served.out, "bad").write_bytes((tmp_path / "elsewhere.nii.gz").read_bytes())
    assert "leads out of" in error(served.ask("cases/0/labels"), 422)


def test_the_page_may_load_nothing_from_elsewhere(served):
    for path in ("", "review.js", "cases", "nowhere"):
        _, headers, _ = served.ask(path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_most_doubtful_case_comes_first_with_its_numbers(served):
    told = served.json("cases")
    assert told["reader"] == "Ada"
    assert [row["name"] for row in told["cases"]] == ["bad", "good"]
    first = told["cases"][0]
    assert first["expected_dice"] == [0.7, 0.5, None]
    assert first["doubtful"] == "it is dark"
    infarct = np.count_nonzero(served.labels == 3) * 10.0 * 1.458 * 1.406 / 1000
    assert first["infarct_g"] == pytest.approx(1.05 * infarct, rel=1e-3)


def test_image_and_labels_are_sent_as_the_viewer_has_them(served):
    image = nib.Nifti1Image.from_bytes(served.ask("cases/0/image.nii")[2])
    assert image.header.get_zooms() == pytest.approx((1.406, 1.458, 10.0))
    assert np.array_equal(labels_of(served.ask("cases/0/labels")[2], SHAPE), served.labels)


def test_a_correction_is_measured_and_saved_beside_the_prediction_and_shown_again(served):
    prediction = emidec.contour_path(served.out, "bad").read_bytes()
    corrected = served.labels.copy()
    corrected[2][corrected[2] == 2] = 3
    measured = served.json("cases/0/measure", drawing_of(corrected))
    assert not (served.out / "bad" / "Corrected").exists()
    status, _, content = served.save(corrected, "&anterior=123&inferior=240&dragged=yes")
    told = json.loads(content)
    assert status == 200
    grams = {row[0]: row[2:] for row in told["rows"]}["infarct"]
    assert float(grams[1]) > float(grams[0])
    assert grams == {row[0]: row[2:] for row in measured["rows"]}["infarct"]
    written = served.out / "bad" / "Corrected" / "bad.nii.gz"
    assert np.array_equal(emidec.read_labels(written)[0], corrected)
    record = json.loads(written.with_name("bad.json").read_text())["saves"][0]
    assert (record["reader"], record["insertion_degrees"]) == ("Ada", 123.0)
    assert emidec.contour_path(served.out, "bad").read_bytes() == prediction
    again = served.json("cases/0/case")
    assert again["corrected"].startswith("Ada, ")
    assert again["insertions"] == {"anterior": 123.0, "inferior": 240.0, "dragged": True}
    assert np.array_equal(labels_of(served.ask("cases/0/labels")[2], SHAPE), corrected)
    assert np.array_equal(labels_of(served.ask("cases/0/prediction")[2], SHAPE), served.labels)
    assert served.json("cases")["cases"][0]["corrected"] == again["corrected"]


def test_saving_without_a_change_gives_identical_labels(served):
    assert served.save(served.labels)[0] == 200
    assert np.array_equal(emidec.read_labels(served.out / "bad" / "Corrected" / "bad.nii.gz")[0], served.labels)


def test_insertions_that_were_left_alone_are_not_recorded(served):
    assert served.save(served.labels, "&anterior=123&dragged=no")[0] == 200
    record = json.loads((served.out / "bad" / "Corrected" / "bad.json").read_text())["saves"][0]
    assert record["insertion_degrees"] is None


def test_a_second_save_from_the_same_page_replaces_the_first_and_one_from_an_older_page_is_refused(served):
    older = served.json("cases/0/case")["version"]
    assert served.save(served.labels)[0] == 200
    corrected = np.where(served.labels == 3, 2, served.labels).astype(np.uint8)
    assert served.save(corrected)[0] == 200
    answer = served.ask(f"cases/0/save?version={older}", drawing_of(served.labels))
    assert "saved from elsewhere" in error(answer, 409)
    written = served.out / "bad" / "Corrected" / "bad.nii.gz"
    assert np.array_equal(emidec.read_labels(written)[0], corrected)
    assert len(json.loads(written.with_name("bad.json").read_text())["saves"]) == 2


@pytest.mark.parametrize(
    ("length", "status"), [(VOXELS + 1, 413), (10**11, 413), (VOXELS - 1, 400), ("", 411), ("-1", 411)]
)
def test_nothing_but_as_many_bytes_as_there_are_voxels_is_taken(served, length, status):
    """Told from what is announced, before it is read."""
    answer = served.ask("cases/0/save", b"", headers={"Content-Length": str(length)})
    assert error(answer, status)
    assert not (served.out / "bad" / "Corrected").exists()


def test_bytes_that_are_no_labels_are_refused(served):
    assert "no label" in error(served.ask("cases/0/measure", b"\5" * VOXELS), 400)


@pytest.mark.parametrize("angle", ["nan", "inf", "north"])
def test_what_is_no_angle_is_refused(served, angle):
    assert "no angle" in error(served.ask(f"cases/0/measure?anterior={angle}", drawing_of(served.labels)), 400)


def test_a_folder_that_cannot_be_written_to_is_said_in_a_line(served):
    (served.out / "bad" / "Corrected").write_text("in the way")
    line = error(served.save(served.labels), 422)
    assert "Corrected" in line
    assert "cannot be written" in line


def test_an_image_that_is_not_on_the_predictions_grid_is_said_in_a_line(tmp_path):
    write_predictions(tmp_path)
    contour = emidec.contour_path(tmp_path / "out", "bad")
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 3), np.uint8), np.diag([1.4, 1.4, 10, 1])), contour)
    cases, _ = find_cases(tmp_path / "out", tmp_path / "scans")
    from cascade_jax.review.cases import open_case

    with pytest.raises(CaseError, match=str(contour)):
        open_case(cases[0])
