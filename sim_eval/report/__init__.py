"""What episodes say of policies, for people: a page (needs the extra `eval`), and text."""

from __future__ import annotations

from ego_ops.errors import UserError
from sim_eval.report.terminal import show

__all__ = ["show", "write_report"]


def write_report(results_url: str, out_html: str) -> str:
    """Write one HTML file about all results in a folder: rates with intervals by suite and task,
    paired comparisons, curves, errors, and what it takes to run it again.

    Plots and stills are in the file; videos stay where they are, and play from a path relative to
    the page.

    Args:
        results_url: folder, or fsspec URL, of `sim_eval.results`.
        out_html: path or URL of the file.

    Returns:
        Path or URL of the file.

    Raises:
        UserError: there are no results, or damaged ones; the file cannot be written; or the extra
            `eval` is not installed.
    """
    try:
        from sim_eval.report import page
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "matplotlib"):
            raise
        raise UserError(
            f"a report needs {error.name}: pip install 'egoscaler-ray[eval]'"
        ) from error
    return page.write(results_url, out_html)
