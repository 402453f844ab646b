"""What machines have measured, read from files of the suite `scaling`, as a table and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cascade_jax.errors import CaseError
from launch.benchmarks import scaling, scaling_tables

_COLUMNS = (
    "machine",
    "stage",
    "dtype",
    "samples a second, one device (range)",
    "of a matrix product's rate",
    "compiling, s",
    "memory of a device, GB",
    "best batch on one device: samples a second",
    "larger ones",
    "devices",
    "samples a second, all",
    "efficiency",
    "cases a second",
)


class Curve(NamedTuple):
    """Samples a second of a stage in a dtype: {devices: value} with a batch for each, {batch on one device: value}."""

    stage: int
    dtype: str
    over_devices: dict[int, float]
    over_batches: dict[int, float]


class Machine(NamedTuple):
    """What a file says.

    Attributes:
        name: of the machine.
        description: in one line.
        rows: of the table, without the machine's name.
        curves: of the plot.
    """

    name: str
    description: str
    rows: list[list[str]]
    curves: list[Curve]


def read_machine(path: Path) -> Machine:
    """Reads a file of the suite `scaling`.

    Raises:
        CaseError: it cannot be read, is of something else, or lacks a figure.
    """
    from cascade_jax.data.files import read_json

    figures = read_json(path)
    if not isinstance(figures, dict) or figures.get("suite") != scaling.SUITE:
        raise CaseError(path, "is not what `cascade-jax benchmark --suites=scaling --output=FILE.json` writes")
    try:
        points, predictions = figures["points"], figures["predictions"]
        groups = list(dict.fromkeys((point["stage"], point["dtype"]) for point in points))
        rows, curves = [], []
        for stage, dtype in sorted(groups):
            if stage - 1 not in scaling.STAGES:
                raise ValueError(f"there is no stage {stage}")
            own = [point for point in points if (point["stage"], point["dtype"]) == (stage, dtype)]
            rows.append([str(stage), dtype, *_cells(own, [one for one in predictions if one["dtype"] == dtype])])
            curves.append(Curve(stage, dtype, _over(own, "weak", "devices"), _over(own, "batch", "batch_size")))
        return Machine(path.stem, scaling_tables.describe_machine(figures["about"]), rows, curves)
    except KeyError as error:
        raise CaseError(path, f"is damaged: it lacks {error}") from None
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CaseError(path, f"is damaged: {error}") from None


def _over(points: Sequence[Mapping], series: str, by: str) -> dict[int, float]:
    measured = [point for point in points if point["status"] == scaling.MEASURED and series in point["series"]]
    return {int(point[by]): float(point["samples_a_second"]) for point in sorted(measured, key=lambda one: one[by])}


def _cells(points: Sequence[Mapping], predictions: Sequence[Mapping]) -> list[str]:
    """A row's cells, from the fourth column on, from the figures of one stage in one dtype."""
    weak = sorted((point for point in points if "weak" in point["series"]), key=lambda point: point["devices"])
    return [*_one_device(weak), *_batches(points), *_all_devices(weak), _cases(predictions)]


def _one_device(weak: Sequence[Mapping]) -> list[str]:
    if not weak or weak[0]["devices"] != 1:
        return [""] * 4
    one = weak[0]
    if one["status"] != scaling.MEASURED:
        return [one["status"], "", "", ""]
    share, memory = f"{100 * one['utilisation']:.0f} %", scaling_tables.memory_of(one)
    return [_with_range(one), share, f"{one['compile_seconds']:.0f}", f"{memory / 1e9:.2f}" if memory else ""]


def _batches(points: Sequence[Mapping]) -> list[str]:
    batches = _over(points, "batch", "batch_size")
    if not batches:
        return ["", ""]
    best = max(batches, key=batches.get)
    tried = [point for point in points if "batch" in point["series"]]
    full = [point["batch_size"] for point in tried if point["status"] == scaling.OUT_OF_MEMORY]
    return [f"{best}: {batches[best]:.3g}", f"{min(full)} does not fit" if full else "not tried"]


def _all_devices(weak: Sequence[Mapping]) -> list[str]:
    measured = [point for point in weak if point["status"] == scaling.MEASURED]
    if not measured:
        return [""] * 3
    many = measured[-1]
    efficiency = f"{many['efficiency']['weak']:.2f}" if "weak" in many["efficiency"] else ""
    return [str(many["devices"]), f"{many['samples_a_second']:.3g}", efficiency]


def _cases(predictions: Sequence[Mapping]) -> str:
    rates = [(one["cases_a_second"], one["devices"]) for one in predictions if one["status"] == scaling.MEASURED]
    if not rates:
        return ""
    rate, devices = max(rates)
    return f"{rate:.3g}" + (f" on {devices} devices" if devices > 1 else "")


def _with_range(point: Mapping) -> str:
    batch, seconds = point["batch_size"], point["step_seconds"]
    return f"{point['samples_a_second']:.3g} ({batch / seconds['highest']:.3g} to {batch / seconds['lowest']:.3g})"


def table(machines: Sequence[Machine]) -> str:
    """The table in Markdown, and a line on each machine."""
    rows = [scaling_tables.table_row([machine.name, *row]) for machine in machines for row in machine.rows]
    about = [f"- {machine.name}: {machine.description}" for machine in machines]
    return "\n".join([*scaling_tables.table_head(_COLUMNS), *rows, "", *about])


def draw(path: Path, machines: Sequence[Machine]) -> None:
    """Writes the plot as PNG: a row for each stage, a colour for each machine, a line style for each dtype.

    Raises:
        CaseError: the file cannot be written.
    """
    # Imported where it is used: help and a broken file are answered without.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    from cascade_jax.data.files import replacing
    from cascade_jax.report.charts import COLOURS

    figure = Figure((10, 7), dpi=150, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(2, 2, squeeze=False)
    handles: dict[str, Any] = {}
    for index, machine in enumerate(machines):
        for curve in machine.curves:
            style = {
                "color": COLOURS[index % len(COLOURS)],
                "linestyle": "-" if curve.dtype == scaling.DTYPES[0] else "--",
                "marker": "osD^v"[index // len(COLOURS) % 5],
            }
            for axes, values in zip(grid[curve.stage - 1], (curve.over_devices, curve.over_batches), strict=True):
                if values:
                    [handles[f"{machine.name}, {curve.dtype}"]] = axes.plot(*zip(*values.items(), strict=True), **style)
    for stage, row in enumerate(grid, start=1):
        for axes, label in zip(row, ("devices, as large a batch on each", "batch on one device"), strict=True):
            if not axes.lines:
                axes.set_axis_off()
                continue
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set(xlabel=label, ylabel=f"stage {stage}: samples a second")
            shown = sorted({int(x) for line in axes.lines for x in line.get_xdata()})
            axes.set_xticks(shown, [str(x) for x in shown])
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
            axes.grid(alpha=0.3)
    if handles:
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    with replacing(path) as partial:
        # Without matplotlib's version in it, the same figure gives the same file.
        canvas.print_png(partial, metadata={"Software": None})
