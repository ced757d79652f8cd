"""Small pickles of HD-EPIC's table of narrations, by versions of pandas and by hand."""

from __future__ import annotations

import base64
import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Written by pandas 1.5.3 (protocol 4) and 2.2.3 (protocol 5), with numpy 1.26.4: `table()` there.
PANDAS_1_5 = (
    "eNptVFtrE0EUzrVX21pLtYJKLFLrQ0MaFCp4Ka0XNJjWgm+WZXZ3khm6O7vuzrYWFBQxtjDgQ8c/pL/JR9FzJtMktdmH"
    "+c6Zc9tzmfOp9ONPOWc+NRsT4ZO06kUJrbYSElKtxp8QSZ4Z+kTf+aw/6mVVcsJ2otWNQXUuJE0ECdJqSARp0yTV6sJG"
    "EHl7r7o8mKvL1sIJuJv2TbSacTIRc28voI6LNqg8L7IwPux6D7NAcpIk5BC8Ogn1IpHKJPMkKpaNolaj4NuonOhG7qve"
    "zLv6m97Ry418o9godDSbUWVfHsaYiSq01vTxUVdeVPkHutlsvvwLnzkaOand483ar9/Lb7//vL7eLdCtLn66afnbFisW"
    "l9Y1mLFpNovx2VwvOjALqsAHIrJrw+ItlLqOcrYjuRmL6LdRQFs2ed7/lMkOImydyenDfzk9xhi70L/57drqSr1Wv1uD"
    "Y2V1tVa/V1tZ1cPv61oV4V6zNTU3RK7ZffV6K6aiIhmtZHFMk4qXxW5EEr/iHlZYFPhctI2UQfcDWolahutpHXDJzE1A"
    "W9IoVbW6tA3jAP6MIA6IpFWN/z59NgQo9r32LukuTIUx0gSNShH8oFYl/BkjHI273o2YbbCHUL9N9qiDQvaUrXdQwJ7j"
    "8RJVYIAWQdTIWaaITOGU6ejGIp5GA3uBdjt4vIFDjffyQgEdOiJTwCwdbzLb71zeYsFi0eKIxVGLYxbHLU5YnLR4weKU"
    "xelzA9UxZV04+5Z9+p6mVZeksAEmHEEPnBd4Bw+HtVT5lDa7wIf9oM8ndBGYupm2uUzwdxl1BD5OySPhcGjbdEwSyT0O"
    "caW5GNvnPo0MOd5Thc2QSlB0JA8pUGGs1RQV/iBfFlEmYIeU92niIsaEm+0TEi4c4qEfZFHseAFJU4osWg2waNRn5wZs"
    "+7dl7CFK+6n0/wP7qkoCF2Uz6+BLZerqsKomRLSxrDuIA6VkX5qqbLKFKVKlVEYxzBgSFIi88UnxgP0LWwzKhKU/XdNO"
    "SCUxvcDZJ1JCCT5qNeK0AtI25BUSBNFB6vhZHHAP3oYTEJfC9j1KM7f6D2+CGPM="
)

