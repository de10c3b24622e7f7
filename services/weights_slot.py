"""The model that the loop plans with, and how a newer one takes its place between two trials.

A version is used only if it is the one that was announced, its digest, names, shapes and numbers
are right, and it has made a plan. Whatever is wrong with it, the one before stays, and the refused
one is not tried again. Weights are told apart by their marks: the version of another learner may be
lower, or the same.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from learner.algorithms.base import Policy, WeightsRejected
from learner.algorithms.registry import make_policy, policy_config_from_json
from learner.weights import (
    MANIFEST_FILE,
    WeightsCorrupt,
    WeightsNotFinite,
    WeightStore,
    parse_weights,
)
from protos.trial import RobotSpec
from services.records import NO_WEIGHTS, WeightsMark
from services.ring_control import Control

logger = logging.getLogger(__name__)


class WeightsSlot:
    """Holds the policy in use.

    Args:
        root: Folder of verified versions, kept by the recorder.
        spec: The robot; weights learned for another one are refused.
        device: Where to plan.
        seed: Of the exploration noise.
        control: Where to say which version is in use, and what changing it took.
    """

    def __init__(
        self, root: Path, spec: RobotSpec, *, device: str, seed: int, control: Control
    ) -> None:
        self._store = WeightStore(root)
        self._spec = spec
        self._device = device
        self._seed = seed
        self._control = control
        self._policy: Policy | None = None
        self._policy_config = ""
        self._refused: tuple[object, ...] = ()
        self.mark = NO_WEIGHTS
        """The weights in use."""
        self.digest = ""
        """SHA-256 of its file."""
        self.ledger_seq = 0
        """It has learned from every trial up to this row of the learner's ledger."""

    @property
    def version(self) -> int:
        """Version in use; 0 for none."""
        return self.mark.version

    @property
    def pilot(self) -> Policy:
        """The policy with the weights in use."""
        assert self._policy is not None, "there are no weights yet"
        return self._policy

    def follow(self, announced: WeightsMark) -> bool:
        """Changes to the announced weights if they are others; returns whether it did.

        Never called during a trial: it reads a file and plans once.
        """
        if announced in (NO_WEIGHTS, self.mark):
            return False
        attempt = announced, *self._file_of(announced.version)
        if attempt == self._refused:
            return False
        began_ns = time.monotonic_ns()
        try:
            self._change(announced)
        except (WeightsCorrupt, WeightsNotFinite, WeightsRejected, ValueError) as error:
            self._refused = attempt
            self._control.last_refused = announced.version
            self._control.num_refused += 1
            logger.error(
                "event=weights_refused version=%d kept=%d reason=%s",
                announced.version,
                self.version,
                error,
            )
            return False
        took_ns = time.monotonic_ns() - began_ns
        self._control.used_weights = self.mark
        self._control.last_swap_ns = took_ns
        self._control.num_swaps += 1
        logger.info("event=weights_in_use version=%d took_ms=%.0f", self.version, took_ns / 1e6)
        return True

    def _file_of(self, version: int) -> tuple[int, int]:
        """Tells the files of one version apart: damaged ones may have been fetched again."""
        try:
            stat = (self._store.root / str(version) / MANIFEST_FILE).stat()
        except FileNotFoundError:
            return 0, 0
        return stat.st_ino, stat.st_mtime_ns

    def _change(self, announced: WeightsMark) -> None:
        version = announced.version
        manifest = self._store.manifest(version)
        if WeightsMark.of(version, manifest.to_json()) != announced:
            raise WeightsCorrupt(f"version {version} on disk is not the one that was announced")
        if manifest.spec_digest != self._spec.digest():
            raise WeightsRejected(f"version {version} was learned for another robot spec")
        # Against the manifest that was looked at: the recorder may just replace the folder.
        tensors = parse_weights(self._store.read(version, 0, manifest.num_bytes + 1), manifest)
        policy = self._policy
        is_new = policy is None or manifest.policy_config != self._policy_config
        if policy is None or is_new:
            config = policy_config_from_json(manifest.policy_config)
            policy = make_policy(config, self._spec, self._device, self._seed)
        policy.load(tensors)
        if is_new:
            policy.warm_up()
        self._policy, self._policy_config = policy, manifest.policy_config
        self.mark, self.digest = announced, manifest.sha256
        self.ledger_seq = manifest.ledger_seq
