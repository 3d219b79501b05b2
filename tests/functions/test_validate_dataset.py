"""validate-dataset on the running stack; each rule by itself is tested in tests/shared/datasets."""

from collections.abc import AsyncIterator

import pytest

from devstack.install import TIKTOKEN_DIR
from devstack.up import Stack
from functions.context import Services
from functions.validate_dataset import handler
from shared.datasets import store
from shared.datasets.validate import Validation
from shared.db import Row
from shared.tokens import count_tokens
from tests.functions.documents import upload
from tests.functions.world import World, make_world, own_functions


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


async def test_a_good_dataset_is_valid_and_its_row_remembers(world: World) -> None:
    response = await world.call("validate-dataset", {"datasetId": world.dataset})
    assert response.status_code == 200
    result = response.json()
    stats = result["stats"]
    assert (result["valid"], result["errors"], result["warnings"], result["counts"]) == (True, [], [], {})
    assert (stats["totalPairs"], stats["uniqueQuestions"], stats["excludedPairs"]) == (12, 12, 0)
    assert (stats["avgTokensPerPair"], stats["avgQualityScore"]) == (12.0, None)
    assert stats["tokenHistogram"][0] == {"fromTokens": 0, "belowTokens": 64, "pairs": 12}
    assert (stats["kinds"], stats["splits"], result["xray"]) == ({"sft": 12}, {"none": 12}, None)
    stored = world.rows(
        "select validation, validation_percent from public.training_datasets where id = %s", world.dataset
    )
    assert stored == [(result, None)]
    seen = await world.http.get(  # a viewer reads what an editor found
        f"/rest/v1/training_datasets?id=eq.{world.dataset}&select=validation",
        headers={"apikey": world.stack.publishable_key, "authorization": f"Bearer {world.viewer_token}"},
    )
    assert seen.json() == [{"validation": result}]


async def test_findings_name_the_pair_its_place_and_what_to_do(world: World) -> None:
    dataset = await world.new_dataset(pairs=12)
    world.rows(
        "update public.training_pairs set assistant_message = ' ' where dataset_id = %s and ordinal = 4",
        dataset,
    )
    world.rows(
        "update public.training_pairs p set user_message = first.user_message"
        " from public.training_pairs first where p.dataset_id = %s and p.ordinal = 7"
        " and first.dataset_id = p.dataset_id and first.ordinal = 0",
        dataset,
    )
    result = (await world.call("validate-dataset", {"datasetId": dataset})).json()
    assert result["valid"] is False
    (error,) = result["errors"]
    (warning,) = result["warnings"]
    pair_id = world.rows(
        "select id from public.training_pairs where dataset_id = %s and ordinal = 4", dataset
    )[0][0]
    assert (error["rule"], error["pairId"], error["ordinal"]) == ("empty_message", str(pair_id), 5)
    assert (warning["rule"], warning["ordinal"]) == ("duplicate_question", 8)
    assert error["hint"]


async def test_too_few_pairs(world: World) -> None:
    result = (await world.call("validate-dataset", {"datasetId": world.dataset_small})).json()
    assert result["valid"] is False
    assert [error["rule"] for error in result["errors"]] == ["few_rows"]
    assert (result["errors"][0]["pairId"], result["errors"][0]["ordinal"]) == (None, None)


async def test_nobody_but_editors_may(world: World) -> None:
    asked = {"datasetId": world.dataset}
    for token, status, code in (
        (world.viewer_token, 403, "forbidden"),
        (world.stranger_token, 404, "dataset_not_found"),
    ):
        response = await world.call("validate-dataset", asked, token)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_the_xray_shows_what_a_run_would_learn(world: World) -> None:
    dataset = await world.new_dataset(pairs=14)
    update = "update public.training_pairs set {} where dataset_id = %s and ordinal = %s returning id::text"
    world.rows(update.format("assistant_message = repeat('long ', 1100)"), dataset, 3)
    world.rows(update.format("split = 'validation'"), dataset, 4)
    world.rows(update.format("kind = 'preference', rejected_message = 'worse'"), dataset, 5)
    ((chosen,),) = world.rows(update.format("rating = 5"), dataset, 9)
    asked = {"datasetId": dataset, "baseModel": "fineflow/tiny", "showRows": 2, "showPairs": [chosen]}
    result = (await world.call("validate-dataset", asked)).json()
    (truncated,) = [found for found in result["warnings"] if found["rule"] == "truncated"]
    assert truncated["ordinal"] == 4
    assert result["errors"] == []
    seen = result["xray"]
    assert (seen["rowCount"], seen["usedRows"], seen["leftOutRows"], seen["refusal"]) == (12, 11, 1, None)
    assert seen["tokens"] == seen["trainedTokens"] + seen["maskedTokens"]
    assert (seen["maxLengthTokens"], seen["hasOwnTemplate"]) == (1024, True)
    assert [row["ordinal"] for row in seen["rows"]] == [1, 2, 10]
    first = seen["rows"][0]
    trained = "".join(token["text"] for token in first["tokens"] if token["state"] == "trained")
    assert trained == "Door 0 opens with 0.<|im_end|>"
    kept = world.rows(
        "select content_hash, (totals ->> 'trained_tokens')::int, max_length_tokens"
        " from public.dataset_xrays where dataset_id = %s",
        dataset,
    )
    assert kept == [(seen["contentHash"], seen["trainedTokens"], 1024)]
    ((stored,),) = world.rows("select validation from public.training_datasets where id = %s", dataset)
    assert stored["xray"] == {name: value for name, value in seen.items() if name != "rows"}