PANDAS_2_2 = (
    "eNptVFlv1DAQ3pNSenBUXA/AghAsiK62K5BA4qgohyBiC5V4A1lO4qwtEickDqUSSPDAApIlHjD8IPhNPMOM190DNQ/z"
    "zXiOjGfG86H5Y2VfxX76cEZlSItOkOasE+U0YUbP36OKPrD8d3Ppo3lv2rpBkkFu9OlpcyEVyyWNi05CJR2wvDB68W6c"
    "Bq+ejGRw18ecB4mFX0xcjD5ISpmJ4FXMiI8+aHxElkm2M4oOLMtFYPQCifI08csoshHbP7uj3Cu//7RffPt1an0knR/h"
    "h7NOvuiw5fDCutFNGx8wVDsZ3k7Xouvm65fPZsu0vbqu3jT9fv/xX/gs8SrK+F7dqw2Nrm4YBWZ8uf3zhEug4bDp8KBD"
    "w4/ompgKzI/tFfaT4ScxpFdDM76gj05dPyljJWieU0h3keQsSGWh8jJQkDU/pOegqFb53XiVT2aj6pvRv6reEqaLGWzO"
    "XO3df1e7Azl8fQmtPfq0u7ba6/audoGsrq11e9e6q2tm7/Oe0XU4N/y6XtlDb/gN/WwzY7KlOGuVWcbyVlBmfkrzsOXv"
    "tHgah0IOrJbDYMSslUZWGlttC8XtScwiZY06MBhPYVIgnlVkMVWsYzD35dlfgOEk6viQvYSOWydD0amRQoJGNzAZq5zL"
    "RtGtmt/lt6B+G/z2EJX8Pl8fooI/RPIYTWAizoHKqzihjkJtVxga7xxSa4G9QL8tJM+B6PnxvVDBoAs4Urwy+1Ud1hzW"
    "Hbp3W5lzuN/hvMMDDhccLjpccrg8HtEz3tLsAA5tRU/MvvCQvWVFx6cF7IUDRLJt8gjPcAhD3dzl7YYIYWsY3uaXcSD5"
    "ld1xPARCzw7aSinF65IRiZOrRCqJgI4tZzRXIhDwX2UP9r8RIUstOz82hX1RKDAkSiQMuCQzeonJcFpuyrSUsFmab1ju"
    "I2ZU2J2UUCEJDTAOiqgmQUyLgqGIXlMiOk3ElSnfyWkT24fayVUmeWBLdUPi+uyXQ3zZkT65V1VzKgdY1i3EqVLyj33d"
    "tLeFAdKNQqUZtAgZBkzVxmRIYCvDHoMyYel3lzdJmKK2Fzj2VCkowXuj95EopgPLHqdxnG4XJCyzWATwLEhMfQY7+UtR"
    "+p1/r1kcZg=="
)

VIDEO = "P01-20240202-110250"


def table() -> pd.DataFrame:
    """Two rows in the published columns, the first as in the dataset's README."""
    return pd.DataFrame(
        {
            "unique_narration_id": [f"{VIDEO}-1", f"{VIDEO}-2"],
            "participant_id": ["P01", "P01"],
            "video_id": [VIDEO, VIDEO],
            "narration": [
                "Open the upper cupboard by holding the handle of the cupboard with the left hand.",
                "Pick up the plate.",
            ],
            "start_timestamp": [7.44, 10.0],
            "end_timestamp": [8.75, 11.5],
            "nouns": [["upper cupboard", "handle of cupboard"], ["plate"]],
            "verbs": [["open", "hold"], ["pick up"]],
            "pairs": [
                [("open", "upper cupboard"), ("hold", "handle of cupboard")],
                [("pick up", "plate")],
            ],
            "main_actions": [[("open", "upper cupboard")], [("pick up", "plate")]],
            "verb_classes": [[3, 34], [0]],
            "noun_classes": [[3, 3], [2]],
            "pair_classes": [[(3, 3), (34, 3)], [(0, 2)]],
            "main_action_classes": [[(3, 3)], [(0, 2)]],
            "hands": [["left hand"], []],
            "narration_timestamp": [8.0, 11.0],
        }
    )


def stored(text: str, path: Path) -> Path:
    path.write_bytes(zlib.decompress(base64.b64decode(text)))
    return path


class _Named:
    """Pickled under the name of a class of old pandas, with arguments or a state."""

    def __init__(self, module: str, name: str, state: Any):
        self.module, self.name, self.state = module, name, state


class _ByName(pickle._Pickler):  # type: ignore[name-defined]
    def save(self, held: Any, save_persistent_id: bool = True) -> None:
        if isinstance(held, _Named):
            self.write(f"c{held.module}\n{held.name}\n".encode() + b")\x81")
            self.save(held.state)
            self.write(b"b")
        else:
            super().save(held, save_persistent_id)


def of_pandas_1_1(frame: pd.DataFrame) -> bytes:
    """The layout of pandas before 1.3, whose block managers are pickled by a state."""

    def index(values: list[Any]) -> np.ndarray:
        array = np.empty(len(values), object)
        array[:] = values
        return array

    blocks = []
    for i, name in enumerate(frame.columns):
        values = frame[name].to_numpy()
        if values.dtype != float:
            values = index(values.tolist())
        blocks.append({"values": values[None], "mgr_locs": slice(i, i + 1, 1)})
    axes = [index(list(frame.columns)), np.arange(len(frame))]
    state = (axes, [], [], {"0.14.1": {"axes": axes, "blocks": blocks}})
    manager = _Named("pandas.core.internals.managers", "BlockManager", state)
    outer = {"_data": manager, "_typ": "dataframe", "_metadata": []}
    file = io.BytesIO()
    _ByName(file, 4).dump(_Named("pandas.core.frame", "DataFrame", outer))
    return file.getvalue()
