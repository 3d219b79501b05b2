"""What is special to Together: uploads in three calls, files that jobs share, a history to catch up with."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from shared.errors import ProviderRejected, ProviderUnavailable
from shared.keys.store import OpenedKey
from shared.providers.base import ENDED_STATUSES, ProviderReport
from shared.providers.together import TogetherProvider
from shared.training.config import TrainingConfig
from shared.training.files import TrainingFile
from shared.training.spec import RunSpec
from tests.fakes.http import Fault
from tests.fakes.together import FakeTogether
from tests.fakes.together_state import MODELS
from tests.shared.providers.conftest import PATIENT_SECONDS
from tests.shared.providers.harness import CHAT_FILE, NOBODY, run_spec, training_file

MODEL = MODELS[0]
PAIR: dict[str, Any] = {
    "input": {"messages": [{"role": "user", "content": "Who?"}]},
    "preferred_output": [{"role": "assistant", "content": "Nell."}],
    "non_preferred_output": [{"role": "assistant", "content": "Nobody."}],
}
PAIRS = training_file(json.dumps(PAIR).encode() + b"\n", row_count=1)


@pytest.fixture
def fake() -> Iterator[FakeTogether]:
    with FakeTogether() as server:
        yield server


class Together:
    """The provider with one key, so that tests read shorter."""

    def __init__(self, fake: FakeTogether, timeout_seconds: float = PATIENT_SECONDS) -> None:
        self.fake = fake
        self.provider = TogetherProvider(base_url=fake.url, timeout_seconds=timeout_seconds)
        self.key = OpenedKey(SecretStr(fake.api_key))

    async def start(self, spec: RunSpec, file: TrainingFile = CHAT_FILE) -> str:
        return await self.provider.start(
            spec, file, idempotency_key=str(spec.job_id), callback=NOBODY, key=self.key
        )

    async def find(self, spec: RunSpec) -> list[str]:
        return await self.provider.find(str(spec.job_id), key=self.key)

    async def poll(self, ref: str, cursor: str | None = None) -> ProviderReport:
        return await self.provider.poll(ref, key=self.key, cursor=cursor)

    def asked(self, ref: str) -> dict[str, Any]:
        return self.fake.vendor.jobs[ref].asked


@pytest.fixture
def together(fake: FakeTogether, timeout_seconds: float) -> Together:
    return Together(fake, timeout_seconds)


def spec(**more: Any) -> RunSpec:
    return run_spec(MODEL, **({"method": "lora"} | more))


async def test_what_a_job_is_asked_for(together: Together) -> None:
    config = TrainingConfig(epochs=4, learning_rate_multiplier=3, lora_r=8, lora_alpha=16, seed=7)
    wanted = spec(config=config)
    asked = together.asked(await together.start(wanted))
    assert asked["suffix"] == wanted.job_id.hex
    assert asked["training_type"]["lora_r"] == 8
    assert asked["training_type"]["type"] == "Lora"
    assert asked["training_method"] == {"method": "sft", "train_on_inputs": "auto"}
    assert (asked["n_epochs"], asked["batch_size"], asked["random_seed"]) == (4, "max", 7)
    assert asked["learning_rate"] == pytest.approx(3e-5)
    full = together.asked(await together.start(spec(method="full")))
    assert full["training_type"] == {"type": "Full"}


async def test_preferences_are_trained_into_an_adapter(together: Together) -> None:
    config = TrainingConfig(beta=0.3, target_modules=("q_proj", "v_proj"))
    asked = together.asked(await together.start(spec(method="dpo", config=config), PAIRS))
    assert (asked["training_method"]["method"], asked["training_method"]["dpo_beta"]) == ("dpo", 0.3)
    assert asked["training_type"]["type"] == "Lora"
    assert asked["training_type"]["lora_trainable_modules"] == "q_proj,v_proj"


@pytest.mark.parametrize(
    ("wanted", "file", "reason"),
    [
        (spec(config=TrainingConfig(lr_scheduler="polynomial")), CHAT_FILE, "linear or cosine"),
        (spec(config=TrainingConfig(batch_size=512)), CHAT_FILE, "batch size of 512"),
        (run_spec("nobody/knows-it", method="lora"), CHAT_FILE, "not available for fine-tuning"),
        (spec(method="dpo"), CHAT_FILE, "preferred_output"),
        (spec(), training_file(b"not JSON\n", 1), "would not take this training file"),
    ],
)
async def test_what_cannot_be_trained_is_refused_with_the_reason(
    together: Together, wanted: RunSpec, file: TrainingFile, reason: str
) -> None:
    with pytest.raises(ProviderRejected, match=reason):
        await together.start(wanted, file)
    assert together.fake.vendor.jobs == {}


async def test_an_upload_that_arrives_cut_starts_nothing(together: Together) -> None:
    wanted = spec()
    together.fake.disturb("store", Fault(keep_bytes=100))
    with pytest.raises(ProviderUnavailable, match="100 reached"):
        await together.start(wanted)
    assert together.fake.calls["create"] == 0
    ref = await together.start(wanted)
    file_id = together.asked(ref)["training_file"]
    assert together.fake.vendor.contents[file_id] == CHAT_FILE.content


@pytest.mark.parametrize("fault", [Fault(status=403), Fault(status=500), Fault(hang=True), Fault(reset=True)])
async def test_storage_that_fails_says_nothing_of_the_account(together: Together, fault: Fault) -> None:
    wanted = spec()
    together.fake.disturb("store", fault)
    with pytest.raises(ProviderUnavailable):
        await together.start(wanted)
    with pytest.raises(ProviderUnavailable):  # the half-made file is found out, and taken away
        await together.start(wanted)
    assert len(together.fake.vendor.jobs) == 0
    await together.start(wanted)
    assert len(together.fake.vendor.jobs) == 1


async def test_a_second_start_finds_the_first_upload(together: Together) -> None:
    wanted = spec()
    together.fake.disturb("create", Fault(status=500))
    with pytest.raises(ProviderUnavailable):
        await together.start(wanted)
    await together.start(wanted)
    assert together.fake.calls["upload"] == 1
    (file,) = together.fake.vendor.files.values()
    assert file["filename"] == f"{wanted.job_id}-{CHAT_FILE.sha256}.jsonl"


async def test_a_file_that_the_list_does_not_show_yet_is_not_stored_twice(together: Together) -> None:
    together.fake.disturb("upload", Fault(hide_seconds=60))
    wanted = spec()
    together.fake.disturb("create", Fault(status=500))
    with pytest.raises(ProviderUnavailable):
        await together.start(wanted)
    await together.start(wanted)
    assert len(together.fake.vendor.files) == 1


async def test_jobs_with_equal_data_share_a_file_and_are_told_apart(together: Together) -> None:
    wanted = [spec(), spec()]
    refs = [await together.start(one) for one in wanted]
    assert len(together.fake.vendor.files) == 1
    assert [await together.find(one) for one in wanted] == [[ref] for ref in refs]


async def test_a_run_that_appears_late_is_found_late(together: Together) -> None:
    wanted = spec()
    together.fake.disturb("create", Fault(status=500, executed=True, hide_seconds=60))
    with pytest.raises(ProviderUnavailable):
        await together.start(wanted)
    assert await together.find(wanted) == []
    (job,) = together.fake.vendor.jobs.values()
    job.visible_at = 0
    assert await together.find(wanted) == [job.body["id"]]
    job.body["suffix"] = None  # the name of the model tells as well
    assert await together.find(wanted) == [job.body["id"]]


async def test_events_and_metrics_since_the_last_look(together: Together) -> None:
    ref = await together.start(spec())
    vendor = together.fake.vendor
    first = await together.poll(ref)
    assert (first.events, first.metrics, first.cursor) == ((), (), None)
    vendor.set_status(ref, "queued")
    vendor.set_status(ref, "running")
    second = await together.poll(ref, first.cursor)
    assert [event.data["type"] for event in second.events] == ["job_pending", "job_start", "training_start"]
    assert [step.step for step in second.metrics] == [1, 2, 3]
    assert second.metrics[2].validation_loss == pytest.approx(0.7)
    assert second.metrics[2].training_loss == pytest.approx(2 / 3)
    assert second.progress
    assert (second.progress.progress_percent, second.progress.total_steps) == (25, 12)
    vendor.jobs[ref].steps_done = 4
    third = await together.poll(ref, second.cursor)
    assert (third.events, [step.step for step in third.metrics]) == ((), [4])


async def test_what_a_finished_job_leaves(together: Together) -> None:
    ref = await together.start(spec(config=TrainingConfig(epochs=2)))
    together.fake.vendor.set_status(ref, "completed")
    report = await together.poll(ref)
    assert report.result
    assert report.result.provider_model_id == together.fake.vendor.jobs[ref].body["model_output_name"]
    tokens = together.fake.vendor.jobs[ref].file_tokens * 2
    assert report.result.trained_tokens == tokens
    assert report.cost_usd == pytest.approx(tokens * 0.48e-6)
    saved = next(event for event in report.events if event.data["type"] == "checkpoint_save")
    assert saved.data["checkpoint_path"] == "s3://ckpt/12"
    assert saved.data["step"] == 12
    assert len({event.id for event in report.events}) == len(report.events)


async def test_why_a_job_failed(together: Together) -> None:
    ref = await together.start(spec())
    together.fake.vendor.set_status(ref, "error")
    report = await together.poll(ref)
    assert report.error
    assert "Loss is not a number" in report.error.message
    assert report.events[-1].level == "error"


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=403), Fault(reset=True), Fault(hang=True)])
async def test_a_history_that_cannot_be_had_hides_no_status(together: Together, fault: Fault) -> None:
    ref = await together.start(spec())
    together.fake.vendor.set_status(ref, "completed")
    before = await together.poll(ref)
    for operation in ("events", "metrics"):
        together.fake.disturb(operation, fault)
    report = await together.poll(ref, before.cursor)
    assert (report.status, report.events, report.cursor) == ("completed", (), before.cursor)


async def test_the_weights_leave_the_registry_and_the_job_stays(together: Together) -> None:
    ref = await together.start(spec())
    together.fake.vendor.set_status(ref, "completed")
    report = await together.poll(ref)
    assert report.result
    assert report.result.provider_model_id
    await together.provider.delete_model(report.result.provider_model_id, key=together.key)
    assert together.fake.vendor.models == {}
    assert (await together.poll(ref)).status == "completed"


async def test_whose_key_it_is(together: Together) -> None:
    assert (await together.provider.check_key(together.key)).account == "Acme / Support"


async def test_a_whole_life_by_itself() -> None:
    with FakeTogether(seconds_per_state=0.02) as fake:
        together = Together(fake)
        ref = await together.start(spec())
        seen, cursor = [], None
        while not seen or seen[-1] not in ENDED_STATUSES:
            report = await together.poll(ref, cursor)
            cursor = report.cursor
            seen.append(report.status)
        assert seen[-1] == "completed"
        way = ("validating", "queued", "training", "completed")
        assert [way.index(status) for status in seen] == sorted(way.index(status) for status in seen)


@pytest.mark.parametrize(
    "base_url", ["http://example.com", "https://127.0.0.1", "https://localhost", "https://[::1]"]
)
async def test_a_private_address_gets_no_key(base_url: str) -> None:
    provider = TogetherProvider(timeout_seconds=2)
    with pytest.raises(ProviderRejected):
        await provider.find(str(uuid4()), key=OpenedKey(SecretStr("tgp_v1_canary"), base_url))


async def test_a_private_address_is_the_operators_to_allow(fake: FakeTogether) -> None:
    provider = TogetherProvider(timeout_seconds=2, allow_private_addresses=True)
    assert await provider.find(str(uuid4()), key=OpenedKey(SecretStr(fake.api_key), fake.url)) == []


@pytest.mark.parametrize("body", [{"hello": "world"}, {"data": None}])
@pytest.mark.parametrize("operation", ["create", "list", "files", "preprocess", "poll"])
async def test_an_answer_of_another_kind_is_no_answer(
    together: Together, operation: str, body: dict[str, Any]
) -> None:
    ref = await together.start(spec())
    together.fake.vendor.files.clear()
    together.fake.vendor.checksums.clear()
    together.fake.disturb(operation, Fault(status=200, body=body))
    with pytest.raises(ProviderUnavailable):
        await (together.poll(ref) if operation == "poll" else together.start(spec()))
    assert list(together.fake.vendor.jobs) == [ref]
