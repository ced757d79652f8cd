"""Speed and memory of decoding windows; prints one line of JSON.

`python bench/decode.py` makes its own videos (an hour of 640x360, and short ones of 640x480 and
1408x1408) in a temporary folder. Times and rates are in CPU seconds, so that other work on the
machine does not show, except `decode_only_*`, which compares threads. `long_file.ok` says
whether a window in the middle of the hour costs at most 1.2 times what the same frames cost in a
file of their own, plus one keyframe interval's decoding.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ego_ops.video import decode_window

RATE = 30
GOP = 60
WINDOW = 4.0
MIDDLE = 1800.0 + 1.5  # a second and a half after a keyframe
REPEATS = 5


def pictures(width: int, height: int, count: int, first: int = 0) -> list[NDArray[np.uint8]]:
    """A textured scene under a moving camera; the same for every call."""
    noise = np.random.default_rng(0).integers(0, 255, (height + 128, width + 256, 3))
    scene = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return [
        scene[k % 128 : k % 128 + height, 2 * k % 256 : 2 * k % 256 + width]
        for k in range(first, first + count)
    ]


def encode(path: Path, images: list[NDArray[np.uint8]]) -> Path:
    height, width = images[0].shape[:2]
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = GOP
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image))))
        container.mux(stream.encode())
    return path


def repeat(source: Path, path: Path, times: int) -> Path:
    """Copy the packets of `source` one after another, `times` over."""
    with av.open(str(source)) as container, av.open(path, "w") as longer:
        stream = container.streams.video[0]
        target = longer.add_stream_from_template(stream)
        for k in range(times):
            container.seek(0)
            for packet in container.demux(stream):
                if packet.size:
                    packet.pts += k * stream.duration
                    packet.dts += k * stream.duration
                    packet.stream = target
                    longer.mux(packet)
    return path


def seconds(run: Callable[[], object]) -> float:
    """Shortest of several runs, in CPU seconds of this process (wall time varies with others)."""
    spent = []
    for _ in range(REPEATS):
        begin = time.process_time()
        run()
        spent.append(time.process_time() - begin)
    return min(spent)


def long_file(folder: Path) -> dict[str, float | bool]:
    minute = encode(folder / "minute.mp4", pictures(640, 360, 60 * RATE))
    hour = repeat(minute, folder / "hour.mp4", 60)
    offset = round(MIDDLE * RATE) % (60 * RATE)
    own = encode(folder / "own.mp4", pictures(640, 360, int(WINDOW * RATE), offset))
    in_hour = seconds(lambda: decode_window(str(hour), MIDDLE, MIDDLE + WINDOW))
    alone = seconds(lambda: decode_window(str(own), 0, WINDOW))
    interval = seconds(lambda: decode_window(str(own), 0, GOP / RATE))
    limit = 1.2 * alone + interval
    return {
        "in_hour_s": round(in_hour, 4),
        "own_file_s": round(alone, 4),
        "keyframe_interval_s": round(interval, 4),
        "limit_s": round(limit, 4),
        "ok": in_hour <= limit,
    }


def frames_per_second(path: Path, max_side: int | None) -> dict[str, float]:
    """All frames of a 4-second window, by backend; and mere decoding by number of threads."""
    backends = ["pyav"] + ["decord"] * (importlib.util.find_spec("decord") is not None)
    rates = {
        backend: WINDOW * RATE / seconds(
            lambda backend=backend: decode_window(
                str(path), 0, WINDOW, fps=RATE, max_side=max_side, backend=backend
            )
        )
        for backend in backends
    }  # fmt: skip
    for threads in (1, 2):
        rates[f"decode_only_{threads}_threads"] = WINDOW * RATE / wall_of_decoding(path, threads)
    return {name: round(rate, 1) for name, rate in rates.items()}


def wall_of_decoding(path: Path, threads: int) -> float:
    spent = []
    for _ in range(REPEATS):
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            context.thread_count, context.thread_type = threads, "AUTO"
            begin = time.perf_counter()
            for _frame in container.decode(video=0):
                pass
            spent.append(time.perf_counter() - begin)
    return min(spent)


def peak_rss_mib(path: Path, max_side: int) -> int:
    """Peak memory of a fresh process that decodes one 4-second window."""
    code = (
        "import sys; from ego_ops.video import decode_window\n"
        "decode_window(sys.argv[1], 0, 4, max_side=int(sys.argv[2]))\n"
        "status = open('/proc/self/status').read()\n"  # getrusage would tell this process's too
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024)"
    )
    run = [sys.executable, "-c", code, str(path), str(max_side)]
    return int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = int(WINDOW * RATE)
        small = encode(folder / "small.mp4", pictures(640, 480, count))
        large = encode(folder / "large.mp4", pictures(1408, 1408, count))
        result = {
            "long_file": long_file(folder),
            "fps_640x480": frames_per_second(small, None),
            "fps_1408x1408_to_960": frames_per_second(large, 960),
            "peak_rss_mib_1408x1408_to_960": peak_rss_mib(large, 960),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