async def test_a_dataset_that_trains_nothing_is_not_valid(world: World) -> None:
    dataset = await world.new_dataset(pairs=10)
    asked = {"datasetId": dataset, "baseModel": "fineflow/tiny", "maxLengthTokens": 16}
    result = (await world.call("validate-dataset", asked)).json()
    assert (result["valid"], result["xray"]["refusal"]) == (False, "No row trains anything.")
    assert result["counts"] == {"truncated": 10, "trains_nothing": 1}
    world.rows("update public.training_pairs set assistant_message = ' ' where dataset_id = %s", dataset)
    result = (await world.call("validate-dataset", asked | {"maxLengthTokens": 1024})).json()
    assert result["counts"]["empty_message"] == 10
    assert result["xray"]["rowsThatTeach"] == 10  # of blanks, as the trainer would


@pytest.mark.parametrize("base_model", ["/etc", "nobody/has-this", "gpt-4.1-mini"])
async def test_a_tokenizer_that_is_not_here_is_said_with_what_to_do(world: World, base_model: str) -> None:
    asked = {"datasetId": world.dataset, "baseModel": base_model}
    response = await world.call("validate-dataset", asked)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, "tokenizer_unavailable")
    assert "operator" in error["message"]


async def test_what_an_edit_made_unknown_is_computed_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(TIKTOKEN_DIR))
    text = b"# Gates\n\nThe north gate opens at seven in the morning. Nobody has a key but the keeper Falk.\n"
    document = await upload(world, "gates.md", text)
    dataset = await world.new_dataset(pairs=12)
    world.rows(
        "update public.training_pairs p set chunk_id = c.id, quality_score = 0.9, grounding_score = 0.9"
        " from public.chunks c where p.dataset_id = %s and p.ordinal in (3, 4) and c.document_id = %s",
        dataset,
        document["id"],
    )
    edits = {3: "The north gate opens at seven.", 4: "Zebras graze beyond 1987 quarries.", 5: "Nobody knows."}
    for ordinal, answer in edits.items():
        ((pair_id,),) = world.rows(
            "select id::text from public.training_pairs where dataset_id = %s and ordinal = %s",
            dataset,
            ordinal,
        )
        edited = await world.http.post(
            "/rest/v1/rpc/edit_pair",
            json={"p_pair_id": pair_id, "p_changes": {"assistant": answer}},
            headers={"apikey": world.stack.publishable_key, "authorization": f"Bearer {world.token}"},
        )
        assert edited.json()["pair"]["token_count"] is None, edited.text
    result = (await world.call("validate-dataset", {"datasetId": dataset})).json()
    assert [found["ordinal"] for found in result["warnings"] if found["rule"] == "low_grounding"] == [5]
    measured = world.rows(
        "select token_count, grounding_score, quality_score from public.training_pairs"
        " where dataset_id = %s and ordinal in (3, 4, 5) order by ordinal",
        dataset,
    )
    grounded, invented, plain = measured
    assert (grounded[1], plain[1:]) == (1.0, (None, None))
    assert invented[1] < 0.3 < grounded[2]
    assert plain[0] == count_tokens("What opens door 5?") + count_tokens("Nobody knows.")


async def test_the_row_tells_how_far_it_is_and_that_it_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, object]] = []
    tell = handler._tell

    async def noted(services: Services, dataset: Row, **columns: object) -> None:
        told.append(columns)
        await tell(services, dataset, **columns)

    monkeypatch.setattr(handler, "_tell", noted)
    monkeypatch.setattr(handler, "_TOLD_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(store, "PAGE_ROWS", 4)
    async with own_functions(world) as house:
        assert (await house.call("validate-dataset", {"datasetId": world.dataset})).status_code == 200
        assert [columns["validation_percent"] for columns in told] == [33, 66, 99, None]
        monkeypatch.setattr(Validation, "finish", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await house.call("validate-dataset", {"datasetId": world.dataset})
        assert told[-1] == {"validation_percent": None}
