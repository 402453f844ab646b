"""A signal stops at once, but within a step only afterwards; a second one does not wait."""

import os
import signal

import pytest

from cascade_jax.stopping import Stopped, after_the_step, handling_signals


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_outside_a_step_a_signal_stops_at_once(number, status):
    with handling_signals(), pytest.raises(Stopped, match="run the same command again to go on") as stopped:
        send(number)
    assert stopped.value.status == status


def test_within_a_step_it_waits_for_the_end_and_what_is_saved_is_said(capsys):
    done = []
    with (
        handling_signals(),
        pytest.raises(Stopped, match="SIGTERM: stopped and saved at step 7;"),
        after_the_step() as stop_if_asked,
    ):
        stop_if_asked(lambda: pytest.fail("nobody has asked"))
        send(signal.SIGTERM)
        done.append("the step")
        stop_if_asked(lambda: done.append("saved") or " and saved at step 7")
    assert done == ["the step", "saved"]
    assert "stopping after this step" in capsys.readouterr().err


def test_a_second_signal_does_not_wait():
    with handling_signals():
        with pytest.raises(Stopped), after_the_step():
            send(signal.SIGINT)
            send(signal.SIGINT)
        with after_the_step() as stop_if_asked:  # the next training begins with a clean slate
            stop_if_asked(lambda: pytest.fail("nobody has asked"))


def test_the_handlers_of_before_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with handling_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
