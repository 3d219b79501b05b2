"""One socket and its channels."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed

from devstack.realtime.hub import Hub
from devstack.realtime.protocol import JoinConfig, Message, decode, encode, to_json
from devstack.realtime.subscriptions import Subscription, SubscriptionRefused, find_subscriptions
from devstack.realtime.tokens import Identity, TokenRefused, Tokens

TOPIC_PREFIX = "realtime:"
SILENCE_SECONDS = 60  # clients send a heartbeat every 25
LIVE_TIMEOUT_SECONDS = 5
MAX_CHANNELS = 100
MAX_UNSENT_BYTES = 4 * 1024 * 1024
MALFORMED, OVERLOADED = 1007, 1011
NOT_RELAYED = "broadcast, presence and private channels are accepted, but nothing is relayed or checked"
log = logging.getLogger(__name__)
_told: set[str] = set()


@dataclass(eq=False)
class Channel:
    """A joined topic. `token` is None while the socket's API key speaks for it.

    `is_settled`: the client has been told once how its subscription went.
    """

    topic: str
    join_ref: str | None
    config: JoinConfig
    identity: Identity
    token: str | None
    subscriptions: list[Subscription] = field(default_factory=list)
    is_settled: bool = False


class Connection:
    """Answers one client until it leaves; nothing of it stays in the hub afterwards."""

    def __init__(
        self, socket: ServerConnection, version: str, key_identity: Identity, hub: Hub, tokens: Tokens
    ) -> None:
        self._socket = socket
        self._version = version
        self._key_identity = key_identity
        self._hub = hub
        self._tokens = tokens
        self._channels: dict[str, Channel] = {}

    async def run(self) -> None:
        """Returns when the socket is closed, silent for too long, or sends what is no message."""
        self._hub.sessions.add(self)
        try:
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    frame = await self._socket.recv()
                await self._handle(decode(self._version, frame))
        except (ConnectionClosed, TimeoutError):
            return
        except ValueError:
            await self._socket.close(MALFORMED, "malformed message")
        finally:
            self._hub.sessions.discard(self)
            for channel in self._channels.values():
                self._hub.replace(channel.subscriptions, [])
            self._channels.clear()

    def push(self, topic: str, event: str, payload_json: str) -> None:
        """The event is on its way; a client that does not read is dropped and may connect again."""
        self._send(None, None, topic, event, payload_json)

    def close_expired(self, now: float) -> None:
        """Closes the channels whose token had expired at `now` (Unix seconds)."""
        for channel in list(self._channels.values()):
            if channel.identity.expires_at <= now:
                self._close(channel, "Token has expired")

    async def resubscribe(self) -> None:
        """Subscribes all channels again and says so: changes may have been missed."""
        for channel in list(self._channels.values()):
            if channel.is_settled:
                await self._subscribe(channel)

    async def _handle(self, message: Message) -> None:
        channel = self._channels.get(message.topic)
        match message.event:
            case "heartbeat" if message.topic == "phoenix":
                self._reply(message, "ok", {})
            case "phx_join":
                await self._join(message)
            case _ if channel is None:
                self._reply(message, "error", {"reason": "unmatched topic"})
            case "phx_leave":
                self._reply(message, "ok", {})
                self._close(channel)
            case "access_token":
                await self._renew(channel, message.payload.get("access_token"))
            case _:
                _tell_once(NOT_RELAYED)
                if message.ref is not None:
                    self._reply(message, "ok", {})

    async def _join(self, message: Message) -> None:
        if previous := self._channels.get(message.topic):
            self._close(previous)
        try:
            channel = self._channel(message)
        except TokenRefused as error:
            return self._reply(message, "error", {"reason": str(error)})
        except ValidationError as error:
            return self._reply(message, "error", {"reason": f"InvalidJoin: {error.errors()[0]['msg']}"})
        except _JoinRefused as error:
            return self._reply(message, "error", {"reason": str(error)})
        self._channels[channel.topic] = channel
        # Realtime answers the join before it subscribes, unless the client asks it to wait.
        if channel.config.waits and (refusal := await self._replace_subscriptions(channel)):
            self._channels.pop(channel.topic, None)
            return self._reply(message, "error", {"reason": refusal})
        self._reply(message, "ok", {"postgres_changes": channel.config.echo()})
        if channel.config.has_presence:
            self.push(channel.topic, "presence_state", "{}")
        if channel.config.waits:
            self._settle(channel, None)
        else:
            await self._subscribe(channel)

    def _channel(self, message: Message) -> Channel:
        if not message.topic.startswith(TOPIC_PREFIX) or message.topic == TOPIC_PREFIX:
            raise _JoinRefused("TopicNameRequired: You must provide a topic name")
        if len(self._channels) >= MAX_CHANNELS:
            raise _JoinRefused("ChannelRateLimitReached: Too many channels")
        config = JoinConfig.model_validate(message.payload.get("config") or {})
        config.requests()
        if config.has_presence or config.private:
            _tell_once(NOT_RELAYED)
        token = _user_token(message.payload.get("access_token") or message.payload.get("user_token"))
        identity = self._tokens.of_user(token) if token else self._key_identity
        return Channel(message.topic, message.join_ref or message.ref, config, identity, token)

    async def _renew(self, channel: Channel, sent: Any) -> None:
        token = _user_token(sent)
        if token is None or token == channel.token:
            return
        try:
            channel.identity = self._tokens.of_user(token)
        except TokenRefused as error:
            return self._close(channel, str(error))
        channel.token = token
        await self._subscribe(channel)

    async def _subscribe(self, channel: Channel) -> None:
        if channel.config.postgres_changes:
            self._settle(channel, await self._replace_subscriptions(channel))

    def _settle(self, channel: Channel, error: str | None) -> None:
        if self._channels.get(channel.topic) is channel:
            self._system(channel, "postgres_changes", error, "Subscribed to PostgreSQL")
            channel.is_settled = True

    async def _replace_subscriptions(self, channel: Channel) -> str | None:
        """The channel hears what it asked for as its present identity; on an error, returned, nothing."""
        if not await self._hub.wait_live(LIVE_TIMEOUT_SECONDS):
            return "Unable to subscribe to changes: the change stream is not live"
        identity, wanted, error = channel.identity, [], None
        try:
            wanted = await find_subscriptions(
                self, channel.topic, channel.config.requests(), identity, self._hub.database
            )
        except SubscriptionRefused as refusal:
            error = str(refusal)
        # The client may have left, or sent another token, while Postgres was asked.
        if self._channels.get(channel.topic) is channel and channel.identity is identity:
            self._hub.replace(channel.subscriptions, wanted)
            channel.subscriptions = wanted
        return error

    def _close(self, channel: Channel, error: str | None = None) -> None:
        del self._channels[channel.topic]
        self._hub.replace(channel.subscriptions, [])
        if error:
            self._system(channel, "system", error)
        self._send(channel.join_ref, channel.join_ref, channel.topic, "phx_close", "{}")

    def _system(self, channel: Channel, extension: str, error: str | None, success: str = "") -> None:
        payload = {
            "extension": extension,
            "status": "error" if error else "ok",
            "message": error or success,
            "channel": channel.topic.removeprefix(TOPIC_PREFIX),
        }
        self.push(channel.topic, "system", to_json(payload))

    def _reply(self, message: Message, status: str, response: dict[str, Any]) -> None:
        payload = to_json({"status": status, "response": response})
        self._send(message.join_ref, message.ref, message.topic, "phx_reply", payload)

    def _send(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload_json: str) -> None:
        frame = encode(self._version, join_ref, ref, topic, event, payload_json)
        # Unlike send(), broadcast() does not wait for the client, who must not hold up the others.
        broadcast((self._socket,), frame)
        if self._socket.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            log.warning("a client that does not read is dropped")
            self._socket.transport.abort()


class _JoinRefused(ValueError):
    """The join is answered with this error."""


def _user_token(sent: Any) -> str | None:
    """None for what is no user's token: clients without a session send their API key instead."""
    return sent if isinstance(sent, str) and sent and not sent.startswith("sb_") else None


def _tell_once(text: str) -> None:
    if text not in _told:
        _told.add(text)
        log.warning("%s", text)
