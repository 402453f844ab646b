"""The log of one network's training: a bar or plain lines, a CSV of metrics, TensorBoard event files."""

import contextlib
import csv
import functools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cascade_jax.data.files import replacing
from cascade_jax.extras import missing
from cascade_jax.progress import duration


@contextlib.contextmanager
def _import_blocked(module: str) -> Iterator[None]:
    """Who tries to import the module meanwhile is told that it is not there, unless it has been imported before."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None
    try:
        yield
    finally:
        del sys.modules[module]


class NoLog:
    """What a process has for a log that leaves it to another."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def steps(self, first: int, losses: Sequence[float], gradient_norms: Sequence[float]) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def validation(self, step: int, dice: Mapping[str, float]) -> None:
        pass


class TrainingLog:
    """The log of one network's training.

    On a terminal it is a bar with the loss, the validation Dice and the time left; piped, a plain line for each
    validation. `metrics.csv` and, where the extra "logs" is installed, TensorBoard event files go to `folder`. A run
    that continues drops what the CSV holds beyond its first step, so that no step stands there twice. What the disk
    says against it is an OSError, or a CaseError at the start.
    """

    COLUMNS = ("step", "loss", "gradient_norm", "validation_dice", "seconds")

    def __init__(self, folder: Path, description: str, first_step: int, steps: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._description, self._first_step, self._steps = description, first_step, steps
        self._started = time.monotonic()
        path = folder / "metrics.csv"
        earlier = []
        if path.exists():
            with path.open(newline="", errors="replace") as file:  # a line that was cut is no loss
                rows = (row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal())
                earlier = [
                    {name: row.get(name) for name in self.COLUMNS} for row in rows if int(row["step"]) <= first_step
                ]
        with replacing(path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.COLUMNS)
            writer.writeheader()
            writer.writerows(earlier)
        self._file = path.open("a", newline="")
        self._rows = csv.DictWriter(self._file, self.COLUMNS)
        self._folder = folder
        self._bar = (
            tqdm(total=steps, initial=first_step, desc=description, unit="step", dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )
        self._shown: dict[str, str] = {}

    @functools.cached_property
    def _events(self) -> Any:
        """The writer of event files; None without the extra."""
        if missing("logs"):
            return None
        # Imported after the first step, which does not need it, and without PyTorch. It would take that with it, where
        # it is installed: seconds and half a gigabyte.
        with _import_blocked("torch"):
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog

        # Without `SummaryWriter`'s thread, in which a full disk would be no error but a queue that nobody empties.
        writer = EventsWriter(str(self._folder / "events"))
        # TensorBoard drops what an earlier start logged of the steps from here on.
        writer.write_event(Event(step=self._first_step + 1, session_log=SessionLog(status=SessionLog.START)))
        return writer

    def _scalar(self, name: str, value: float, step: int) -> None:
        if (events := self._events) is None:
            return
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        events.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        if (events := self.__dict__.get("_events")) is not None:
            events.close()
        if self._bar is not None:
            self._bar.close()

    def steps(self, first: int, losses: Sequence[float], gradient_norms: Sequence[float]) -> None:
        """Records consecutive steps, the first of which has the number `first` (from 1)."""
        seconds = f"{time.monotonic() - self._started:.2f}"
        for step, (loss, norm) in enumerate(zip(losses, gradient_norms, strict=True), start=first):
            self._rows.writerow(
                {"step": step, "loss": f"{loss:.6g}", "gradient_norm": f"{norm:.6g}", "seconds": seconds}
            )
            self._shown["loss"] = f"{loss:.3f}"
            if self._bar is not None:
                self._bar.update(1)
        self._file.flush()
        for step, (loss, norm) in enumerate(zip(losses, gradient_norms, strict=True), start=first):
            self._scalar("loss", loss, step)
            self._scalar("gradient_norm", norm, step)
        if self._bar is not None:
            self._bar.set_postfix(self._shown)

    def say(self, line: str) -> None:
        """Prints a line about this training."""
        line = f"{self._description}: {line}"
        if self._bar is None:
            print(line, flush=True)
        else:
            tqdm.write(line)

    def validation(self, step: int, dice: Mapping[str, float]) -> None:
        """Records the validation Dice of each foreground label after `step` steps."""
        mean = sum(dice.values()) / len(dice)
        self._rows.writerow({"step": step, "validation_dice": f"{mean:.4f}"})
        self._file.flush()
        for label, value in dice.items():
            self._scalar(f"validation_dice/{label}", value, step)
        if self._events is not None:
            self._events.flush()
        self._shown["Dice"] = " ".join(f"{value:.2f}" for value in dice.values())
        if self._bar is not None:
            self._bar.set_postfix(self._shown)
            return
        passed = time.monotonic() - self._started
        left = passed / max(1, step - self._first_step) * (self._steps - step)
        labels = ", ".join(f"{label} {value:.3f}" for label, value in dice.items())
        print(
            f"{self._description}: step {step}/{self._steps}, loss {self._shown.get('loss', '-')}, "
            f"validation Dice {labels}; {duration(passed)} passed, {duration(left)} left",
            flush=True,
        )
