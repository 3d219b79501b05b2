"""What repeats a run of our trainer: it is stored with the model, and kept as a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from shared.errors import InvalidRequest
from shared.training.config import Method, Record, TrainingConfig
from shared.training.spec import MOST_GPUS, BaseModelId

MAX_RECIPE_BYTES = 1 << 20
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Recipe(Record):
    """`fine_tuned_models.recipe` of a model that our trainer made. Equal recipes give equal runs.

    On one machine with the same libraries the weights are equal to the bit on a CPU; elsewhere sums are
    taken in another order.
    """

    base_model: BaseModelId
    base_revision: str | None = Field(
        default=None, max_length=64, description="Commit of a Hub model; None: it is none, or nobody knows."
    )
    base_sha256: Sha256 | None = Field(
        default=None,
        description="Of weights and settings of a base model that is a path or a model of the project; None:"
        " it came from the Hub.",
    )
    root_base_model: BaseModelId | None = Field(
        default=None,
        description="Where base_model is a model of the project: what the first of its line began with.",
    )
    method: Method
    config: TrainingConfig = Field(description="Resolved: every value that was taken. The seed is in it.")
    dataset_sha256: Sha256 = Field(description="Of the training file: equal datasets give equal files.")
    validation_sha256: Sha256 | None = Field(default=None, description="None: no rows were held out.")
    template_fingerprint: Sha256 | None = Field(
        default=None, description="sha256 of chat template, EOS, BOS, special ids; None: not talked to."
    )
    spec_fingerprint: Sha256 = Field(description="RunSpec.fingerprint of the run.")
    rows_at_once: int | None = Field(
        default=None, ge=1, description="That passed the model of one GPU together."
    )
    gpu_count: int = Field(default=1, ge=1, le=MOST_GPUS, description="That trained the run together.")
    device: str = Field(max_length=200, description="'cpu', 'mps', or the name of the GPU.")
    threads: int = Field(ge=1, description="Of the CPU.")
    python: str = Field(max_length=40)
    libraries: dict[str, str] = Field(max_length=50, description="Versions by name.")

    def written(self) -> str:
        """The file form: JSON by the names of the columns."""
        return self.model_dump_json(indent=2) + "\n"

    def differences(self, libraries: Mapping[str, str | None]) -> list[str]:
        """What is not as it was in the run; None: it is not installed."""
        return [
            f"{name} was {version}, here it is {libraries.get(name) or 'not installed'}"
            for name, version in sorted(self.libraries.items())
            if libraries.get(name) != version
        ]


def read_recipe(content: bytes, name: str) -> Recipe:
    """The recipe in a file. Raises InvalidRequest with file, field and rule."""
    if len(content) > MAX_RECIPE_BYTES:
        raise InvalidRequest(f"{name} is no recipe: it is over {MAX_RECIPE_BYTES:,} bytes.")
    try:
        return Recipe.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidRequest(f"{name} is no recipe: {field + ': ' if field else ''}{first['msg']}.") from None
