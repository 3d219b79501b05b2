"""What a handler is given: who calls, the database as the user and as the service, and the job core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal
from uuid import UUID

import httpx

from functions.auth import Authenticator, Caller
from shared.config import Settings
from shared.datasets.store import build_training_file
from shared.db import Database, Row, http_client
from shared.errors import Forbidden, NotFound, RateLimited, Unauthorized
from shared.jobs.advance import JobCore
from shared.jobs.store import JobStore
from shared.jobs.token import TrainerTokens
from shared.keys.crypto import KeySealer
from shared.keys.store import KeyStore
from shared.models.cache import ModelCache
from shared.providers.base import KeepsConnections
from shared.providers.registry import Providers, providers
from shared.storage import Storage
from shared.webhooks.store import WebhookStore

Role = Literal["viewer", "editor", "owner"]
_ROLES: tuple[Role, ...] = ("viewer", "editor", "owner")


@dataclass(frozen=True)
class Services:
    """Built once a process and shared by all calls."""

    settings: Settings
    http: httpx.AsyncClient
    db: Database
    storage: Storage
    models: ModelCache
    keys: KeyStore
    webhooks: WebhookStore
    jobs: JobCore
    providers: Providers
    authenticator: Authenticator
    now: Callable[[], datetime] = lambda: datetime.now(UTC)  # a test may have another day

    async def count_call(self, key: str, limit: int) -> None:
        """The call is counted for this key. Raises RateLimited when there were `limit` within a minute."""
        wait_seconds: int = await self.db.call("take_rate_limit", key=key, limit=limit, window_seconds=60)
        if wait_seconds:
            raise RateLimited(
                f"More than {limit} calls a minute. Try again in {wait_seconds} s.",
                retry_after_seconds=wait_seconds,
            )

    @classmethod
    def connect(cls, settings: Settings, *, available: Providers | None = None) -> Services:
        """Everything, wired. Opens no connection yet."""
        http = http_client()
        key = settings.supabase_secret_key.get_secret_value()
        db = Database(settings.supabase_url, api_key=key, bearer=key, http=http)
        tokens = TrainerTokens(*settings.encryption_secrets)
        sealer = KeySealer(*settings.encryption_secrets)
        available = available if available is not None else providers(settings)
        keys = KeyStore(db, sealer)
        storage = Storage(settings.supabase_url, api_key=key, bearer=key, http=http)
        return cls(
            settings=settings,
            http=http,
            db=db,
            storage=storage,
            models=ModelCache(settings.data_dir, storage, most_bytes=settings.model_cache_bytes),
            keys=keys,
            webhooks=WebhookStore(db, sealer),
            jobs=JobCore(
                store=JobStore(db),
                providers=available,
                keys=keys,
                tokens=tokens,
                report_url=f"{settings.functions_url}/report-training",
                build_training_file=lambda dataset_id, method: build_training_file(db, dataset_id, method),
            ),
            providers=available,
            authenticator=Authenticator(settings, tokens),
        )

    async def close(self) -> None:
        """Every connection is closed."""
        for provider in self.providers.values():
            if isinstance(provider, KeepsConnections):
                await provider.close()
        await self.http.aclose()


@dataclass(frozen=True)
class Context:
    """One call."""

    services: Services
    caller: Caller

    @property
    def settings(self) -> Settings:
        return self.services.settings

    @property
    def service_db(self) -> Database:
        """The database past RLS. Only for what was checked to be the caller's, and for service calls."""
        return self.services.db

    @property
    def storage(self) -> Storage:
        return self.services.storage

    @cached_property
    def user_db(self) -> Database:
        """The database as the calling user. Raises Unauthorized for other callers."""
        if self.caller.token is None:
            raise Unauthorized("Only a user may do this.", code="user_required")
        return Database(
            self.settings.supabase_url,
            api_key=self.settings.supabase_publishable_key,
            bearer=self.caller.token.get_secret_value(),
            http=self.services.http,
        )

    @property
    def user_id(self) -> UUID:
        """The calling user. Raises Unauthorized for other callers."""
        if self.caller.user_id is None:
            raise Unauthorized("Only a user may do this.", code="user_required")
        return self.caller.user_id

    async def require_role(self, project_id: UUID | str, least: Role) -> Role:
        """The caller's role in the project. Raises NotFound for strangers, Forbidden for too small a role."""
        role: Role | None = await self.user_db.call("my_project_role", project_id=str(project_id))
        if role is None:
            raise NotFound(
                f"There is no project {project_id}, or you are not in it.", code="project_not_found"
            )
        if _ROLES.index(role) < _ROLES.index(least):
            raise Forbidden(f"This needs the role {least} in the project; yours is {role}.")
        return role

    async def visible(self, table: str, row_id: UUID, *, what: str, least: Role = "viewer") -> Row:
        """The row, if the caller may see it and has the role. Raises NotFound and Forbidden.

        A row of somebody else's project is not found, so its existence is not told.
        """
        row = await self.user_db.find(table, id=row_id)
        if row is None:
            raise NotFound(
                f"There is no {what.replace('_', ' ')} {row_id} that you may see.", code=f"{what}_not_found"
            )
        await self.require_role(row["project_id"], least)
        return row
