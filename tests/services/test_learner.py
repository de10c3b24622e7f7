"""The learner's supervisor: the ingress first and always, refusals, a clean end."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import sys
import threading
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from learner.durable import FolderLock
from learner.ray_trainer import RayNotStarted, RaySupervisor
from learner.store import TrialStore
from robot.sim.offline import OfflineDataConfig, make_offline_trials
from services import cli, config
from services.actor_config import ActorConfig
from services.children import Child, descendants, offworld
from services.client import AccessDenied, LearnerClient, LearnerUnavailable
from services.credentials import ClientSecurity
from services.learner import run_learner
from services.learner_config import LearnerConfig
from services.process import CannotStart, ExitCode
from services.store_view import StoreView
from tests.services.rig import IngressProcess, is_gone, wait_until
from tests.services.tiny_demo import write_configs


@pytest.fixture
def tiny(tmp_path: Path) -> LearnerConfig:
    learner, _ = write_configs(tmp_path / "configs")
    loaded = config.build_file(LearnerConfig, learner)
    return dataclasses.replace(loaded, store=tmp_path / "store", listen="127.0.0.1:0")


def run(settings: LearnerConfig) -> int:
    return run_learner(settings, threading.Event())


def test_a_port_in_use_is_refused_and_the_store_stays_free(
    tiny: LearnerConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("services.learner.START_WAIT_S", 3.0)
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(CannotStart, match="cannot start"):
            run(dataclasses.replace(tiny, listen=listen))
    told = capfd.readouterr().err
    assert re.search(r"event=waiting_to_start up_to_s=[0-3]\.", told)
    assert f"cannot listen on {listen}: Address already in use" in told
    FolderLock(tiny.store / "run" / "learner.lock", "the store").release()
    assert not (tiny.store / "run" / "learner.pid").exists()


def test_a_learner_waits_for_the_ingress_of_one_that_was_killed(
    tiny: LearnerConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("services.learner._train", lambda _config, verdict: verdict.stop.wait())
    old = IngressProcess(tmp_path, arguments=["--listen", "127.0.0.1:0"])
    assert old.store == tiny.store
    stop, codes = threading.Event(), list[int]()
    settings = dataclasses.replace(tiny, listen=old.address)
    view, told = StoreView(tiny.store), ""

    def has_said(text: str) -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return text in told

    with old:
        old.freeze()
        old.process.terminate()  # it hears that its learner is gone, and takes its time
        thread = threading.Thread(target=lambda: codes.append(run_learner(settings, stop)))
        thread.start()
        try:
            wait_until(lambda: has_said(f"reason={old.address}: Address already in use"))
            old.thaw()
            wait_until(lambda: view.address() == old.address, what="the new one serves")
        finally:
            stop.set()
            thread.join()
        assert old.process.wait() == ExitCode.DONE
    assert codes == [ExitCode.DONE]


def test_trials_are_taken_in_while_ray_does_not_come_up(
    tiny: LearnerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_supervisor: RaySupervisor) -> None:
        nonlocal num_tries
        num_tries += 1
        raise RayNotStarted("the node timed out during startup")

    monkeypatch.setattr(RaySupervisor, "start", refuse)
    monkeypatch.setattr("services.learner._FAILURE_BACKOFF_S", 0.01)
    num_tries, codes, stop, view = 0, list[int](), threading.Event(), StoreView(tiny.store)
    thread = threading.Thread(target=lambda: codes.append(run_learner(tiny, stop)))
    thread.start()
    try:
        wait_until(lambda: num_tries > 1, what="Ray was tried again")
        with closing(LearnerClient(view.address() or "")) as client:
            assert client.status().task == "reach"
    finally:
        stop.set()
        thread.join()
    assert codes == [ExitCode.DONE]


def test_a_learner_hands_its_token_on_to_the_ingress(
    tiny: LearnerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.learner._train", lambda _config, verdict: verdict.stop.wait())
    token = tmp_path / "token"
    token.write_text("a-token-that-is-long-enough")
    settings = dataclasses.replace(tiny, token_file=token)
    stop, view = threading.Event(), StoreView(tiny.store)
    thread = threading.Thread(target=run_learner, args=(settings, stop))
    thread.start()
    try:
        wait_until(lambda: view.address() is not None, what="it serves")
        address = view.address() or ""
        with closing(LearnerClient(address)) as stranger, pytest.raises(AccessDenied):
            stranger.status()
        with closing(LearnerClient(address, ClientSecurity(token_file=token))) as client:
            assert client.status().task == "reach"
    finally:
        stop.set()
        thread.join()


def test_a_second_learner_of_a_store_is_refused(tiny: LearnerConfig) -> None:
    (tiny.store / "run").mkdir(parents=True)
    lock = FolderLock(tiny.store / "run" / "learner.lock", "the store")
    try:
        with pytest.raises(CannotStart, match=f"in use by process {os.getpid()}"):
            run(tiny)
    finally:
        lock.release()


def test_a_store_of_another_version_is_left_as_it_is(tiny: LearnerConfig) -> None:
    tiny.store.mkdir()
    marker = json.dumps({"format": "offworld.store", "version": 99})
    (tiny.store / "store.json").write_text(marker)
    with pytest.raises(CannotStart, match="version 99"):
        run(tiny)
    assert not (tiny.store / "config.toml").exists()
    assert (tiny.store / "store.json").read_text() == marker


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_learner_lives_through_the_death_of_its_ingress_and_ends_cleanly(
    tmp_path: Path, tiny: LearnerConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    learner_file, actor_file = write_configs(tmp_path / "configs")
    sim = config.build_file(ActorConfig, actor_file).sim
    store = TrialStore.open(tiny.store)
    data = OfflineDataConfig(sim=sim, num_expert_trials=2, num_exploratory_trials=0)
    for trial in make_offline_trials(data, seed=0):
        store.commit(trial)
    store.close()
    view = StoreView(tiny.store)
    words = ["--config", str(learner_file), "--store", str(tiny.store), "--listen", "127.0.0.1:0"]
    child = Child("learner", offworld("learner", *words), log=tmp_path / "log")
    with child:
        wait_until(lambda: view.address() is not None, timeout_s=60, what="it listens")
        assert view.status() is None  # Ray is not up yet, and trials are taken already
        address = view.address() or ""
        with closing(LearnerClient(address)) as client:
            assert client.status().task == "reach"
            dead = _ingress_pid(tiny.store)
            assert dead is not None
            os.kill(dead, signal.SIGKILL)
            wait_until(lambda: _ingress_pid(tiny.store) not in (None, dead), what="a new ingress")
            wait_until(lambda: _answers(client), timeout_s=30, what="it answers again")
        assert view.address() == address
        wait_until(lambda: _offers_weights(address), timeout_s=90, what="it offers weights")
        assert _num_updates(view) >= 10
        asked = ["--actor-config", str(actor_file), "--num-positions", "1", "--json"]
        assert cli.main(["eval", "--learner", address, *asked]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["weights_version"], told["trials"]) == (1, 1)
        assert cli.main(["eval", "--learner", address, *asked, "--weights", "7"]) == 3
        assert "offers weights v1, not v7" in capsys.readouterr().err
        assert "libtorch" not in Path(f"/proc/{child.pid}/maps").read_text(), (
            "only the trainer needs it"
        )
        everybody = descendants(child.pid)
        assert len(everybody) > 3
        assert child.stop() == ExitCode.DONE, child.log_tail()
    assert [pid for pid in everybody if not is_gone(pid)] == []
    assert list((tiny.store / "run").glob("*.pid")) == []
    assert view.address() is None
    saved = tomllib.loads((tiny.store / "config.toml").read_text())
    again = config.build(LearnerConfig, saved, file="saved")
    assert again.algorithm == tiny.algorithm

    other = Child(
        "learner", offworld("learner", *words, "--algorithm.latent-size", "9"), log=tmp_path / "log"
    )
    with other:
        assert other.wait(90) == ExitCode.CANNOT_START, other.log_tail()
    assert "another algorithm" in other.log_tail()


def _ingress_pid(root: Path) -> int | None:
    try:
        return int((root / "run" / "ingress.pid").read_text())
    except (FileNotFoundError, ValueError):  # it is gone, or being written
        return None


def _answers(client: LearnerClient) -> bool:
    try:
        return client.status().task == "reach"
    except LearnerUnavailable:
        return False


def _offers_weights(address: str) -> bool:
    with closing(LearnerClient(address)) as client:
        return client.status().latest_weights.version >= 1


def _num_updates(view: StoreView) -> int:
    status = view.status()
    return 0 if status is None else status.num_updates
