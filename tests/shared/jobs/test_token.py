"""A trainer's token opens for its job and attempt, also across a change of the master secret."""

from uuid import uuid4

import pytest
from pydantic import SecretStr

from shared.errors import Unauthorized
from shared.jobs.token import TrainerIdentity, TrainerTokens

OLD, NEW = SecretStr("the old master secret" * 2), SecretStr("the new master secret" * 2)
JOB = uuid4()


def test_a_token_of_any_known_secret_is_read() -> None:
    before, during, after = TrainerTokens(OLD), TrainerTokens(NEW, OLD), TrainerTokens(NEW)
    old = before.issue(JOB, 2, valid_seconds=60).get_secret_value()
    new = during.issue(JOB, 2, valid_seconds=60).get_secret_value()
    assert during.read(old) == during.read(new) == after.read(new) == TrainerIdentity(JOB, 2)
    for tokens, unknown in ((after, old), (before, new)):
        with pytest.raises(Unauthorized):
            tokens.read(unknown)


@pytest.mark.parametrize("secrets", [(OLD,), (OLD, NEW), (NEW, OLD)])
def test_an_expired_or_foreign_token_is_refused(secrets: tuple[SecretStr, ...]) -> None:
    tokens = TrainerTokens(*secrets)
    for token in (TrainerTokens(OLD).issue(JOB, 1, valid_seconds=-5).get_secret_value(), "", "a.b.c"):
        with pytest.raises(Unauthorized):
            tokens.read(token)
