"""The description of the functions is whole, and says the same as the table."""

from devstack.up import Stack
from functions.registry import FUNCTIONS, Shape
from tests.functions.world import make_world


async def test_every_function_is_described(stack: Stack) -> None:
    async with make_world(stack) as world:
        index = (await world.http.get("/functions/v1/")).json()
        described = (await world.http.get(index["openapi"])).json()
    assert {entry["name"] for entry in index["functions"]} == set(FUNCTIONS)
    assert {path.removeprefix("/functions/v1/") for path in described["paths"]} == set(FUNCTIONS)
    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for name, path in described["paths"].items():
        is_signed = FUNCTIONS[name.removeprefix("/functions/v1/")].shape == Shape.SIGNED
        assert path["post"]["security"] == [{"signature" if is_signed else "bearer": []}]
        assert path["post"]["responses"]["default"]["content"]["application/json"]["schema"]


def test_every_function_says_why_a_second_delivery_is_harmless() -> None:
    assert all(function.redelivery and function.callers for function in FUNCTIONS.values())
