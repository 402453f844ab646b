"""One HTML file about a run, or about any folders of predictions and truth."""

from cascade_jax.report.cases import Sources
from cascade_jax.report.page import write_report

__all__ = ["Sources", "write_report"]
