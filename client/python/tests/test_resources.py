"""Schedules, triggers, tokens and what else a server has, against a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import gristmill
from conftest import PATIENCE_S, Cluster, wait_for
from gristmill import Client, Local

NOOP = "name: nightly\nparams: { path: none }\nsteps:\n  a: { noop: {} }\n"


@pytest.fixture(scope="module")
def client(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with gristmill.local(tmp_path_factory.mktemp("home"), binary=binary) as found:
        yield found


def test_schedules_make_runs_by_the_clock(client: Local) -> None:
    made = client.schedules.put(
        "each-minute", "* * * * *", {"pipeline": NOOP}, timezone="Europe/Berlin", overlap="skip"
    )
    assert (made.name, made.timezone, made.overlap, made.paused) == ("each-minute", "Europe/Berlin", "skip", False)
    assert len(made.next_ms) == 5
    client.schedules.pause("each-minute")
    assert client.schedules.get("each-minute").paused
    client.schedules.unpause("each-minute")
    assert [schedule.name for schedule in client.schedules.list()] == ["each-minute"]
    with pytest.raises(gristmill.BadInputError):
        client.schedules.put("wrong", "61 * * * *", {"pipeline": NOOP})
    client.schedules.delete("each-minute")
    with pytest.raises(gristmill.NotFoundError):
        client.schedules.get("each-minute")


def test_triggers_make_runs_when_something_happens(client: Local, tmp_path: Path) -> None:
    submit = {"pipeline": NOOP, "params": {"path": "{{body.file}}"}}
    client.triggers.put("hook", {"webhook": {}}, submit)
    run = client.run(client.triggers.fire("hook", {"file": "a.csv"}))
    assert run.wait(timeout=PATIENCE_S).params == {"path": "a.csv"}
    client.triggers.put(
        "arrived", {"file": {"glob": str(tmp_path / "*.csv")}}, {"pipeline": NOOP, "params": {"path": "{{path}}"}}
    )
    (tmp_path / "new.csv").write_text("a\n1\n")

    def fired() -> gristmill.Run | None:
        paths = {item.run: client.run(item.run).view().params["path"] for item in client.runs()}
        return next((client.run(run) for run, path in paths.items() if path == str(tmp_path / "new.csv")), None)

    wait_for("the run of the file", fired).wait(timeout=PATIENCE_S)
    assert {trigger.name for trigger in client.triggers.list()} == {"arrived", "hook"}
    client.triggers.pause("hook")
    assert client.triggers.get("hook").paused
    for name in ("arrived", "hook"):
        client.triggers.delete(name)
    assert client.triggers.list().all() == []


def test_the_cluster_is_told(client: Local) -> None:
    (worker,) = client.cluster.workers().all()
    assert worker.pools == ("default",)
    (pool,) = [pool for pool in client.cluster.pools() if pool.name == "default"]
    assert (pool.workers, pool.slots) == (1, worker.slots)


def test_endpoints_are_read(client: Local) -> None:
    assert client.endpoints.list().all() == []
    with pytest.raises(gristmill.NotFoundError):
        client.endpoints.get("nobody")


def test_what_nobody_could_read_is_kept(cluster: Cluster) -> None:
    server = cluster.start(cluster.binary, "api", "--listen", "127.0.0.1:0")
    url = server.await_line(r"the API is at (http://[^\s;]+)").group(1)
    with gristmill.QueueClient(cluster.environment["GRISTMILL_BROKER"]) as queue, Client(url) as client:
        queue.submit("name: x\nsteps:\n  a: { nop: {} }\n", key="wrong")
        (letter,) = wait_for("the dead letter", lambda: client.dead_letters.list().all())
        assert letter.queue == "gm.submissions.dead"
        assert "mistake" in str(letter.reason)
        client.dead_letters.delete(letter.id)
        assert client.dead_letters.list().all() == []
    assert server.end() == 0


def test_a_token_says_who_may_do_what(binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gristmill.local(tmp_path / "home", binary=binary) as local:
        admin = local.tokens.create("boss", "admin")
        with pytest.raises(gristmill.DeniedError):
            local.whoami()
        with Client(local.url, token=admin.token) as boss:
            viewer = boss.tokens.create("reader", "viewer", namespaces=["research"], expires_days=1)
            assert {token.name: token.role for token in boss.tokens.list()} == {"boss": "admin", "reader": "viewer"}
            monkeypatch.setenv("GRISTMILL_TOKEN", viewer.token)
            with Client(local.url) as reader:
                me = reader.whoami()
                assert (me.name, me.role, me.namespaces, me.anonymous) == ("reader", "viewer", ("research",), False)
                with pytest.raises(gristmill.DeniedError):
                    reader.submit(NOOP)
                boss.tokens.delete(viewer.id)
                with pytest.raises(gristmill.DeniedError):
                    reader.whoami()
            assert any("tokens" in str(entry["what"]) for entry in boss.tokens.audit())
