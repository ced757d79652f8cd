"""Textures of the things of the tabletop's tasks: told apart by colour, with detail to track."""

from __future__ import annotations

import cv2
import numpy as np

from ego_ops.synthetic import textures
from ego_ops.synthetic.textures import Colour, Image

_WHITE = (244.0, 240.0, 230.0)


def tint(
    rng: np.random.Generator,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Colour:
    """A colour within ranges of hue (turns), saturation and value."""
    return textures.colour(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))


def marked(
    rng: np.random.Generator, image: Image, marks: int, size: tuple[float, float], shade: float
) -> Image:
    """Spots, scratches and dents on a surface.

    Args:
        image: (H, W, 3), changed in place.
        size: least and greatest half length of a mark, pixels.
        shade: how much darker or brighter a mark is at most, of 255.
    """
    height, width = image.shape[:2]
    for _ in range(marks):
        at = (int(rng.integers(width)), int(rng.integers(height)))
        long = rng.uniform(*size)
        axes = (max(1, round(long)), max(1, round(long * rng.uniform(0.25, 0.8))))
        change = shade * rng.uniform(0.5, 1.0) * rng.choice([-1, 1])
        colour = np.clip(image[at[1], at[0]] + change, 0, 255).tolist()
        cv2.ellipse(image, at, axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    return image


def vegetable(
    rng: np.random.Generator, base: Colour, leaf: Colour, rings: float, sheen: float
) -> Image:
    """Skin in the left 3/4 of the image, u along the body, and leaves in the right quarter.

    Args:
        rings: strength of the creases around the body.
        sheen: strength of bright streaks along it.
    """
    height, width = 360, 720
    skin = textures.filled(height, width, base)
    crease = np.minimum(0, textures.noise(rng, height, width, (26, 7)) + 0.2)
    streak = np.maximum(0, textures.noise(rng, height, width, (14, 160)) - 0.4)
    skin += (rings * crease + sheen * streak)[..., None]
    body = textures.finish(skin, rng)
    marked(rng, body, 90, (4, 13), 80)
    marked(rng, body, 220, (2, 4), 80)
    green = textures.filled(height, width // 3, leaf)
    green += 30 * textures.noise(rng, height, width // 3, (6, 40))[..., None]
    return np.hstack([body, textures.finish(green, rng)])


def timber(rng: np.random.Generator, base: Colour) -> Image:
    """Wood with dark grain along u."""
    image = textures.filled(256, 1024, base)
    grain = textures.noise(rng, 256, 1024, (5, 180)) + 0.7 * textures.noise(rng, 256, 1024, (9, 50))
    image += (17 * grain)[..., None] * np.array([1.0, 0.9, 0.75], np.float32)
    return marked(rng, textures.finish(image, rng), 150, (4, 14), 85)


def toy_block(rng: np.random.Generator, base: Colour) -> Image:
    """Six painted sides, each with a frame, a letter, dots and scuffs: the texture of a box."""
    sides = []
    light = np.clip(0.5 * np.array(base) + 110, 0, 255).tolist()
    for letter in rng.choice(list("ABCDEFGHKLMNPRSTUX"), 6, replace=False):
        side = textures.filled(300, 300, base)
        side += 14 * textures.noise(rng, 300, 300, (8, 60))[..., None]
        image = textures.finish(side, rng)
        deep = (0.55 * np.array(base)).tolist()
        cv2.rectangle(image, (22, 22), (277, 277), deep, 9, cv2.LINE_AA)
        (w, h), _ = cv2.getTextSize(letter, cv2.FONT_HERSHEY_TRIPLEX, 5.5, 18)
        at = (150 - w // 2, 150 + h // 2)
        for ink, thick in ((deep, 30), (light, 13)):
            cv2.putText(image, letter, at, cv2.FONT_HERSHEY_TRIPLEX, 5.5, ink, thick, cv2.LINE_AA)
        for at in rng.integers(45, 255, (7, 2)):
            cv2.circle(image, at.tolist(), int(rng.integers(6, 15)), light, -1, cv2.LINE_AA)
        sides.append(marked(rng, image, 40, (4, 12), 70))
    return textures.atlas(sides, 600, 900)


def terry(rng: np.random.Generator, base: Colour) -> Image:
    """A towel's six sides: loops of thread, two stripes and a pale hem on the broad ones."""
    broad = textures.cloth(rng, 400, 400, base)
    pale = np.clip(np.array(base) * 0.35 + 165, 0, 255)
    for row in (60, 90, 300, 330):
        stripe = broad[row : row + 14]
        stripe[:] = np.clip(0.3 * stripe + 0.7 * pale, 0, 255)
    cv2.rectangle(broad, (4, 4), (395, 395), pale.tolist(), 12)
    edge = textures.cloth(rng, 400, 400, base)
    return textures.atlas([edge, edge, broad, edge, edge, broad], 800, 1200)


def china(rng: np.random.Generator, base: Colour) -> Image:
    """A plate's profile along v: glaze, with two thin coloured rings on the rim."""
    image = textures.glaze(rng, 512, 256, base).astype(np.float32)
    image = 0.5 * image + 0.5 * textures.filled(512, 256, base)
    ring = textures.colour(rng.random(), 0.5, 0.6)
    for low, high in ((0.565, 0.58), (0.60, 0.61)):
        image[512 - int(high * 512) : 512 - int(low * 512)] = ring
    return textures.finish(image, rng, 0.6)


def wicker(rng: np.random.Generator, base: Colour) -> Image:
    """Strands that go over and under each other."""
    y, x = np.mgrid[:256, :768]
    over = (x // 32 + y // 16) % 2
    shade = np.where(over, np.sin(y % 16 / 16 * np.pi), 0.8 * np.sin(x % 32 / 32 * np.pi))
    image = (0.35 + 0.7 * shade)[..., None] * np.array(base)
    image = image + 12 * textures.noise(rng, 256, 768, (16, 32))[..., None]
    return textures.finish(image, rng)
