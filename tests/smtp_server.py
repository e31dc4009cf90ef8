"""A real SMTP server on loopback, for tests."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Literal, Self

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Behaviour = Literal["accept", "temporary", "permanent", "sender", "refuse_data", "drop", "hang", "hang_data"]

FOREVER = 3600.0


@dataclass
class Delivery:
    """One accepted mail with its envelope."""

    sender: str
    recipients: list[str]
    options: list[str]
    raw: bytes
    message: EmailMessage = field(init=False)

    def __post_init__(self) -> None:
        self.message = email.message_from_bytes(self.raw, EmailMessage, policy=email.policy.default)


class MailServer:
    """Context manager: an SMTP server in a thread, on a free port of 127.0.0.1.

    `tls` is "starttls", "tls" (implicit) or None; `ca_file` is then the authority to trust, and the
    certificate names `certificate_for`. `login` is the only (user, password), and mandatory. `behaviour` may
    change at any time: "accept"; "temporary" and "permanent" answer RCPT with 451 and 550; "sender" answers
    MAIL with 550 and "refuse_data" DATA with 554; "drop" closes after DATA; "hang" never greets; "hang_data"
    never answers DATA. `answers` are given to a command whatever else holds. An accepted mail takes `delay`
    seconds.
    """

    def __init__(
        self,
        *,
        tls: Literal["starttls", "tls"] | None = None,
        login: tuple[str, str] | None = None,
        require_starttls: bool = False,
        certificate_for: str = "127.0.0.1",
        smtputf8: bool = True,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.behaviour: Behaviour = "accept"
        self.answers: dict[Literal["EHLO", "MAIL", "RCPT", "DATA"], str] = {}
        self.delay = 0.0
        self.connections = 0
        """How many were opened."""
        self.at_once = 0
        """How many mails were under way at a time, at most."""
        self._under_way = 0
        self.deliveries: list[Delivery] = []
        self.wire = bytearray()
        """What clients sent, TLS taken off."""
        self.login = login
        self.ca_file: Path | None = None
        self._folder = TemporaryDirectory(prefix="mail-server-")
        self._controller = _Controller(
            self,
            implicit=self._context(certificate_for) if tls == "tls" else None,
            starttls=self._context(certificate_for) if tls == "starttls" else None,
            require_starttls=require_starttls,
            smtputf8=smtputf8,
            port=port,
            host=host,
        )

    @property
    def port(self) -> int:
        return self._controller.port

    @property
    def messages(self) -> list[EmailMessage]:
        return [delivery.message for delivery in self.deliveries]

    @property
    def recipients(self) -> list[list[str]]:
        """The envelope recipients of every mail."""
        return [delivery.recipients for delivery in self.deliveries]

    def wait_for(self, n: int, timeout: float = 5.0) -> list[EmailMessage]:
        """Block until n mails have come; raises `TimeoutError`. In async tests use `wait`."""
        deadline = time.monotonic() + timeout
        while len(self.deliveries) < n:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.deliveries)} of {n} mails came.")
            time.sleep(0.005)
        return self.messages

    async def wait(self, n: int, timeout: float = 5.0) -> list[EmailMessage]:
        """As `wait_for`, while the event loop goes on."""
        return await asyncio.to_thread(self.wait_for, n, timeout)

    def clear(self) -> None:
        self.deliveries.clear()
        self.answers.clear()
        self.wire.clear()
        self.connections = self.at_once = 0

    def hang_up(self) -> None:
        """Closes every connection, as servers do with the idle."""
        self._controller.hang_up()

    def __enter__(self) -> Self:
        self._controller.start()
        self.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()
        self._folder.cleanup()

    def _context(self, host: str) -> ssl.SSLContext:
        authority = trustme.CA()
        self.ca_file = Path(self._folder.name, "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(host).configure_cert(context)
        return context

    # The hooks of aiosmtpd.

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if answer := self.answers.get("MAIL"):
            return answer
        if self.login and not session.authenticated:
            return "530 5.7.0 Authentication required"
        if self.behaviour == "sender":
            return "550 5.7.1 Sender not allowed"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if answer := self.answers.get("RCPT"):
            return answer
        if self.behaviour == "temporary":
            return f"451 4.3.0 Try again later <{address}>"
        if self.behaviour == "permanent":
            return f"550 5.1.1 No such user <{address}>"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if answer := self.answers.get("DATA"):
            return answer
        if self.behaviour == "hang_data":
            await asyncio.sleep(FOREVER)
        if self.behaviour == "drop":
            assert server.transport
            server.transport.close()
            return "451 Never seen"
        if self.behaviour == "refuse_data":
            return "554 5.7.1 Looks like spam"
        assert isinstance(envelope.content, bytes)
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        await asyncio.sleep(self.delay)
        self._under_way -= 1
        self.deliveries.append(
            Delivery(envelope.mail_from or "", envelope.rcpt_tos, envelope.mail_options, envelope.content)
        )
        return "250 OK"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = (data.login.decode(), data.password.decode())
        return AuthResult(success=given == self.login, handled=False)


class _Protocol(SMTP):
    mail_server: MailServer

    async def smtp_EHLO(self, hostname: str) -> None:
        if answer := self.mail_server.answers.get("EHLO"):
            await self.push(answer)
        else:
            await super().smtp_EHLO(hostname)

    async def smtp_HELO(self, hostname: str) -> None:
        await self.smtp_EHLO(hostname)

    def data_received(self, data: bytes) -> None:
        self.mail_server.wire += data
        super().data_received(data)

    async def _handle_client(self) -> None:
        if self.mail_server.behaviour == "hang":
            await asyncio.sleep(FOREVER)
        await super()._handle_client()


class _Controller(Controller):
    def __init__(
        self,
        mail_server: MailServer,
        *,
        implicit: ssl.SSLContext | None,
        starttls: ssl.SSLContext | None,
        require_starttls: bool,
        smtputf8: bool,
        port: int,
        host: str,
    ) -> None:
        super().__init__(mail_server, hostname=host, port=port, ssl_context=implicit)
        self._make: Callable[[], _Protocol] = lambda: _Protocol(
            mail_server,
            loop=self.loop,
            hostname="localhost",
            tls_context=starttls,
            require_starttls=require_starttls,
            enable_SMTPUTF8=smtputf8,
            authenticator=mail_server.authenticate,
            # aiosmtpd counts STARTTLS only as TLS, so leave AUTH open wherever there is none.
            auth_require_tls=starttls is not None,
            auth_exclude_mechanism=() if mail_server.login else ("LOGIN", "PLAIN"),
        )
        self._mail_server = mail_server
        self._protocols: list[_Protocol] = []

    def factory(self) -> _Protocol:
        protocol = self._make()
        protocol.mail_server = self._mail_server
        self._mail_server.connections += 1
        self._protocols.append(protocol)
        return protocol

    def stop(self, no_assert: bool = False) -> None:
        # The controller stops its loop at once, and what is still open would warn when it is collected.
        self.hang_up()
        super().stop(no_assert)

    def hang_up(self) -> None:
        asyncio.run_coroutine_threadsafe(self._hang_up(), self.loop).result(5)

    async def _hang_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for protocol in self._protocols:
            for transport in (protocol.transport, protocol._original_transport):
                if isinstance(transport, asyncio.WriteTransport):
                    transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


def text_of(message: EmailMessage) -> str:
    """The text part."""
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def link_in(message: EmailMessage) -> str:
    """The first http link of the text part."""
    found = re.search(r"https?://\S+", text_of(message))
    assert found, "There is no link in the mail."
    return found[0]
