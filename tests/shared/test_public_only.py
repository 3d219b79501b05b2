import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.errors import ProviderRejected, ProviderUnavailable
from shared.llm.base import Turn
from shared.llm.openai_compatible import OpenAICompatible
from shared.public_only import is_public

PRIVATE = [
    "127.0.0.1",
    "localhost",
    "10.0.0.7",
    "169.254.169.254",
    "[::1]",
    "[::ffff:169.254.169.254]",
    "2130706433",
    "0x7f.1",
    "0.0.0.0",
]


@pytest.mark.parametrize("host", PRIVATE)
async def test_an_address_that_a_user_chose_reaches_nothing_private(host: str) -> None:
    calls = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with pytest.raises((ProviderRejected, ProviderUnavailable)):
        await _ask(f"http://{host}:{runner.addresses[0][1]}")
    await runner.cleanup()
    assert calls == 0


async def _ask(url: str) -> None:
    model = OpenAICompatible(url, "m", SecretStr("sk-canary-12345678"), public_only=True)
    try:
        await model.complete([Turn("user", "hi")])
    finally:
        await model.close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("224.0.0.1", False),
        ("2002:7f00:1::", False),
        ("fd00::1", False),
    ],
)
def test_public_addresses_are_told(address: str, public: bool) -> None:
    assert is_public(address) is public
