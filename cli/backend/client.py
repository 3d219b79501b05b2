"""The official Supabase client, logged in, with the few calls that every command makes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import SecretStr

from cli.backend.connection import Connection, Login, find_connection
from cli.backend.session import SavedSession, forget_session, load_session, save_session
from cli.exits import CliError, ExitCode

if TYPE_CHECKING:  # at run time it is imported when a connection is opened: `--help` must stay quick
    from supabase import AsyncClient
    from supabase_auth.types import Session

Row = dict[str, Any]
CALL_TIMEOUT_SECONDS = 180  # a chat with a real base model on a CPU is the slowest call
CONNECT_TIMEOUT_SECONDS = 5


@dataclass
class Client:
    """A logged-in user at one stack."""

    connection: Connection
    supabase: AsyncClient
    user_id: str = ""
    email: str = ""

    async def invoke(self, function: str, body: Row) -> Row:
        """The function's JSON answer. Raises what `cli.failures.explain` understands."""
        options = {"body": body, "responseType": "json"}
        return cast(Row, await self.supabase.functions.invoke(function, options))

    async def rows(self, query: Any) -> list[Row]:
        """What a PostgREST query returns."""
        return cast(list[Row], (await query.execute()).data)

    async def sign_up(self, login: Login) -> None:
        """A new user exists and is logged in. Raises CliError where the address must be confirmed first."""
        answer = await self.supabase.auth.sign_up(
            {"email": login.email, "password": login.password.get_secret_value()}
        )
        if answer.session is None:
            raise CliError(
                f"An account for {login.email} was created; confirm the address before logging in.",
                code="email_not_confirmed",
                exit_code=ExitCode.FORBIDDEN,
            )
        await self._use(answer.session)

    async def sign_in(self, login: Login) -> None:
        answer = await self.supabase.auth.sign_in_with_password(
            {"email": login.email, "password": login.password.get_secret_value()}
        )
        if answer.session is None:
            raise CliError("The login gave no session.", exit_code=ExitCode.FORBIDDEN)
        await self._use(answer.session)

    async def resume(self, saved: SavedSession) -> bool:
        """True when the saved session still opens the stack; a refreshed token has then replaced it."""
        from supabase_auth.errors import AuthError, AuthRetryableError

        try:
            answer = await self.supabase.auth.set_session(
                saved.access_token.get_secret_value(), saved.refresh_token.get_secret_value()
            )
        except AuthRetryableError:
            raise
        except AuthError:
            return False
        if answer.session is None:
            return False
        await self._use(answer.session)
        if answer.session.access_token != saved.access_token.get_secret_value():
            await self.remember()
        return True

    async def remember(self) -> None:
        """The present session is saved for the next command."""
        session = await self.supabase.auth.get_session()
        if session is not None:
            tokens = SecretStr(session.access_token), SecretStr(session.refresh_token)
            save_session(SavedSession(self.connection.url, self.email, *tokens))

    async def _use(self, session: Session) -> None:
        self.user_id, self.email = session.user.id, session.user.email or ""
        # Otherwise a channel that subscribes in the same tick joins as nobody and stays that way.
        await self.supabase.realtime.set_auth(session.access_token)


@asynccontextmanager
async def anonymous_client(connection: Connection) -> AsyncIterator[Client]:
    """A client nobody is logged in with yet; its sockets are closed afterwards."""
    import httpx
    from supabase import AsyncClientOptions, acreate_client

    logging.getLogger("realtime").setLevel(
        logging.CRITICAL
    )  # lost channels are told by the bar, not by a log
    timeout = httpx.Timeout(CALL_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
    async with httpx.AsyncClient(timeout=timeout) as http:
        options = AsyncClientOptions(httpx_client=http)
        supabase = await acreate_client(connection.url, connection.publishable_key, options)
        try:
            yield Client(connection, supabase)
        finally:
            await _close(supabase)


async def _close(supabase: AsyncClient) -> None:
    await supabase.realtime.close()
    timer = supabase.auth._refresh_token_timer  # the library offers no way to stop it but signing out
    if timer is not None:
        timer.cancel()


@asynccontextmanager
async def open_client() -> AsyncIterator[Client]:
    """The client of this user. Raises CliError when no stack is known or nobody can log in."""
    connection = find_connection()
    async with anonymous_client(connection) as client:
        await log_in(client)
        yield client


async def log_in(client: Client) -> None:
    """Somebody is logged in: the environment's user, else the saved one, else the local demo user."""
    login, saved = client.connection.login, load_session(client.connection.url)
    wanted = login.email if login and client.connection.login_is_explicit else None
    if saved is not None and wanted in (None, saved.email):
        if await client.resume(saved):
            return
        forget_session()
    if login is None:
        hint = "Log in with `fineflow login EMAIL`, or create an account with `fineflow signup EMAIL`."
        raise CliError("You are not logged in.", hint=hint, code="unauthorized", exit_code=ExitCode.FORBIDDEN)
    await client.sign_in(login)
    if not client.connection.login_is_explicit:
        await client.remember()
