"""The same schedule for who has a scheduler already: a systemd timer, or a line for crontab."""

from __future__ import annotations

import re
import shlex

from bone_age.errors import InputError
from bone_age.scheduling.cron import Cron


def systemd(cron: Cron, command: list[str], environment: dict[str, str], folder: str, secrets: str) -> str:
    """A timer and the service it starts; `Persistent=` makes up for one missed time.

    Args:
        secrets: File with variables that no unit should show, read if it is there.
    """
    variables = "\n".join(f"Environment={_quoted(f'{name}={value}')}" for name, value in environment.items())
    return f"""\
# ~/.config/systemd/user/bone-age-retraining.service
[Unit]
Description=Retrain the bone-age model if there is reason to

[Service]
Type=oneshot
WorkingDirectory={folder.replace("%", "%%")}
{variables}
EnvironmentFile=-{secrets.replace("%", "%%")}
ExecStart={" ".join(map(_quoted, command)).replace("$", "$$")}

# ~/.config/systemd/user/bone-age-retraining.timer
[Unit]
Description=When to look whether there is reason to retrain

[Timer]
OnCalendar={cron.calendar}
Persistent=true

[Install]
WantedBy=timers.target

# systemctl --user daemon-reload && systemctl --user enable --now bone-age-retraining.timer"""


def crontab(cron: Cron, command: list[str], environment: dict[str, str], folder: str, secrets: str) -> str:
    """One line; cron makes up for nothing that it missed.

    Raises:
        InputError: The expression has seconds.
    """
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    read_secrets = f"set -a; [ ! -r {shlex.quote(secrets)} ] || . {shlex.quote(secrets)}; set +a"
    line = f"cd {shlex.quote(folder)} && {{ {read_secrets}; {variables} {shlex.join(command)}; }}"
    return f"{cron.crontab} {line.replace('%', chr(92) + '%')}"


def _quoted(text: str) -> str:
    """For systemd, which knows double quotes and `%` as its own."""
    if re.search(r"[\n\0]", text):
        raise InputError(f"{text!r}: cannot stand in a unit")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[^\w%=:,./@+-]", text) else escaped
