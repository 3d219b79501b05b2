"""What is special to Hugging Face Jobs: tickets and secrets, pages, prices by the minute, logs, tokens."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from shared.errors import (
    ProviderBusy,
    ProviderNotEligible,
    ProviderRejected,
    ProviderUnavailable,
)
from shared.keys.store import OpenedKey
from shared.providers.base import ENDED_STATUSES, ProviderReport
from shared.providers.huggingface import COMMAND, LABEL, HuggingFaceProvider
from shared.training.spec import RunSpec
from tests.fakes.http import Fault
from tests.fakes.huggingface import MICRO_USD_A_MINUTE, FakeHuggingFace, Token
from tests.shared.providers.conftest import PATIENT_SECONDS
from tests.shared.providers.harness import CHAT_FILE, NOBODY, run_spec

IMAGE = "registry.example/fineflow-trainer:1"
ASKED = {"dockerImage": IMAGE, "command": ["true"], "flavor": "t4-small"}


@pytest.fixture
def fake() -> Iterator[FakeHuggingFace]:
    with FakeHuggingFace() as server:
        yield server


class HuggingFace:
    """The provider with one token, so that tests read shorter."""

    def __init__(
        self, fake: FakeHuggingFace, *, timeout_seconds: float = PATIENT_SECONDS, **more: Any
    ) -> None:
        self.fake = fake
        self.provider = HuggingFaceProvider(
            image=IMAGE, endpoint=fake.url, timeout_seconds=timeout_seconds, **more
        )
        self.key = OpenedKey(SecretStr(fake.api_key))

    async def start(self, spec: RunSpec) -> str:
        return await self.provider.start(
            spec, CHAT_FILE, idempotency_key=str(spec.job_id), callback=NOBODY, key=self.key
        )

    async def find(self, spec: RunSpec) -> list[str]:
        return await self.provider.find(str(spec.job_id), key=self.key)

    async def poll(self, ref: str) -> ProviderReport:
        return await self.provider.poll(ref, key=self.key)


@pytest.fixture
def huggingface(fake: FakeHuggingFace, timeout_seconds: float) -> HuggingFace:
    return HuggingFace(fake, timeout_seconds=timeout_seconds)


def spec(**more: Any) -> RunSpec:
    return run_spec("Qwen/Qwen3-0.6B", **({"method": "lora", "gpu": "l4x1"} | more))


async def test_a_container_gets_a_ticket_and_no_more(huggingface: HuggingFace) -> None:
    wanted = spec(model_name="My support: model!")
    job = huggingface.fake.jobs[await huggingface.start(wanted)]
    assert job.body["environment"] == {
        "FINEFLOW_REPORT_URL": NOBODY.url,
        "FINEFLOW_JOB_ID": str(wanted.job_id),
        "FINEFLOW_ATTEMPT": "1",
        "FINEFLOW_RUN_ID": str(wanted.run_id),
    }
    assert job.secrets == {"FINEFLOW_TRAINER_TOKEN": "canary-token"}
    assert job.body["labels"] == {LABEL: str(wanted.job_id), "name": "My-support-model"}
    assert (job.body["command"], job.body["flavor"]) == (list(COMMAND), "l4x1")
    assert "canary" not in str(job.body)


async def test_the_ticket_is_what_the_trainer_looks_for(huggingface: HuggingFace) -> None:
    remote = pytest.importorskip("modal_app.remote")
    wanted = spec()
    job = huggingface.fake.jobs[await huggingface.start(wanted)]
    ticket = remote.ticket_of(job.body["environment"] | job.secrets)
    assert (ticket.job_id, ticket.attempt, ticket.run_id) == (wanted.job_id, 1, wanted.run_id)
    assert ticket.token.get_secret_value() == "canary-token"


async def test_without_a_gpu_the_run_gets_the_one_that_was_estimated(huggingface: HuggingFace) -> None:
    wanted = spec(gpu=None)
    estimated = huggingface.provider.estimate(wanted, CHAT_FILE)
    job = huggingface.fake.jobs[await huggingface.start(wanted)]
    assert job.body["flavor"] == estimated.gpu


async def test_a_machine_that_is_not_offered_is_refused(huggingface: HuggingFace) -> None:
    with pytest.raises(ProviderRejected, match="Invalid flavor tpu-9000"):
        await huggingface.start(spec(gpu="tpu-9000"))
    assert huggingface.fake.jobs == {}


async def test_the_account_is_asked_for_once(huggingface: HuggingFace) -> None:
    refs = [await huggingface.start(spec()) for _ in range(2)]
    await huggingface.poll(refs[0])
    assert huggingface.fake.calls["check"] == 1


async def test_jobs_of_a_namespace_that_the_operator_named(fake: FakeHuggingFace) -> None:
    fake.tokens["hf_OrgCanary0123456789"] = Token(user="acme-org")
    huggingface = HuggingFace(fake, namespace="acme-org")
    huggingface.key = OpenedKey(SecretStr("hf_OrgCanary0123456789"))
    ref = await huggingface.start(spec())
    assert fake.jobs[ref].body["owner"]["name"] == "acme-org"
    assert fake.calls["check"] == 0


@pytest.mark.parametrize("ignores_label_filter", [False, True])
async def test_all_pages_are_read_and_only_our_label_counts(
    fake: FakeHuggingFace, ignores_label_filter: bool
) -> None:
    fake.page_size = 2
    fake.ignores_label_filter = ignores_label_filter
    wanted, huggingface = spec(), HuggingFace(fake)
    made = []
    for _ in range(3):
        made.append(fake.add(ASKED | {"labels": {LABEL: str(wanted.job_id)}}))
        fake.add(ASKED | {"labels": {LABEL: str(uuid4())}})
        fake.add(ASKED)
    assert await huggingface.find(wanted) == made
    assert fake.calls["list"] == (5 if ignores_label_filter else 2)


async def test_a_run_that_appears_late_is_found_late(huggingface: HuggingFace) -> None:
    wanted = spec()
    huggingface.fake.disturb("create", Fault(status=500, executed=True, hide_seconds=60))
    with pytest.raises(ProviderUnavailable):
        await huggingface.start(wanted)
    assert await huggingface.find(wanted) == []
    (job,) = huggingface.fake.jobs.values()
    job.visible_at = 0
    assert await huggingface.find(wanted) == [job.body["id"]]


async def test_each_minute_that_was_begun_is_billed(huggingface: HuggingFace) -> None:
    ref = await huggingface.start(spec())
    assert (await huggingface.poll(ref)).cost_usd is None
    price = MICRO_USD_A_MINUTE["l4x1"] / 1e6
    for seconds, minutes in ((1, 1), (60, 1), (61, 2), (3600, 60)):
        huggingface.fake.set_stage(ref, "RUNNING", running_seconds=seconds)
        assert (await huggingface.poll(ref)).cost_usd == pytest.approx(minutes * price, abs=1e-6)
    assert huggingface.fake.calls["hardware"] == 1


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(hang=True), Fault(reset=True)])
async def test_without_a_price_there_is_still_a_status(huggingface: HuggingFace, fault: Fault) -> None:
    ref = await huggingface.start(spec())
    huggingface.fake.set_stage(ref, "RUNNING")
    huggingface.fake.disturb("hardware", fault)
    report = await huggingface.poll(ref)
    assert (report.status, report.cost_usd) == ("training", None)


async def test_why_a_container_failed_without_its_secrets(huggingface: HuggingFace) -> None:
    ref = await huggingface.start(spec())
    lines = [f"line {number}" for number in range(40)] + ["CUDA out of memory with hf_Abcdefgh12345678"]
    huggingface.fake.jobs[ref].log = lines
    huggingface.fake.set_stage(ref, "ERROR", message="Job failed with exit code 1")
    error = (await huggingface.poll(ref)).error
    assert error
    assert "exit code 1" in error.message
    assert "CUDA out of memory with [redacted]" in error.message
    assert "line 39" in error.message
    assert "line 5\n" not in error.message


async def test_a_flood_of_log_is_cut(huggingface: HuggingFace) -> None:
    ref = await huggingface.start(spec())
    huggingface.fake.jobs[ref].log = ["x" * 100_000] * 50
    huggingface.fake.set_stage(ref, "ERROR")
    error = (await huggingface.poll(ref)).error
    assert error
    assert len(error.message) <= 2000


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=404), Fault(hang=True), Fault(reset=True)])
async def test_a_log_that_cannot_be_had_hides_no_failure(huggingface: HuggingFace, fault: Fault) -> None:
    ref = await huggingface.start(spec())
    huggingface.fake.set_stage(ref, "ERROR", message="Job timeout")
    huggingface.fake.disturb("logs", fault)
    began = time.monotonic()
    error = (await huggingface.poll(ref)).error
    assert error
    assert "Job timeout" in error.message
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("token", "permissions"),
    [
        (Token(), ("job.write", "repo.write")),
        (Token(permissions=("repo.write",)), ("no job.write: cannot start jobs", "repo.write")),
        (Token(role="read"), ("read", "no job.write: cannot start jobs")),
        (Token(role="write"), ("write",)),
    ],
)
async def test_whose_token_it_is_and_what_it_may_do(token: Token, permissions: tuple[str, ...]) -> None:
    with FakeHuggingFace(tokens={"hf_TestCanary0123456789": token}) as fake:
        huggingface = HuggingFace(fake)
        facts = await huggingface.provider.check_key(huggingface.key)
        assert (facts.account, facts.permissions) == ("acme", permissions)
        if "job.write" not in permissions and token.role != "write":
            with pytest.raises(ProviderNotEligible, match=r"job\.write"):
                await huggingface.start(spec())


async def test_no_credit_is_the_accounts_matter(huggingface: HuggingFace) -> None:
    body = {"error": "Pre-paid credit balance is insufficient"}
    huggingface.fake.disturb("create", Fault(status=402, body=body))
    with pytest.raises(ProviderNotEligible, match="balance is insufficient"):
        await huggingface.start(spec())


async def test_the_time_of_the_rate_limit_header_counts_too(huggingface: HuggingFace) -> None:
    headers = {"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}
    huggingface.fake.disturb("list", Fault(status=429, headers=headers))
    with pytest.raises(ProviderBusy) as caught:
        await huggingface.find(spec())
    assert caught.value.retry_after_seconds == 55


async def test_a_token_goes_to_no_address_of_its_own(huggingface: HuggingFace) -> None:
    huggingface.key = OpenedKey(SecretStr(huggingface.fake.api_key), "https://hub.example")
    with pytest.raises(ProviderRejected) as caught:
        await huggingface.find(spec())
    assert caught.value.code == "base_url_not_supported"


@pytest.mark.parametrize("body", [{"hello": "world"}, {"id": 7, "status": {}}])
@pytest.mark.parametrize("operation", ["create", "list", "poll", "check"])
async def test_an_answer_of_another_kind_is_no_answer(
    fake: FakeHuggingFace, operation: str, body: dict[str, Any]
) -> None:
    ref, huggingface = fake.add(ASKED), HuggingFace(fake)
    fake.disturb(operation, Fault(status=200, body=body))
    with pytest.raises(ProviderUnavailable):
        await (huggingface.poll(ref) if operation == "poll" else huggingface.start(spec()))
    assert list(fake.jobs) == [ref]


async def test_a_whole_life_by_itself() -> None:
    with FakeHuggingFace(seconds_per_state=0.02) as fake:
        huggingface = HuggingFace(fake)
        ref = await huggingface.start(spec())
        seen = [(await huggingface.poll(ref)).status]
        while seen[-1] not in ENDED_STATUSES:
            seen.append((await huggingface.poll(ref)).status)
        way = ("queued", "training", "completed")
        assert [way.index(status) for status in seen] == sorted(way.index(status) for status in seen)
        assert seen[-1] == "completed"
