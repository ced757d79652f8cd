"""The report of an evaluation: its numbers against counting by hand, its links, its faults."""

from __future__ import annotations

import io
import re
import uuid
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from rich.console import Console

from ego_ops.errors import UserError
from ego_ops.storage import store
from sim_eval import provenance, report, results, video
from sim_eval.episode import ENVIRONMENT_ERROR, FAILURE, INVALID_ACTION, SUCCESS, Result
from sim_eval.report.clips import choose
from sim_eval.report.tally import Clip, Suite, compare, natural, tally
from tests.eval_rows import result


class Page(HTMLParser):
    """Rows of tables as texts, and what the page refers to."""

    def __init__(self, html: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self._open = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "poster")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.rows[-1][-1] = " ".join([*self.rows[-1][-1].split(), *data.split()])

    def row(self, *starts: str) -> list[str]:
        """The only one whose first cells begin so."""
        found = [
            row for row in self.rows
            if len(row) >= len(starts)
            and all(cell.startswith(s) for cell, s in zip(row, starts, strict=False))
        ]  # fmt: skip
        assert len(found) == 1, (starts, found)
        return found[0]


def solved(count: int, of: int, **about: str) -> list[Result]:
    """Seeds from 0; the first ones are solved."""
    return [result(seed, SUCCESS if seed < count else FAILURE, **about) for seed in range(of)]


def written(url: str, rows: list[Result]) -> Page:
    results.commit(url, rows)
    report.write_report(url, f"{url}/report.html")
    return Page(store(url).read("report.html").decode())


def test_numbers_are_those_of_counting(tmp_path):
    """Tasks of unlike numbers of episodes: the mean of rates is not the rate of all."""
    a = [*solved(10, 20, task="lift"), *solved(40, 40, task="stack")]
    other = {"policy": "runs/b", "digest": "b"}
    b = [*solved(5, 20, task="lift", **other), *solved(38, 40, task="stack", **other)]
    b[0] = replace(b[0], outcome=ENVIRONMENT_ERROR, error="the simulator stood still")
    page = written(str(tmp_path), [*a, *b])
    # Wilson's intervals of 50/60 and 42/59 as scipy gives them, rounded
    assert page.row("a", "75.0 %") == ["a", "75.0 % 72.0 to 90.7 % · 50/60"]
    assert page.row("b", "58.0 %") == ["b", "58.0 % 58.6 to 81.2 % · 42/59 1 error"]
    assert page.row("lift")[1:] == [
        "50.0 % 29.9 to 70.1 % · 10/20", "21.1 % 8.5 to 43.3 % · 4/19"
    ]  # fmt: skip
    assert page.row("all episodes together")[1].startswith("83.3 %")
    # Seconds of 20 steps each: 40 to 49 and 40 to 79 steps
    seconds = np.array([*range(40, 50), *range(40, 80)]) / 20
    assert page.row("simulated time")[1].startswith(f"{np.median(seconds):.1f} s")
    # Both: 4 + 38; only a: seeds 5..9 of lift, 38 and 39 of stack; seed 0 of lift is not judged
    assert page.row("a", "b", "59")[2:7] == ["59", "42", "7", "0", "10"]
    assert page.row("a", "b", "59")[8] == "0.016"  # 2 / 2 ** 7
    assert page.row("environment error not judged")[1:] == [
        "b", "toys", "1", "lift, seed 0: the simulator stood still"
    ]  # fmt: skip
    assert page.row("b", "runs/b") == ["b", "runs/b", "b"]


def test_holm_counts_the_comparisons_of_a_suite(tmp_path):
    rows = [row for n, name in ((8, "x"), (2, "y"), (1, "z")) for row in solved(n, 8, policy=name)]
    rows += [
        row for n, name in ((8, "x"), (2, "y")) for row in solved(n, 8, policy=name, suite="t")
    ]
    page = written(str(tmp_path), rows)
    several = [row[8:10] for row in page.rows if row[:1] == ["x"] and len(row) == 11]
    # x against y: only x 6, p 2/64; against z: 7, p 2/128; y against z: 1, p 1
    assert sorted(several) == [["0.016", "0.047"], ["0.031", "0.031"], ["0.031", "0.062"]]


def test_pairs_are_the_same_episodes_only(tmp_path):
    rows = [
        *solved(3, 6, policy="x"), *solved(2, 4, policy="y"), *solved(9, 9, policy="z", replan=1)
    ]  # fmt: skip
    results.commit(str(tmp_path), rows)
    entries = tally(results.table(str(tmp_path)))
    (found,) = compare(entries)
    assert (found.a.policy, found.b.policy, found.pairs) == ("x", "y", (2, 1, 0, 1))


