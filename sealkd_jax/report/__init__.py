"""Reports: what one run did, or how methods compare, as a single HTML page."""

from sealkd_jax.plots.panels import PANELS
from sealkd_jax.report.comparison import write_comparison_report
from sealkd_jax.report.run import write_report

__all__ = ["PANELS", "write_comparison_report", "write_report"]
