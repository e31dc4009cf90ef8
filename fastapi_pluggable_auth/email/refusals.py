"""Whether a server's refusal says that the address of a mail is bad: all else can be put right."""

from __future__ import annotations

import re
from typing import Final

_ENHANCED: Final = re.compile(r"(?:^\s*|#|\()(?P<code>[245]\.\d{1,3}\.\d{1,3})(?![\d.])")
"""RFC 2034 section 4: at the start of the text. Older servers write `(#5.1.1)`."""

ADDRESS_CODES: Final = frozenset(f"5.1.{detail}" for detail in (0, 1, 2, 3, 4, 6, 10))
"""RFC 3463 section 3.2 and RFC 7505 section 4.2. 5.1.7 and 5.1.8 are about the sender's address, and 5.1.9 is
about the relay."""

RECIPIENT_CODES: Final = frozenset({550, 551, 553})
"""RFC 5321 section 4.2.2: no such mailbox, as far as a code without an enhanced one tells."""

_OTHERS: Final = re.compile(
    r"relay|sender|from address|send\s?as|helo|ehlo|rdns|reverse|\bptr\b|authenti|log.?in|\btls\b"
    r"|\bspf\b|dkim|dmarc|quota|full|limit|spam|block|black.?list|deny.?list|\brbl\b|dnsbl|reputation"
    r"|policy|denied|not permitted|not allowed",
    re.IGNORECASE,
)
"""What servers without enhanced codes say at RCPT of the client, its sender, or a full mailbox."""


def blames_address(code: int, text: str, *, to_recipient: bool) -> bool:
    """Whether this answer, to RCPT or to a later command, says that nobody has the recipient's address, so
    that it is pointless to try again (RFC 5321 section 4.2.1)."""
    if not 500 <= code <= 599:
        return False
    if enhanced := _ENHANCED.search(text):
        return enhanced["code"] in ADDRESS_CODES
    return to_recipient and code in RECIPIENT_CODES and not _OTHERS.search(text)
