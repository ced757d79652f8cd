"""What a reader leaves out of the manifest, so that nothing disappears unsaid."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Skipped:
    """An annotation, or several of one kind, that became no clip."""

    reason: str
    """Short snake_case class, counted by `egoscaler index`."""
    where: str
    """The file and entry."""
    detail: str = ""
    count: int = 1
    """How many annotations this stands for: all those of a video that is missing, say."""
