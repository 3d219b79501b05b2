"""Models in memory, and their answers: one at a time, rendered as they were trained."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modal_app.base import Loaded, load
from modal_app.serving.chat import ChatRequest, Completion, weights_of
from modal_app.session.failures import RunFailed
from shared.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    import torch

MOST_MODELS = 4
MOST_BYTES = 8 << 30  # weights of all models in memory; the newest stays even if it alone is larger
LONGEST_ANSWER_SECONDS = 100.0
SMALL_BYTES = 64 << 20  # a model that one thread answers for as fast as several
MOST_THREADS = 4


class Engine:
    """Loads a model when it is first asked for. Not thread-safe: call it from one worker thread."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._models: OrderedDict[str, Loaded] = OrderedDict()  # the least recently used first
        self.stopping = threading.Event()  # set it from anywhere to end the answer under way

    def warm(self, model: str | None) -> None:
        """The libraries are imported, and the model, if one is named, is in memory."""
        if model is None:
            _import_libraries()
        else:
            self._loaded(model)

    def complete(self, request: ChatRequest) -> Completion:
        """The model's next turn. Raises NotFound and InvalidRequest."""
        loaded = self._loaded(request.model)
        prompt = _prompt(loaded, request)
        length = prompt["input_ids"].shape[1]
        room = (loaded.context_length_tokens or 1 << 30) - length
        if room < 1:
            raise InvalidRequest(
                f"The messages take {length} tokens, and the model holds {loaded.context_length_tokens} with "
                "its answer. Send fewer or shorter messages.",
                code="context_length_exceeded",
            )
        answer = self._generate(loaded, request, prompt, min(request.max_tokens, room))
        return Completion(
            content=str(loaded.tokenizer.decode(answer, skip_special_tokens=True)),
            finish_reason="stop" if answer and answer[-1] in loaded.stop_ids else "length",
            prompt_tokens=length,
            completion_tokens=len(answer),
        )

    def _generate(
        self, loaded: Loaded, request: ChatRequest, prompt: dict[str, torch.Tensor], max_new_tokens: int
    ) -> list[int]:
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        if request.seed is not None:
            torch.manual_seed(request.seed)
        sampling = {"do_sample": True, "temperature": request.temperature} if request.temperature else {}
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(loaded.stop_ids),
            pad_token_id=loaded.tokenizer.pad_token_id,
            use_cache=True,
            **sampling,
        )
        deadline = time.monotonic() + LONGEST_ANSWER_SECONDS

        def out_of_time(ids: torch.Tensor, _: Any) -> torch.Tensor:
            over = self.stopping.is_set() or time.monotonic() > deadline
            return torch.full((ids.shape[0],), over, device=ids.device)

        generate: Any = loaded.model.generate
        torch.set_num_threads(_threads(loaded))
        with torch.inference_mode():
            output = generate(
                **prompt, generation_config=config, stopping_criteria=StoppingCriteriaList([out_of_time])
            )
        answer: list[int] = output[0, prompt["input_ids"].shape[1] :].tolist()
        return answer

    def _loaded(self, model: str) -> Loaded:
        source = weights_of(model, self._data_dir)
        if source not in self._models:
            self._models[source] = _load(source)
            self._make_room()
        self._models.move_to_end(source)
        return self._models[source]

    def _make_room(self) -> None:
        while len(self._models) > 1 and (len(self._models) > MOST_MODELS or self._bytes() > MOST_BYTES):
            self._models.popitem(last=False)

    def _bytes(self) -> int:
        return sum(loaded.model.get_memory_footprint() for loaded in self._models.values())


def _load(source: str) -> Loaded:
    _import_libraries()
    from modal_app import hardware

    try:
        loaded = load(source, None, dtype=hardware.saved_dtype())
    except RunFailed as error:
        raise NotFound(error.message, code="model_not_found") from error
    module: torch.nn.Module = loaded.model
    module.to(hardware.device()).eval()
    return loaded


def _import_libraries() -> None:
    """Takes seconds the first time. Only what generation needs: not trl, not datasets."""
    import transformers.utils.logging as transformers_logging
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig  # noqa: F401 - lazy modules

    transformers_logging.disable_progress_bar()


def _prompt(loaded: Loaded, request: ChatRequest) -> dict[str, torch.Tensor]:
    from jinja2 import TemplateError

    messages = [message.model_dump() for message in request.messages]
    try:
        encoded: Any = loaded.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    except TemplateError as error:
        raise InvalidRequest(
            f"The model's chat template refuses these messages: {error}", code="messages_refused"
        ) from error
    on_device: dict[str, torch.Tensor] = dict(encoded.to(loaded.model.device))
    return on_device


def _threads(loaded: Loaded) -> int:
    small = loaded.model.get_memory_footprint() < SMALL_BYTES
    return 1 if small else min(MOST_THREADS, os.cpu_count() or 1)
