"""Makes videos whose pictures say which frame they are, and breaks them in known ways."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 192, 128
BITS = 12

OPEN_GOP = {"x264-params": "bframes=3:open-gop=1:keyint=12:min-keyint=12:scenecut=0"}
CLOSED_GOP = {"preset": "ultrafast", "bf": "3"}


def picture(number: int) -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3): `number` in black and white blocks, red at the left, blue at the top."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[:, :32] = (200, 30, 30)
    image[:24, 32:] = (30, 30, 200)
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        x, y = 48 + 32 * column, 32 + 32 * row
        image[y : y + 24, x : x + 24] = 235 if number >> bit & 1 else 20
    return image


def frame_number(image: NDArray[np.uint8]) -> int:
    """The number that an upright image of any size shows."""
    scale = image.shape[1] / WIDTH
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        x, y = (48 + 32 * column + 12) * scale, (32 + 32 * row + 12) * scale
        number |= int(image[int(y), int(x)].mean() > 128) << bit
    return number


def write_video(
    path: Path,
    times: Sequence[float],
    codec: str = "libx264",
    *,
    options: dict[str, str] | None = None,
    time_base: Fraction = Fraction(1, 15360),
    rate: int = 30,
    gop: int = 30,
    pixels: str = "yuv420p",
    muxing: dict[str, str] | None = None,
    audio_seconds: float = 0.0,
    draw: Callable[[int], NDArray[np.uint8]] = picture,
) -> Path:
    """Write frame k, showing the number k, at `times[k]` seconds."""
    with av.open(path, "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        first = draw(0)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt, stream.time_base = pixels, time_base
        stream.codec_context.time_base, stream.codec_context.gop_size = time_base, gop
        stream.options = options or {}
        sound = container.add_stream("aac", rate=8000) if audio_seconds else None
        for k, t in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw(k))
            frame.pts, frame.time_base = round(t / time_base), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            for k in range(int(audio_seconds * 8000 / 1024)):
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), "fltp", "mono"
                )
                silence.sample_rate, silence.pts = 8000, 1024 * k
                container.mux(sound.encode(silence))
            container.mux(sound.encode())
    return path


def full_decode(path: Path) -> tuple[NDArray[np.float64], list[int]]:
    """pts from the first displayed frame, and number, of every frame of a whole video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = [
            (frame.pts, frame_number(frame.to_ndarray(format="rgb24")))
            for frame in container.decode(stream)
        ]
        shown.sort()
        pts = [float((value - shown[0][0]) * stream.time_base) for value, _ in shown]
    return np.array(pts), [number for _, number in shown]


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write a display matrix (whole numbers) into the video track's header of an MP4."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 4
    at += 40  # version 0: version and flags 4, times and track 20, reserved and layers 16
    data[at : at + 20] = struct.pack(">5i", a << 16, b << 16, 0, c << 16, d << 16)
    path.write_bytes(data)


def cut_by_edit_list(path: Path, ticks: int) -> None:
    """Let the presentation of an MP4 begin `ticks` of its media later."""
    data = bytearray(path.read_bytes())
    at = data.find(b"elst") + 16
    (begin,) = struct.unpack(">i", data[at : at + 4])
    data[at : at + 4] = struct.pack(">i", begin + ticks)
    path.write_bytes(data)


def packet_bytes(path: Path) -> list[tuple[float, slice, bool]]:
    """(pts in seconds, where in the file, is a keyframe) of every video packet, as stored."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (float(p.pts * stream.time_base), slice(p.pos, p.pos + p.size), p.is_keyframe)
            for p in container.demux(stream)
            if p.size
        ]


def overwrite(path: Path, where: slice, content: bytes) -> None:
    """Replace bytes of a file by as many others."""
    data = bytearray(path.read_bytes())
    assert len(content) == where.stop - where.start
    data[where] = content
    path.write_bytes(data)


def skip_frame(path: Path, where: slice) -> None:
    """Turn an MPEG-4 packet into one that says `nothing coded`: valid, but giving no picture."""
    data = path.read_bytes()[where]
    at = data.find(b"\0\0\1\xb6")
    bits = "".join(f"{byte:08b}" for byte in data[at : at + 12])
    k = bits.index("0", 34) + 1 + 1 + 14 + 1  # seconds, marker, time of 14 bits, marker
    bits = (bits[:k] + "0" + "1" * 7)[: (k + 8) // 8 * 8]
    header = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    overwrite(path, where, data[:at] + header + b"\x7f" * (len(data) - at - len(header)))