def test_versions_names_and_settings_are_kept_apart(tmp_path):
    rows = [
        *solved(1, 2, policy="runs/a/policy", digest="abcdef99"),
        *solved(2, 2, policy="old/a", digest="12345678"),
        *solved(0, 2, policy="old/a", digest="12345678", replan=9),
        *solved(0, 2, policy="random", version="2"),
    ]
    results.commit(str(tmp_path), rows)
    found = [
        (e.suite, e.policy, e.successes, e.episodes) for e in tally(results.table(str(tmp_path)))
    ]
    assert found == [
        (Suite("toys", "1"), "a (123456), replan 5", 2, 2),
        (Suite("toys", "1"), "a (abcdef)", 1, 2),
        (Suite("toys", "1"), "a (123456), replan 9", 0, 2),
        (Suite("toys", "2"), "random", 0, 2),
    ]


def test_page_needs_nothing_but_its_videos(tmp_path):
    url = str(tmp_path / "my results")
    rows = []
    for row in [*solved(2, 3), result(7, INVALID_ACTION, error="action 0, number 1 is nan")]:
        film = [np.full((48, 64, 3), 90, np.uint8)] * 4
        row = replace(row, video=results.video_path(row))
        store(url).write(row.video, video.encode(film, 20.0))
        rows.append(row)
    store(url).delete(rows[0].video)
    results.commit(url, rows)
    for out in (tmp_path / "my results" / "report.html", tmp_path / "pages" / "of it.html"):
        assert report.write_report(url, str(out)) == str(out)
        page = Page(out.read_text())
        stills = [link for link in page.links if link.startswith("data:image/jpeg;base64,")]
        assert len(stills) == 3
        links = {link for link in page.links if not link.startswith("data:")}
        assert {(out.parent / unquote(link)).resolve() for link in links} == {
            Path(url) / row.video for row in rows
        }
        assert "@import" not in out.read_text()
        assert set(re.findall(r"url\(.", out.read_text())) <= {"url(#"}


def test_texts_of_others_are_no_html(tmp_path):
    evil = "<script>alert(1)</script>"
    rows = [
        result(1, policy=f"runs/{evil}", task=evil, suite=evil, instruction=evil),
        result(2, INVALID_ACTION, policy=f"runs/{evil}", task=evil, suite=evil, error=evil),
        result(3, policy="b", task=f"{evil}2", suite=evil, instruction=evil),
    ]
    provenance.record(str(tmp_path), evil)
    page = written(str(tmp_path), rows)
    assert "script" not in page.tags
    assert any(evil in cell for row in page.rows for cell in row)


def test_errors_only_and_a_remote_folder():
    url = f"memory://{uuid.uuid4().hex}"
    page = written(url, [result(1, ENVIRONMENT_ERROR)])
    assert page.row("a", "- - · 0/0 1 error")
    page = written(url, solved(1, 4, policy="b"))
    assert page.row("b", "25.0 %")


def test_what_cannot_be_reported_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no results there; run `egoscaler evaluate` first"):
        report.write_report(str(tmp_path / "none"), str(tmp_path / "page.html"))
    results.commit(str(tmp_path), [result()])
    with pytest.raises(UserError, match="a folder; give the HTML file"):
        report.write_report(str(tmp_path), str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        report.write_report(str(tmp_path), str(tmp_path / "file" / "page.html"))


def test_names_with_brackets_are_no_markup(tmp_path):
    rows = [result(seed=k, policy="runs/[b]", task="a [bold] one", suite="[red]") for k in (0, 1)]
    results.commit(str(tmp_path), rows)
    text = io.StringIO()
    report.show(results.table(str(tmp_path)), Console(file=text, width=100))
    for name in ("[b]", "a [bold] one", "[red], version 1"):
        assert name in text.getvalue()


def test_terminal_says_the_same(tmp_path):
    results.commit(str(tmp_path), [*solved(10, 20, task="lift"), *solved(40, 40, task="stack")])
    text = io.StringIO()
    report.show(results.table(str(tmp_path)), Console(file=text, width=100))
    lines = [re.sub(r"[^\w%./-]+", " ", line).strip() for line in text.getvalue().splitlines()]
    assert "lift 50.0 % 29.9 to 70.1 % 10/20" in lines
    assert "a 75.0 % 72.0 to 90.7 % 50/60 2.7 s 0" in lines


def test_clips_show_both_ends_and_many_tasks():
    def clips(task: str, outcome: str, count: int) -> list[Clip]:
        return [Clip(f"{task}{seed}{outcome}", task, seed, outcome, 1.0) for seed in range(count)]

    many = [clip for task in "abcd" for o in (SUCCESS, FAILURE) for clip in clips(task, o, 3)]
    assert [(c.task, c.seed, c.outcome) for c in choose(many)] == [
        (task, 0, outcome) for outcome in (SUCCESS, FAILURE) for task in "abc"
    ]
    few = [*clips("a", SUCCESS, 9), *clips("b", FAILURE, 1)]
    assert [c.outcome for c in choose(few)] == [SUCCESS] * 5 + [FAILURE]
    assert len(choose(clips("a", FAILURE, 9))) == 6
    assert choose([]) == []


def test_natural_order():
    assert sorted(["t10", "t9", "a", "t", "10", "9"], key=natural) == [
        "9",
        "10",
        "a",
        "t",
        "t9",
        "t10",
    ]
