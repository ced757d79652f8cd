"""Textures and materials. Each look is one name; an episode picks the table's and tints all."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from ego_ops.synthetic import textures
from ego_ops.synthetic.textures import Image

TABLES = ("oak", "walnut", "birch", "slate", "linen", "cream")
"""Looks of a table."""

_PLAIN = {
    "leaf": ((0.24, 0.50, 0.16), 0.1),
    "metal": ((0.62, 0.64, 0.67), 0.5),
    "dark": ((0.13, 0.13, 0.15), 0.3),
    "rubber": ((0.20, 0.21, 0.23), 0.05),
    "hem": ((0.95, 0.94, 0.92), 0.0),
    "rim": ((0.80, 0.56, 0.16), 0.1),
    "floor": ((0.42, 0.40, 0.38), 0.0),
}
"""Colour and gloss of materials without a texture."""

TINTS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "spoon": ((0.05, 0.10), (0.35, 0.65), (0.65, 0.95)),
    "towel": ((0.0, 1.0), (0.25, 0.75), (0.55, 0.95)),
    "carrot": ((0.055, 0.075), (0.85, 0.95), (0.92, 1.0)),
    "plate": ((0.0, 1.0), (0.0, 0.30), (0.80, 1.0)),
    "green_cube": ((0.32, 0.38), (0.70, 0.90), (0.50, 0.75)),
    "yellow_cube": ((0.13, 0.155), (0.80, 0.95), (0.85, 1.0)),
    "eggplant": ((0.74, 0.80), (0.50, 0.70), (0.30, 0.45)),
    "basket": ((0.10, 0.14), (0.55, 0.80), (0.80, 1.0)),
}
"""Ranges of hue (turns), saturation and value, by material: grey textures take this colour."""

_GLOSS = {"plate": 0.4, "eggplant": 0.7, "carrot": 0.15, "spoon": 0.1}


def _grey(image: Image, mean: float = 215) -> Image:
    """A texture without colour of its own, bright, for a material's colour to tint."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    bright = np.clip(grey + mean - grey.mean(), 0, 255).astype(np.uint8)
    return np.repeat(bright[..., None], 3, axis=2)


def _wicker(rng: np.random.Generator) -> Image:
    """Strands that go over and under each other."""
    y, x = np.mgrid[:128, :128]
    over = (x // 16 + y // 8) % 2
    shade = np.where(over, np.sin(y % 8 / 8 * np.pi), 0.8 * np.sin(x % 16 / 16 * np.pi))
    image = np.repeat((110 + 130 * shade)[..., None], 3, axis=2)
    return textures.finish(image, rng, 0.5)


def _rings(rng: np.random.Generator) -> Image:
    """A carrot's skin: u, across the image, runs along it."""
    shade = 22 * textures.noise(rng, 128, 256, (30, 3)) + 6 * textures.noise(rng, 128, 256, (8, 8))
    return textures.finish(220 + np.repeat(shade[..., None], 3, axis=2), rng, 0.3)


@functools.cache
def pictures() -> dict[str, Image]:
    """Textures by name, always the same."""
    rng = np.random.default_rng(7)
    grain = textures.wood(rng, 512, 512, (200, 165, 120))
    tables = {
        "oak": grain,
        "walnut": textures.wood(rng, 512, 512, (122, 84, 58)),
        "birch": textures.wood(rng, 512, 512, (222, 200, 168)),
        "slate": textures.plain(rng, 512, 512, (96, 100, 106)),
        "linen": textures.cloth(rng, 512, 512, (196, 190, 178)),
        "cream": textures.plain(rng, 512, 512, (226, 220, 206)),
    }
    things = {
        "spoon": _grey(textures.wood(rng, 128, 512, (200, 200, 200))),
        "towel": _grey(textures.cloth(rng, 256, 256, (210, 210, 210))),
        "carrot": _rings(rng),
        "plate": _grey(textures.glaze(rng, 256, 64, (230, 230, 230)), 238),
        "green_cube": _grey(textures.plain(rng, 64, 64, (225, 225, 225)), 230),
        "yellow_cube": _grey(textures.plain(rng, 64, 64, (225, 225, 225)), 230),
        "eggplant": _grey(textures.plain(rng, 64, 64, (225, 225, 225)), 230),
        "basket": _wicker(rng),
    }
    return tables | things


def assets(names: set[str]) -> tuple[str, dict[str, bytes]]:
    """MJCF of the materials of these things, of the robot and of all tables; and its files."""
    lines, files = [], {}
    for name, image in pictures().items():
        if name not in names and name not in TABLES:
            continue
        _, png = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        files[f"{name}.png"] = png.tobytes()
        kind = "cube" if name in ("basket", "green_cube", "yellow_cube") else "2d"
        repeat = ' texrepeat="1.2 0.8"' if name in TABLES else ""
        lines.append(
            f'<texture name="{name}" type="{kind}" file="{name}.png"/>'
            f'<material name="{name}" texture="{name}" specular="{_GLOSS.get(name, 0.05)}" '
            f'shininess="0.5"{repeat}/>'
        )
    for name, ((r, g, b), gloss) in _PLAIN.items():
        lines.append(
            f'<material name="{name}" rgba="{r} {g} {b} 1" specular="{gloss}" shininess="0.5"/>'
        )
    return "\n".join(lines), files
