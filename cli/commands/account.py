"""`fineflow login`, `signup`, `logout`: who the next commands act for."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from cli.backend.client import anonymous_client, log_in
from cli.backend.connection import Login, find_connection
from cli.backend.session import forget_session, load_session
from cli.command import command
from cli.commands.keys import read_secret
from cli.screen.output import Result

root = typer.Typer()

Email = Annotated[str, typer.Argument(help="The password is read from a hidden prompt or standard input.")]


@command(root, "login")
async def login(email: Email) -> Result:
    """Log in and stay logged in."""
    return await _enter(email, is_new=False)


@command(root, "signup")
async def signup(email: Email) -> Result:
    """Create an account and log in."""
    return await _enter(email, is_new=True)


@command(root, "logout")
async def logout() -> Result:
    """End the saved session, here and at the server."""
    connection = find_connection()
    saved = load_session(connection.url)
    if saved is None:
        return Result({"loggedOut": False}, "Nobody was logged in.")
    async with anonymous_client(connection) as client:
        with contextlib.suppress(Exception):  # a session that the server forgot already is as good as ended
            if await client.resume(saved):
                await client.supabase.auth.sign_out()
    forget_session()
    return Result({"loggedOut": True, "email": saved.email}, f"{saved.email} is logged out.")


@command(root, "whoami")
async def whoami() -> Result:
    """The user and the stack that commands act on."""
    async with anonymous_client(find_connection()) as client:
        await log_in(client)
        who = {"email": client.email, "userId": client.user_id, "url": client.connection.url}
    return Result(who, f"{who['email']} at {who['url']}")


async def _enter(email: str, *, is_new: bool) -> Result:
    connection = find_connection()
    credentials = Login(email, read_secret("Password: "))
    async with anonymous_client(connection) as client:
        await (client.sign_up if is_new else client.sign_in)(credentials)
        await client.remember()
        who = {"email": client.email, "userId": client.user_id, "url": connection.url}
    return Result(who, f"{who['email']} is logged in at {who['url']}.")
