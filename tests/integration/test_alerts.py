"""Alerts as their receivers get them; the webhook is in `test_retraining`."""

from __future__ import annotations

import email
import socketserver
from collections.abc import Iterator
from threading import Thread

import pytest

from bone_age.scheduling.alerts import alert, configured_urls
from bone_age.settings import Home


class _Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as a sender needs."""

    def handle(self) -> None:
        received: list[str] = self.server.received  # type: ignore[attr-defined]
        self._say("220 test")
        while line := self.rfile.readline().decode().strip():
            if line.upper() == "DATA":
                self._say("354 go on")
                lines = []
                while (part := self.rfile.readline().decode()) != ".\r\n":
                    lines.append(part)
                received.append("".join(lines))
            self._say("221 bye" if line.upper() == "QUIT" else "250 ok")
            if line.upper() == "QUIT":
                return

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def mail_server() -> Iterator[tuple[int, list[str]]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail) as server:
        received: list[str] = []
        server.received = received  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], received
        server.shutdown()


def test_an_alert_goes_out_by_mail(mail_server: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    port, received = mail_server
    url = f"mailto://127.0.0.1:{port}?mode=insecure&from=bone-age@example.org&to=oncall@example.org&smtp=127.0.0.1"
    monkeypatch.setenv("BONE_AGE_ALERT_URLS", url)
    assert alert(Home(), "failure", "training failed, exit code 2: <no & data>")
    message = email.message_from_string(received[0])
    assert message["Subject"] == "bone-age: failure"
    assert "oncall@example.org" in message["To"]
    body = "".join(part.get_payload(decode=True).decode() for part in message.walk() if not part.is_multipart())  # type: ignore[union-attr]
    assert "training failed, exit code 2" in body


def test_urls_are_separated_by_space_or_comma_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONE_AGE_ALERT_URLS", " json://a:secret@h/x?to=b,c , mailto://u:secret@h\n slack://t/o/k ")
    assert configured_urls(Home()) == ["json://a:secret@h/x?to=b,c", "mailto://u:secret@h", "slack://t/o/k"]
    assert "secret" not in repr(Home())


def test_with_nobody_to_tell_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BONE_AGE_ALERT_URLS", raising=False)
    assert alert(Home(), "drift", "x")
