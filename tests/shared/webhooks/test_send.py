"""Where a webhook goes, where it never goes, and what is made of the answers."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import InvalidRequest
from shared.webhooks.send import Answer, require_endpoint_url, sender
from tests.shared.webhooks.receiver import receiver, status

NASTY = [
    "127.0.0.1",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "10.0.0.7",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "2852039166",
    "100.64.0.1",
    "192.0.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "127.0.0.1.",
    "①②⑦.⓪.⓪.①",
]


async def post(url: str, *, allow_private: bool = False, resolver: AbstractResolver | None = None) -> Answer:
    async with sender(allow_private=allow_private, timeout_seconds=2, resolver=resolver) as to:
        return await to.post(url, b"{}", {})


@pytest.mark.parametrize("host", NASTY)
async def test_no_address_leads_inside(host: str) -> None:
    async with receiver() as inside:
        for url in (f"https://{host}/", f"https://{host}:{inside.port}/", f"http://{host}:{inside.port}/"):
            answer = await post(url)
            assert answer.status_code is None, url
            assert answer.error
            assert "in time" not in answer.error, url
        assert inside.messages == []


class Names(AbstractResolver):
    """Answers each time with the next of these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses[min(self.asked, len(self.addresses) - 1)]
        self.asked += 1
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        flags = socket.AI_NUMERICHOST
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=flags)]

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    "inside", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "169.254.169.254"]
)
async def test_a_name_that_leads_inside_is_not_followed(inside: str) -> None:
    answer = await post("https://moved.example/", resolver=Names(inside))
    assert answer.error
    assert "address is not public" in answer.error


async def test_a_name_is_asked_once_and_that_address_is_connected_to() -> None:
    """The rebinding attack: the check would see the first address and the connection the second."""
    connected: list[str] = []
    names = Names("8.8.8.8", "127.0.0.1")
    real = asyncio.get_running_loop().sock_connect

    async def sock_connect(sock: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise ConnectionRefusedError

    loop = asyncio.get_running_loop()
    loop.sock_connect = sock_connect  # type: ignore[method-assign,assignment]  # nothing leaves the machine
    try:
        first = await post("https://rebinding.example/", resolver=names)
        assert (names.asked, connected) == (1, ["8.8.8.8"])
        second = await post("https://rebinding.example/", resolver=names)
        assert (names.asked, connected) == (2, ["8.8.8.8"])
    finally:
        loop.sock_connect = real  # type: ignore[method-assign]
    assert first.status_code is None
    assert "address is not public" in str(second.error)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(code: int) -> None:
    async with receiver() as inside:
        for target in ("http://169.254.169.254/latest/meta-data/", inside.url):
            async with receiver(status(code, location=target)) as moved:
                answer = await post(moved.url, allow_private=True)
                assert answer == Answer(code, f"{code}: redirects are not followed.")
                assert len(moved.messages) == 1
        assert inside.messages == []


@pytest.mark.parametrize(
    ("url", "public", "private"),
    [
        ("https://hooks.example/path?x=1", True, True),
        ("https://hooks.example:443/", True, True),
        ("https://hooks.example:8443/", False, True),
        ("http://hooks.example/", False, True),
        ("http://127.0.0.1:9000/", False, True),
        ("https://10.0.0.1/", False, True),
        ("https://user:secret@hooks.example/", False, False),
        ("https://hooks.example/#part", False, False),
        ("ftp://hooks.example/", False, False),
        ("https:///path", False, False),
        ("https://[::1", False, False),
        ("https://hooks.example:99999/", False, False),
        ("javascript:alert(1)", False, False),
    ],
)
def test_which_addresses_may_be_set(url: str, public: bool, private: bool) -> None:
    for allow_private, allowed in ((False, public), (True, private)):
        if allowed:
            require_endpoint_url(url, allow_private=allow_private)
            continue
        with pytest.raises(InvalidRequest) as refused:
            require_endpoint_url(url, allow_private=allow_private)
        assert refused.value.code == "webhook_url_refused"


async def test_what_is_made_of_answers() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)

    def says(text: str, code: int = 500) -> web.Response:
        return web.Response(status=code, text=text)

    cases = [
        (status(200), Answer(200)),
        (status(299), Answer(299)),
        (status(429, retry_after="7"), Answer(429, "429:", 7)),
        (status(503, retry_after="soon"), Answer(503, "503:")),
        (lambda _: says("no, because sk-canary-12345678"), Answer(500, "500: no, because [redacted]")),
        (lambda _: says("a\x00b\nc"), Answer(500, "500: a b c")),
        (lambda _: says("x" * 9999), Answer(500, "500: " + "x" * 295)),
    ]
    for answer, expected in cases:
        async with receiver(answer) as there:
            assert await post(there.url, allow_private=True) == expected
    async with receiver(status(503, retry_after=at)) as there:
        wait = (await post(there.url, allow_private=True)).retry_after_seconds
        assert wait
        assert 90 < wait <= 100


async def test_a_silent_or_endless_receiver_is_left() -> None:
    async with receiver(delay_seconds=60) as silent, sender(allow_private=True, timeout_seconds=0.2) as to:
        assert await to.post(silent.url, b"{}", {}) == Answer(None, "No answer in time.")

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x" * 65_536)
        return response

    app = web.Application()
    app.router.add_post("/", drip)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    answer = await post(f"http://127.0.0.1:{runner.addresses[0][1]}/", allow_private=True)
    await runner.cleanup()
    assert answer == Answer(500, "500: " + "x" * 295)
