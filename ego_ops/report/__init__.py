"""A page that shows what an extraction found, for people to look at. Needs the extra `demo`."""

from __future__ import annotations

from pathlib import Path

from ego_ops.errors import UserError


def write(
    shards_url: str, out: str | Path, truth_root: str | Path | None = None, limit: int = 24
) -> Path:  # fmt: skip
    """Write one HTML file that needs no other: pictures and plots are in it, about 0.5 MB a clip.

    Videos are read again for their pictures, from where the manifest of the run says they are;
    where they cannot be read, the small pictures of the shards serve.

    Args:
        shards_url: folder of the shards, with their `run.json`.
        out: the HTML file.
        truth_root: folder with the true poses, `{video_uid}.npz` (of a demo corpus: its folder
            `truth`) or `{corpus}/truth/{video_uid}.npz` (the demo's own folder); see
            `ego_ops.report.measure`.
        limit: largest number of clips to show; the sums are over all.

    Returns:
        The file.

    Raises:
        UserError: nothing is committed, the truth is of other clips, the file cannot be written,
            or the extra `demo` is not installed.
    """
    try:
        from ego_ops.report import page
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "matplotlib"):
            raise
        raise UserError(
            f"a report needs {error.name}: pip install 'egoscaler-ray[demo]'"
        ) from error
    truth = None if truth_root is None else str(truth_root)
    return page.write(shards_url, Path(out), truth, limit)
