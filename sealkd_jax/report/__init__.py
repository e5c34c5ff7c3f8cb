"""Reports: what one run did, as a single HTML page."""

from sealkd_jax.report.run import write_report

__all__ = ["write_report"]
