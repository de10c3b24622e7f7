"""The demo, whole and small: real learner, real actor, real Ray; and its end by Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from learner.store import TrialStore
from protos.trial import Source
from services import cli
from services.children import descendants, offworld
from services.demo_result import DemoResult
from services.store_view import StoreView
from tests.services.rig import ROOT, is_gone, wait_until
from tests.services.tiny_demo import write_configs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def command(folder: Path, out: Path, *flags: str) -> list[str]:
    learner, actor = write_configs(folder / "configs")
    return offworld(
        "demo",
        *("--out", str(out)),
        *("--learner-config", str(learner), "--actor-config", str(actor)),
        *("--num-expert-trials", "3", "--num-exploratory-trials", "1"),
        *("--num-online-trials", "2", "--num-positions", "2"),
        *flags,
    )


def test_the_demo_tells_before_after_and_control_and_leaves_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    done = subprocess.run(
        command(tmp_path, out), cwd=ROOT, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = DemoResult.load(out / "result.json")
    evaluations = (result.zero_shot, result.after, result.control)
    assert [len(e.outcomes) for e in evaluations] == [2, 2, 2]
    assert [e.num_updates for e in evaluations] == [10, 16, 16]
    assert [t.weights_version for t in result.online] == [1, 2]
    assert result.num_offline_trials == 4
    assert 0 < result.peak_memory_bytes <= result.peak_resident_bytes
    assert len(result.config_digest) == 64
    assert set(result.seconds) >= {"pretraining", "evaluation after", "control: evaluation"}
    lines = done.stdout.splitlines()
    assert any(line.startswith("control, offline data alone") for line in lines)
    for name in ("report.html", "summary.png", "trials.mp4"):
        assert (out / name).stat().st_size > 10_000

    main, control = StoreView(out / "store"), StoreView(out / "control-store")
    assert [r.source for r in main.rows()] == [
        *[Source.OFFLINE] * 4,
        *[Source.EVAL] * 2,
        *[Source.ONLINE] * 2,
        *[Source.EVAL] * 2,
    ]
    digests = [[r.digest for r in view.rows(source=Source.OFFLINE)] for view in (main, control)]
    assert digests[0] == digests[1]
    assert control.rows(source=Source.ONLINE) == []
    mix = main.batch_mix()
    assert mix.online_fraction[mix.num_updates <= 10].max() == 0
    assert mix.online_fraction[-1] == pytest.approx(0.5)

    spool = str(out / "spools" / "online-trials")
    words = ["--store", str(out / "store"), "--spool", spool, "--json"]
    assert cli.main(["trials", "verify", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["spool"] == {"open": 0, "ready": 0, "acked": 2, "rejected": 0}
    assert told["num_trials"] == 10
    actor = str(tmp_path / "configs" / "actor.toml")
    words = ["--store", str(out / "store"), "--actor-config", actor, "--num-positions", "2"]
    assert cli.main(["eval", *words, "--weights", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["weights_version"], told["trials"]) == (1, 2)


def test_ctrl_c_leaves_a_valid_store_and_nothing_running(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    flags = ("--seed", "3")
    with subprocess.Popen(
        command(tmp_path, out, *flags), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as demo:
        view = StoreView(out / "store")
        try:
            wait_until(lambda: view.status() is not None, timeout_s=120, what="the trainer runs")
            everybody = descendants(demo.pid)
            assert len(everybody) > 3
        finally:
            demo.send_signal(signal.SIGINT)
            told, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Traceback" not in told
    assert [pid for pid in everybody if not is_gone(pid)] == []
    assert view.address() is None
    store = TrialStore.open(out / "store")  # free, and whole
    report = store.fsck()
    store.close()
    assert report.num_trials == 4
    assert report.problems == ()
