"""Names in a LeRobotDataset v3.0 that what writes and what reads one must agree on."""

from __future__ import annotations

VERSION = "v3.0"
STATE, ACTION = "observation.state", "action"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
PLACE = "data/chunk_index", "data/file_index"
"""Columns of `EPISODES`: where the data file of an episode is."""
FILLER = "last_is_filler"
"""Ours. Key of the action's `info`: an episode's last action is that of standing still, and was not
recorded. It is there since every frame needs one, and since readers repeat it past the end."""
SOURCE = b"source"
"""Ours. Key of the metadata of a file of `EPISODES` of one episode: what it was made from."""
