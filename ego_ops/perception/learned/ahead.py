"""Clips that are decoded while another is worked on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from ego_ops.clip import Clip
from ego_ops.perception.decoded import Decoded, Decoding


class Ahead:
    """Decodes in one thread, one clip ahead."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._begun: OrderedDict[str, Future[Decoded]] = OrderedDict()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def begin(self, clip: Clip) -> None:
        """Begin to decode `clip`. Whatever was begun before the clip that is worked on now is
        given up, so that no more than two clips' frames are held."""
        with self._lock:
            if clip.clip_id in self._begun:
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "decode")
            self._begun[clip.clip_id] = self._pool.submit(self._decoding, clip)
            while len(self._begun) > 2:
                self._begun.popitem(last=False)[1].cancel()

    def take(self, clip: Clip) -> Decoded:
        """The decoded clip: what was begun, or decoded now.

        Raises:
            ClipError: see `Decoding`.
        """
        with self._lock:
            begun = self._begun.pop(clip.clip_id, None)
        return self._decoding(clip) if begun is None else begun.result()
