"""The link of a review after a restart: the same for the same queue on one day, and for nobody else."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.review.queue.review_setup import ReviewSetup
from batchgen.review.server.review_session import ReviewSession
from batchgen.review.server.saved_link import LINK_SECONDS, link_path
from batchgen.review.server.serve_review import open_review
from batchgen.state.run_folder import RunFolder
from tests.review.conftest import prepared

MakeRun = Callable[..., Path]
Link = Callable[..., str]


@pytest.fixture
def link() -> Link:
    """The link of a start, whose port is closed at once."""

    def started(setup: ReviewSetup, overlap: float | None = None, port: int = 0) -> str:
        server = open_review(ReviewSession(setup, overlap), port)
        url = server.url
        server.listener.close()
        return url

    return started


def test_a_restart_has_the_same_link(answered: MakeRun, link: Link) -> None:
    folder = answered()
    first = link(prepared(folder))
    file = link_path(RunFolder(folder))
    assert file.stat().st_mode & 0o777 == 0o600
    assert first.partition("token=")[2] not in file.read_text()
    assert link(prepared(folder)) == first
    assert link(prepared(folder, reviewer="")) == first


def test_another_queue_has_another_token(answered: MakeRun, link: Link) -> None:
    """The numbers of its answers are others, so that votes of an open page would be about others."""
    folder, other = answered(), answered("other", tokens=9)
    setups = [
        prepared(folder),
        prepared(folder, sample=3),
        prepared(folder, order="random"),
        prepared(folder, labels=["polite"]),
        prepared(folder, masked=True),
        prepared(folder, other),
        prepared(folder, other, seed=1),
    ]
    links = [link(one) for one in setups]
    links.append(link(setups[0], overlap=0.5))
    assert len({one.partition("token=")[2] for one in links}) == len(links)


def test_a_secret_lasts_a_day(answered: MakeRun, link: Link) -> None:
    folder = answered()
    first = link(prepared(folder))
    file = link_path(RunFolder(folder))
    for age, same in ((LINK_SECONDS / 2, True), (LINK_SECONDS + 60, False)):
        then = time.time() - age
        os.utime(file, (then, then))
        assert (link(prepared(folder)) == first) is same


def test_each_of_two_servers_has_its_link_again(answered: MakeRun, link: Link) -> None:
    """Also where they serve different queues, and one that was killed starts while the other one runs."""
    folder = answered()
    all_rows, some = prepared(folder), prepared(folder, sample=3)
    servers = [open_review(ReviewSession(one), 0) for one in (all_rows, all_rows, some)]
    urls = [one.url for one in servers]
    assert len(set(urls)) == 3
    for number, setup in enumerate((all_rows, all_rows, some)):
        servers[number].listener.close()
        assert link(setup) == urls[number]
        servers[number] = open_review(ReviewSession(setup), 0)
    for server in servers:
        server.listener.close()
    assert [link(some), link(all_rows)] == [urls[2], urls[0]]


@pytest.mark.parametrize(
    "damage", ["{}", "not JSON", "", '{"secret": "a", "ports": [1], "last": 0}']
)
def test_a_damaged_file_is_replaced(answered: MakeRun, link: Link, damage: str) -> None:
    folder = answered()
    first = link(prepared(folder))
    link_path(RunFolder(folder)).write_text(damage)
    second = link(prepared(folder))
    assert second != first
    assert link(prepared(folder)) == second


def test_a_secret_that_others_can_read_is_replaced(answered: MakeRun, link: Link) -> None:
    folder = answered()
    first = link(prepared(folder))
    link_path(RunFolder(folder)).chmod(0o640)
    assert link(prepared(folder)) != first


def test_a_port_that_is_taken_is_not_waited_for(answered: MakeRun, link: Link) -> None:
    folder = answered()
    first = link(prepared(folder))
    port = int(first.split(":")[2].split("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        second = link(prepared(folder))
    assert f":{port}/" not in second
    assert second.partition("token=")[2] == first.partition("token=")[2]
