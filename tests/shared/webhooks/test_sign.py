"""Signatures, as an implementation that is not ours reads them."""

import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from shared.webhooks.sign import new_secret, signed_headers

BODY = b'{"type":"finetune_job_started","text":"\xc3\xa9\xe2\x82\xac"}'


def test_each_secret_signs() -> None:
    event_id, now = str(uuid4()), int(time.time())
    secrets = [new_secret(), new_secret()]
    headers = signed_headers(BODY, event_id, now, secrets)
    for secret in secrets:
        signer = Webhook(secret.get_secret_value())
        assert signer.verify(BODY, headers)["type"] == "finetune_job_started"
        assert signer.sign(event_id, datetime.fromtimestamp(now, UTC), BODY.decode()) in (
            headers["webhook-signature"].split(" ")
        )


def test_a_changed_message_is_refused() -> None:
    secret = new_secret()
    now = int(time.time())
    signer = Webhook(secret.get_secret_value())
    good = signed_headers(BODY, "id", now, [secret])
    for body, headers in (
        (BODY + b" ", good),
        (BODY, good | {"webhook-id": "other"}),
        (BODY, good | {"webhook-timestamp": str(now - 1)}),
        (BODY, signed_headers(BODY, "id", now, [new_secret()])),
        (BODY, signed_headers(BODY, "id", now - 400, [secret])),
    ):
        with pytest.raises(WebhookVerificationError):
            signer.verify(body, headers)


def test_the_example_of_the_specification() -> None:
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(b'{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, [secret])
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_secrets_are_new_and_long() -> None:
    secrets = {new_secret().get_secret_value() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {len("whsec_") + 44}
    assert "whsec_" not in repr(new_secret())
