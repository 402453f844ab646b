"""What the suite `scaling` has measured, in words."""

from collections.abc import Mapping, Sequence

from launch.benchmarks.scaling import MEASURED

_COLUMNS = (
    "stage",
    "dtype",
    "devices",
    "batch",
    "step, ms: median (range)",
    "samples a second",
    "weak: times one device (efficiency)",
    "strong: times one device (efficiency)",
    "TFLOP/s (of a matrix product's)",
    "compiling, s",
    "memory of a device, GB",
)


def as_text(figures: Mapping) -> str:
    """The figures as tables in Markdown."""
    about = figures["about"]
    lines = [describe_machine(about)]
    if figures["points"]:
        lines += ["", *table_head(_COLUMNS), *map(_row, figures["points"])]
    if figures["predictions"]:
        lines += ["", *table_head(("prediction", "devices", "cases a second", "a case, s: median (range)"))]
    for point in figures["predictions"]:
        cells = [f"{point['status']}: {point['reason']}", ""]
        if point["status"] == MEASURED:
            cells = [f"{point['cases_a_second']:.3g}", _range(point["case_seconds"], 1)]
        lines.append(table_row([point["dtype"], str(point["devices"]), *cells]))
    return "\n".join(lines)


def describe_machine(about: Mapping) -> str:
    """A machine in one line."""
    memory = about["memory_bytes_of_a_device"] or about["memory_bytes_of_the_host"]
    parts = [
        f"{about['device_count']} x {about['device']}" if about["platform"] != "cpu" else about["processor"],
        f"{memory / 1e9:.0f} GB" if memory else "",
        f"{about['cores']} cores",
        "pretended devices, which share the cores" if about["pretended_devices"] else "",
        f"jax {about['versions']['jax']}, jaxlib {about['versions']['jaxlib']}",
        about["driver"] or "",
        f"commit {about['commit']}" if about["commit"] else f"cascade_jax {about['versions']['cascade_jax']}",
        "a trial, whose figures mean nothing" if about["trial"] else "",
    ]
    return "; ".join(part for part in parts if part)


def memory_of(point: Mapping) -> float | None:
    """Bytes on a device: the peak where the device tells it, else by XLA's plan."""
    memory = point.get("memory") or {}
    return memory.get("peak_bytes_of_a_device") or memory.get("program_bytes_of_a_device")


def _row(point: Mapping) -> str:
    cells = [str(point["stage"]), point["dtype"], str(point["devices"]), str(point["batch_size"])]
    memory = memory_of(point)
    gigabytes = f"{memory / 1e9:.2f}" if memory else ""
    compiling = f"{point['compile_seconds']:.1f}" if "compile_seconds" in point else ""
    if point["status"] != MEASURED:
        return table_row([*cells, f"{point['status']}: {point['reason']}", "", "", "", "", compiling, gigabytes])
    scaling = [
        f"{point['speed_up'][series]:.2f} ({point['efficiency'][series]:.2f})" if series in point["speed_up"] else ""
        for series in ("weak", "strong")
    ]
    rate = f"{point['flops_a_second'] / 1e12:.3g} ({100 * point['utilisation']:.0f} %)"
    samples = f"{point['samples_a_second']:.3g}"
    return table_row([*cells, _range(point["step_seconds"], 1000), samples, *scaling, rate, compiling, gigabytes])


def _range(seconds: Mapping, scale: float) -> str:
    median, lowest, highest = (scale * seconds[name] for name in ("median", "lowest", "highest"))
    return f"{median:.3g} ({lowest:.3g} to {highest:.3g})"


def table_head(columns: Sequence[str]) -> list[str]:
    """The first two lines of a table in Markdown."""
    return [table_row(columns), "|---" * len(columns) + "|"]


def table_row(cells: Sequence[str]) -> str:
    """A line of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
