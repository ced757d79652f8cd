"""How results were made: every command once, with the versions that it ran with."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import uuid

import pytest

from ego_ops.errors import UserError
from ego_ops.storage import store
from sim_eval import provenance, report, results
from tests.eval_rows import result

FIRST, SECOND = "egoscaler evaluate --policy a", "egoscaler sweep --policies 'a,b'"


def test_commands_are_kept_once_in_their_order_with_their_versions():
    url = f"memory://{uuid.uuid4().hex}"
    assert provenance.recorded(url) == []
    for command in (SECOND, FIRST, SECOND):
        provenance.record(url, command)
    (made,) = provenance.recorded(url)
    assert made.commands == [SECOND, FIRST]
    assert made.versions["python"] == platform.python_version()
    assert made.versions["numpy"] == importlib.metadata.version("numpy")


def test_the_page_shows_all_commands_by_versions(tmp_path):
    url = str(tmp_path)
    results.commit(url, [result()])
    provenance.record(url, FIRST)
    provenance.record(url, SECOND)
    (earlier,) = [one for one in (tmp_path / "runs").iterdir() if FIRST in one.read_text()]
    about = json.loads(earlier.read_text())
    about["versions"]["mujoco"] = "1.2.3"  # as another machine had it
    earlier.write_text(json.dumps(about))
    made = provenance.recorded(url)
    assert [one.commands for one in made] == [[FIRST], [SECOND]]
    assert made[0].versions["mujoco"] == "1.2.3"

    report.write_report(url, str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert page.count("1.2.3") == 1
    assert page.index(FIRST) < page.index("1.2.3") < page.index("egoscaler sweep")


@pytest.mark.parametrize("text", ["", "[]", '{"command": "x"}', '{"command": 1, "versions": []}'])
def test_a_damaged_record_is_named(text):
    url = f"memory://{uuid.uuid4().hex}"
    store(url).write("runs/0.json", text.encode())
    with pytest.raises(UserError, match=r"runs/0\.json: damaged; delete it"):
        provenance.recorded(url)
