"""What a reader leaves out of the manifest, so that nothing disappears unsaid."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Skipped:
    """An annotation that became no clip."""

    reason: str
    """Short snake_case class, counted by `egoscaler index`."""
    where: str
    """The file and entry."""
    detail: str = ""
