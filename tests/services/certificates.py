"""Certificates of the kind that the README tells how to make."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="certificates are made with openssl"
)


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key."""

    cert: Path
    key: Path


def make_certificate(folder: Path, name: str, host: str = "IP:127.0.0.1") -> Certificate:
    """Makes a certificate that is good for a day, for one host."""
    made = Certificate(cert=folder / f"{name}.crt", key=folder / f"{name}.key")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={host}"),
            *("-keyout", str(made.key), "-out", str(made.cert)),
        ],
        check=True,
        capture_output=True,
    )
    return made
