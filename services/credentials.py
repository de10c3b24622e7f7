"""Who may call a learner, and whom its callers believe: a shared token, TLS, or both.

The token keeps strangers out. TLS shows callers that it is their learner, and keeps what passes
from being read or changed on the way; without it a token is read by whoever sees the traffic.
Tokens and keys stay in files: they are in no configuration, no command line and no log.
"""

from __future__ import annotations

import hmac
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.process import CannotStart

_KEY = "authorization"
_TOKEN = re.compile(r"[!-~]{16,}")

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class ServerSecurity:
    """What a learner asks of its callers, and how it shows them who it is."""

    token_file: Path | None = None
    """File with the token that callers must show; None takes calls from anyone."""
    tls_cert: Path | None = None
    """Certificate of the learner and what it is signed with, PEM; None serves without TLS."""
    tls_key: Path | None = None
    """The certificate's private key, PEM, without a password."""

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both or none")

    def token(self) -> str | None:
        """Reads the token; None where none is asked for, CannotStart if it is unusable."""
        return None if self.token_file is None else _read_token(self.token_file)

    def key_and_certificate(self) -> tuple[bytes, bytes] | None:
        """Reads private key and certificate; None without TLS, CannotStart if they do not fit."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls_cert, self.tls_key, password="")  # noqa: S106
            return self.tls_key.read_bytes(), self.tls_cert.read_bytes()
        except OSError as error:  # an SSLError is one
            raise CannotStart(
                f"tls_cert {self.tls_cert} and tls_key {self.tls_key} cannot be used: {error}"
            ) from error

    def gaps(self) -> list[str]:
        """Says what others on the network can do, as far as these settings leave it open."""
        return [
            *(["anyone there may call: set token_file"] if self.token_file is None else []),
            *(
                ["whoever sees the traffic can read and change it: set tls_cert and tls_key"]
                if self.tls_cert is None
                else []
            ),
        ]


@dataclass(frozen=True, kw_only=True)
class ClientSecurity:
    """What a caller shows its learner, and how it knows that it is the one."""

    token_file: Path | None = None
    """File with the learner's token; None shows none."""
    tls_ca: Path | None = None
    """Certificate that the learner's is signed with (itself, if self-signed), PEM; None for a
    learner without TLS."""

    def metadata(self) -> Metadata:
        """Returns what goes along with every call; CannotStart if the token is unusable."""
        if self.token_file is None:
            return ()
        return ((_KEY, f"Bearer {_read_token(self.token_file)}"),)

    def root_certificate(self) -> bytes | None:
        """Reads the certificate to believe; None without TLS, CannotStart if it is none."""
        if self.tls_ca is None:
            return None
        try:
            ssl.create_default_context(cafile=self.tls_ca)
            return self.tls_ca.read_bytes()
        except OSError as error:
            raise CannotStart(f"tls_ca {self.tls_ca} cannot be used: {error}") from error


def shows_token(metadata: Iterable[tuple[str, str | bytes]], token: str) -> bool:
    """Whether a call's metadata has the token; how long it takes says nothing about the token."""
    shown = [value for key, value in metadata if key == _KEY]
    if len(shown) != 1:
        return False
    value = shown[0] if isinstance(shown[0], bytes) else shown[0].encode()
    return hmac.compare_digest(value, f"Bearer {token}".encode())


def security_flags(security: ServerSecurity | ClientSecurity) -> list[str]:
    """Returns the command-line flags that hand these settings to another process."""
    words: list[str] = []
    for name in ("token_file", "tls_cert", "tls_key", "tls_ca"):
        path: Path | None = getattr(security, name, None)
        if path is not None:
            words += [f"--{name.replace('_', '-')}", str(path.absolute())]
    return words


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"token_file {path} cannot be read: {error}") from error
    if not _TOKEN.fullmatch(token):
        raise CannotStart(
            f"token_file {path}: expected one word of at least 16 printable characters; make one "
            "with `openssl rand -hex 32`"
        )
    return token
