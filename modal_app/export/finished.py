"""A finished language model as it lies in its run directory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from modal_app.export.refusal import ExportRefused
from modal_app.session.directory import RunDirectory
from shared.training.recipe import Recipe
from shared.training.spec import RunResult

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Progress = Callable[[int, int], None]  # bytes written, bytes in all


@dataclass(frozen=True)
class FinishedModel:
    """The whole model in `artifact/`, and the adapters that it was merged from, if there were any."""

    directory: Path  # the run directory

    @classmethod
    def at(cls, path: Path) -> FinishedModel:
        """The model of a run directory, or of the artifact in it. Raises ExportRefused."""
        resolved = path.resolve()
        if resolved.name == "artifact":
            resolved = resolved.parent
        if not (resolved / "artifact" / "config.json").is_file():
            raise ExportRefused(
                f"There is no finished model in {resolved.name}: artifact/config.json is missing."
                " Export on the machine that trained it, after its job has completed.",
                code="model_not_found",
            )
        if (resolved / "artifact" / "modules.json").is_file():
            raise ExportRefused(
                "An embedding model answers nobody. Its artifact is read by sentence-transformers as it lies."
            )
        return cls(resolved)

    @property
    def artifact(self) -> Path:
        return self.directory / "artifact"

    @property
    def adapter(self) -> Path | None:
        """None: all weights were trained."""
        path = self.directory / "adapter"
        return path if (path / "adapter_config.json").is_file() else None

    @cached_property
    def result(self) -> RunResult:
        """How the run ended. Raises ExportRefused when it has not completed."""
        directory = RunDirectory(self.directory)
        result = directory.finished_result() or directory.trained_result()  # here, or fetched from Storage
        if result is None:
            raise ExportRefused(
                f"The run in {self.directory.name} has not completed. Follow its job first.",
                code="model_not_found",
            )
        return result

    @cached_property
    def recipe(self) -> Recipe:
        """What made the model. Raises ExportRefused for a run of an older trainer, which did not tell it."""
        try:
            return Recipe.model_validate(self.result.recipe)
        except ValidationError as error:
            raise ExportRefused("The run left no recipe that is known here. Train it again.") from error

    @property
    def base(self) -> tuple[str, str | None]:
        """The base model by its id, and its commit. Of one that lies here the name, without its place; of one
        of the project what the first of its line was trained from, because nobody else has those between."""
        base_model = self.recipe.root_base_model or self.recipe.base_model
        if not base_model.startswith("/"):
            return base_model, self.recipe.base_revision
        path = Path(base_model)
        return (path.parent.name if path.name == "artifact" else path.name), None

    @cached_property
    def config(self) -> Any:
        """The configuration, as transformers reads it today. Never runs code of the model."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.artifact, local_files_only=True, trust_remote_code=False)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, with the template that the model was trained under."""
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            self.artifact, local_files_only=True, trust_remote_code=False
        )
        return tokenizer

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Every token that ends an answer, the tokenizer's own first."""
        from transformers import GenerationConfig

        try:
            ids = GenerationConfig.from_pretrained(self.artifact, local_files_only=True).eos_token_id
        except OSError:
            ids = self.config.eos_token_id
        known = ids if isinstance(ids, list) else [ids]
        every = [self.tokenizer.eos_token_id, *sorted(token for token in known if token is not None)]
        return tuple(dict.fromkeys(int(token) for token in every if token is not None))


class Weights:
    """The tensors of a directory of safetensors, one at a time: no more than one is in memory."""

    def __init__(self, directory: Path) -> None:
        """Closed by `with`."""
        from safetensors import safe_open

        self._files = ExitStack()
        self._holder: dict[str, Any] = {}
        for path in sorted(directory.glob("*.safetensors")):
            file = self._files.enter_context(safe_open(path, framework="pt"))
            self._holder.update(dict.fromkeys(file.keys(), file))

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    @property
    def names(self) -> list[str]:
        """As the files name them."""
        return sorted(self._holder)

    def shape(self, name: str) -> tuple[int, ...]:
        """Read from the head of the file."""
        return tuple(self._holder[name].get_slice(name).get_shape())

    def read(self, name: str) -> torch.Tensor:
        """The tensor, in the type that it has in the file."""
        tensor: torch.Tensor = self._holder[name].get_tensor(name)
        return tensor
