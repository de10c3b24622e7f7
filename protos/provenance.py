"""Where a trial comes from: who made it, when and how, and the cameras that saw it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_CAMERAS = 8
MAX_CAMERA_TEXT = 100
MAX_COEFFICIENTS = 14


class Source(StrEnum):
    """Where a trial comes from. Evaluation trials are kept and never trained on."""

    OFFLINE = "offline"
    ONLINE = "online"
    EVAL = "eval"


@dataclass(frozen=True, kw_only=True)
class CameraIntrinsics:
    """How a camera projects: what a trial keeps to make metres of pixels later.

    They are of the camera's own pictures. A trial's images are the middle square of these, averaged
    down to the size in its spec.
    """

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fx_px: float
    fy_px: float
    ppx_px: float
    """Principal point, from the middle of the leftmost pixel."""
    ppy_px: float
    """Principal point, from the middle of the topmost pixel."""
    distortion_model: str
    """The SDK's name of it, such as `inverse_brown_conrady`; `none` for a pinhole."""
    distortion: tuple[float, ...]
    """The model's coefficients k1 k2 p1 p2 k3."""


@dataclass(frozen=True, kw_only=True)
class CameraFacts:
    """One camera as it was during a trial; ValueError for numbers and texts that cannot be."""

    name: str
    """Its images are the observation field `image.NAME`."""
    intrinsics: CameraIntrinsics
    model: str = ""
    """What it calls itself; empty where it does not say."""
    serial: str = ""
    firmware: str = ""
    exposure_s: float | None = None
    """Fixed exposure time; None where the camera chooses, or has none."""
    gain: float | None = None
    """Fixed gain in the camera's own units; None as above."""
    white_balance_k: float | None = None
    """Fixed white balance, kelvin; None as above."""

    def __post_init__(self) -> None:
        lens = self.intrinsics
        for text in (self.name, self.model, self.serial, self.firmware, lens.distortion_model):
            if not isinstance(text, str) or len(text) > MAX_CAMERA_TEXT:
                raise ValueError(f"camera: expected text of {MAX_CAMERA_TEXT} characters at most")
        if any(type(n) is not int or n < 1 for n in (lens.width, lens.height)):
            raise ValueError(f"camera {self.name}: width and height must be whole pixels")
        given = (self.exposure_s, self.gain, self.white_balance_k)
        numbers = (lens.fx_px, lens.fy_px, lens.ppx_px, lens.ppy_px, *lens.distortion)
        if len(lens.distortion) > MAX_COEFFICIENTS or not all(
            type(n) in (int, float) and math.isfinite(n)
            for n in (*numbers, *(n for n in given if n is not None))
        ):
            raise ValueError(f"camera {self.name}: its numbers must be few and finite")

    @classmethod
    def from_header(cls, raw: Mapping[str, Any]) -> CameraFacts:
        """Rebuilds it from plain JSON values; TypeError or ValueError if they are not that."""
        lens = dict(raw["intrinsics"])
        lens["distortion"] = tuple(lens["distortion"])
        return cls(**{**raw, "intrinsics": CameraIntrinsics(**lens)})


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who made a trial, when and how."""

    actor: str
    incarnation: str
    """One id a process start of the actor."""
    source: Source
    seed: int
    """Seed of the reset of this trial."""
    started_unix_ns: int
    software: str
    """Version of offworld that ran."""
    weights_version: int = 0
    """Version in use when the trial began; 0 when no model acted."""
    weights_digest: str = ""
    position_index: int | None = None
    """Which fixed evaluation position, if any."""
    note: str = ""
    cameras: tuple[CameraFacts, ...] = ()
    """As they were when the trial began; empty where nobody knows."""

    def to_header(self) -> dict[str, Any]:
        """Returns plain JSON values. Without cameras it is as before there were any in it."""
        header = dataclasses.asdict(self)
        if not self.cameras:
            del header["cameras"]
        return header

    @classmethod
    def from_header(cls, raw: Mapping[str, Any]) -> Provenance:
        """Rebuilds it from `to_header`; KeyError, TypeError or ValueError if it is not that."""
        return cls(
            **{
                **raw,
                "source": Source(raw["source"]),
                "cameras": cameras_from_header(raw.get("cameras", ())),
            }
        )


def cameras_from_header(raw: object) -> tuple[CameraFacts, ...]:
    """Returns the cameras of a header; ValueError if they are none or too many."""
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes) or len(raw) > MAX_CAMERAS:
        raise ValueError(f"expected a list of at most {MAX_CAMERAS} cameras")
    try:
        return tuple(CameraFacts.from_header(one) for one in raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the facts of a camera: {error!r}") from error
