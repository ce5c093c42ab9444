"""Who hears of it: webhooks, e-mail and what else `apprise` speaks, by the URLs in `BONE_AGE_ALERT_URLS`.

An alert that cannot be delivered is said on stderr and never ends what it is about. URLs hold passwords, so they are
shown masked.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING

from bone_age.plain_text import on_one_line
from bone_age.settings import Home

if TYPE_CHECKING:
    from apprise import Apprise

SEPARATORS = re.compile(r"[\s,]+(?=[a-z0-9+-]+://)", re.IGNORECASE)
KINDS = {"failure": "failure", "drift": "warning", "refusal": "warning", "promotion": "success"}


def alert(home: Home, what: str, said: str) -> bool:
    """Tell everybody; True where there is nobody to tell, or all were told.

    Args:
        what: `failure`, `drift`, `refusal` or `promotion`.
    """
    urls = configured_urls(home)
    if not urls:
        return True
    undelivered = []
    for url in urls:
        notifier = _notifier(url)
        try:
            delivered = notifier is not None and notifier.notify(
                title=f"bone-age: {what}", body=said, notify_type=KINDS[what]
            )
        except Exception:  # services of any kind; whatever ails one is no reason to end a training
            delivered = False
        if not delivered:
            undelivered.append(masked(url))
    for url in undelivered:
        print(on_one_line(f"note: the alert '{what}' was not delivered to {url}"), file=sys.stderr)
    return not undelivered


def configured_urls(home: Home) -> list[str]:
    """One by one, as separated by white space or commas."""
    return [url for url in SEPARATORS.split(home.alert_urls.get_secret_value().strip(" ,\n\t")) if url]


def is_understood(url: str) -> bool:
    """Whether some service takes it."""
    return _notifier(url) is not None


def masked(url: str) -> str:
    """Which service it is, and nothing that lets one in: tokens stand anywhere in such URLs."""
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://***" if separator else "***"


def _notifier(url: str) -> Apprise | None:
    from apprise import Apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs URLs
    notifier = Apprise()
    return notifier if notifier.add(url) else None
