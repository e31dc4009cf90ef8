"""Whether a server's refusal says that the address of a mail is bad: all else can be put right.

Where an answer may mean either, the mail waits: tried again in vain is noise, given up wrongly is lost.
"""

from __future__ import annotations

import re
from typing import Final

_ENHANCED: Final = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.])")
"""RFC 2034 section 4 has it at the start of each line. Others write `(#5.1.1)`, or `- 5.7.1` at the end."""

ADDRESS_CODES: Final = frozenset(f"5.1.{detail}" for detail in (1, 2, 3, 4, 6, 10))
"""RFC 3463 section 3.2 and RFC 7505 section 4.2. 5.1.7 and 5.1.8 are about the sender's address, and 5.1.9 is
about the relay. 5.1.0 is about either: the words tell."""

RECIPIENT_CODES: Final = frozenset({550, 551, 553})
"""RFC 5321 section 4.2.2: no such mailbox, where a code without an enhanced one says enough."""

_RECIPIENT: Final = re.compile(
    r"\busers?\b|recipient|mailbox|address|account|no such|(not|n't) exist", re.IGNORECASE
)
"""What a refusal that is about the recipient speaks of."""

_OTHERS: Final = re.compile(
    # the client and its sender
    r"relay(?! recipient)|sender|mail from|from address|send\s?as|helo|ehlo|rdns|reverse|\bptr\b|\bip\b"
    r"|authenti|authori[sz]|log.?in|tls\b|encrypt|\bspf\b|dkim|dmarc|verif|callout|sandbox"
    # the sender's behaviour
    r"|spam|virus|suspicious|block|listed|(black|white|deny|allow).?list|\brbl\b|dnsbl|reputation|policy|denied"
    r"|prohibit|permi(t|ssion)|(?<!mailbox name )not allowed"
    # the hour
    r"|too many|too fast|frequen|\brate\b|limit|maximum|exceed|temporar|again|later|defer|gr[ea]y|time.?out"
    # the mailbox, as it is now
    r"|quota|full|\bsize\b|storage|space|inactive|not active|disabled|deactivated|suspend|locked",
    re.IGNORECASE,
)
"""What servers without enhanced codes say at RCPT of something else, also where it names the recipient."""

_QUOTED: Final = re.compile(r"<[^<>]*>|\S+@\S+|\w+://\S+")
"""Addresses and links, which may hold any word."""


def blames_address(code: int, text: str, *, to_recipient: bool) -> bool:
    """Whether this answer, to RCPT or to a later command, says that nobody has the recipient's address, so
    that it is pointless to try again (RFC 5321 section 4.2.1)."""
    if code < 500:
        return False
    enhanced = {*_ENHANCED.findall(text)} - {"5.1.0"}
    if enhanced:
        return enhanced <= ADDRESS_CODES
    words = _QUOTED.sub("", text).strip()
    speaks_of_recipient = bool(_RECIPIENT.search(words)) or not words
    return to_recipient and code in RECIPIENT_CODES and speaks_of_recipient and not _OTHERS.search(words)
