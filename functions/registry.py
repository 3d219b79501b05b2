"""The one table of functions: what is called, by whom, how often, and why a second delivery is harmless."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from functions.auth import CallerKind
from functions.cancel_training import handler as cancel_training
from functions.chat import handler as chat
from functions.context import Context
from functions.deliver_webhooks import handler as deliver_webhooks
from functions.estimate_training import handler as estimate_training
from functions.export_dataset import handler as export_dataset
from functions.generate_dataset import handler as generate_dataset
from functions.import_dataset import handler as import_dataset
from functions.import_dataset.request import ImportDataset
from functions.job_events import handler as job_events
from functions.manage_api_keys import handler as manage_api_keys
from functions.manage_models import handler as manage_models
from functions.manage_webhooks import handler as manage_webhooks
from functions.poll_training import handler as poll_training
from functions.process_document import handler as process_document
from functions.provider_webhook import handler as provider_webhook
from functions.report_training import handler as report_training
from functions.split_dataset import handler as split_dataset
from functions.start_training import handler as start_training
from functions.validate_dataset import handler as validate_dataset
from functions.validate_dataset.result import ValidationResult
from shared.training.spec import ReportBatch, ReportReceipt

_USER = frozenset({CallerKind.USER})
_USER_AND_SERVICE = frozenset({CallerKind.USER, CallerKind.SERVICE})
_TRAINER = frozenset({CallerKind.TRAINER})
_SERVICE = frozenset({CallerKind.SERVICE})
_PROVIDER = frozenset({CallerKind.PROVIDER})


class Shape(StrEnum):
    """How a function is asked and answers."""

    JSON = "json"  # handle(request, context) -> response
    STREAM = "stream"  # handle(request, context) -> lines of server-sent events; None: there are no more
    SIGNED = "signed"  # handle(Signed(request, body, headers), context) -> response


@dataclass(frozen=True)
class Function:
    """One deployed function."""

    name: str
    request: type[BaseModel]
    response: type[BaseModel]
    handle: Callable[[Any, Context], Awaitable[Any]]
    callers: frozenset[CallerKind]
    redelivery: str
    """Why a second delivery of the same call is harmless."""
    calls_per_minute: int | None = None
    """A user's limit; None: the default of the settings."""
    status: int = 200
    shape: Shape = Shape.JSON


FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        Function(
            "process-document",
            process_document.ProcessDocument,
            process_document.DocumentProcessed,
            process_document.handle,
            _USER_AND_SERVICE,
            "the document is claimed under a lease; its chunks are replaced, never added to",
        ),
        Function(
            "generate-dataset",
            generate_dataset.GenerateDataset,
            generate_dataset.DatasetGenerating,
            generate_dataset.handle,
            _USER_AND_SERVICE,
            "chunks are claimed under a lease and their pairs are unique by dataset, chunk and ordinal",
            status=202,
        ),
        Function(
            "import-dataset",
            ImportDataset,
            import_dataset.DatasetImporting,
            import_dataset.handle,
            _USER_AND_SERVICE,
            "the idempotency key is unique; pairs are stored with the place that reading goes on from",
            status=202,
        ),
        Function(
            "validate-dataset",
            validate_dataset.ValidateDataset,
            ValidationResult,
            validate_dataset.handle,
            _USER,
            "it reads, and writes the same result",
            calls_per_minute=30,
        ),
        Function(
            "split-dataset",
            split_dataset.SplitDataset,
            split_dataset.SplitResult,
            split_dataset.handle,
            _USER,
            "a pair that was split keeps its place; the same pairs give the same split",
        ),
        Function(
            "export-dataset",
            export_dataset.ExportDataset,
            export_dataset.DatasetExported,
            export_dataset.handle,
            _USER,
            "the same rows give the same file at the same path",
            calls_per_minute=30,
        ),
        Function(
            "estimate-training",
            estimate_training.EstimateTraining,
            estimate_training.TrainingEstimate,
            estimate_training.handle,
            _USER,
            "it changes nothing",
        ),
        Function(
            "start-training",
            start_training.StartTraining,
            start_training.JobStarted,
            start_training.handle,
            _USER_AND_SERVICE,
            "the idempotency key is unique; moving a job on is a compare-and-set under a lease",
            status=202,
        ),
        Function(
            "poll-training",
            poll_training.PollTraining,
            poll_training.Polled,
            poll_training.handle,
            _USER_AND_SERVICE,
            "each job is claimed under a lease, so two polls share the work",
        ),
        Function(
            "cancel-training",
            cancel_training.CancelTraining,
            cancel_training.CancelRequested,
            cancel_training.handle,
            _USER,
            "the wish is a column that is set once; the provider's cancel may be repeated",
        ),
        Function(
            "report-training",
            ReportBatch,
            ReportReceipt,
            report_training.handle,
            _TRAINER,
            "reports are numbered; what was stored is skipped",
        ),
        Function(
            "manage-api-keys",
            manage_api_keys.ManageApiKeys,
            manage_api_keys.KeysStatus,
            manage_api_keys.handle,
            _USER_AND_SERVICE,
            "a key is replaced by itself, and sealed anew only where it was not yet",
            calls_per_minute=10,
        ),
        Function(
            "manage-models",
            manage_models.ManageModels,
            manage_models.Deployed,
            manage_models.handle,
            _USER,
            "the name points at the same model again; history shows both",
        ),
        Function(
            "job-events",
            job_events.JobEvents,
            job_events.JobEvent,
            job_events.handle,
            _USER,
            "it reads; what was seen already is not told again",
            shape=Shape.STREAM,
        ),
        Function(
            "manage-webhooks",
            manage_webhooks.ManageWebhooks,
            manage_webhooks.Webhooks,
            manage_webhooks.handle,
            _USER,
            "an address may be listed twice and then hears everything twice; all else sets what is set",
            calls_per_minute=30,
        ),
        Function(
            "deliver-webhooks",
            deliver_webhooks.DeliverWebhooks,
            deliver_webhooks.Delivered,
            deliver_webhooks.handle,
            _SERVICE,
            "each delivery is claimed under a lease, and receivers know its id",
        ),
        Function(
            "provider-webhook",
            provider_webhook.ProviderWebhook,
            provider_webhook.Received,
            provider_webhook.handle,
            _PROVIDER,
            "its id is unique in the inbox; it only makes us look at the job",
            shape=Shape.SIGNED,
        ),
        Function(
            "chat",
            chat.ChatRequest,
            chat.ChatCompletion,
            chat.handle,
            _USER,
            "a question may be asked twice; usage counts both",
        ),
    )
}
