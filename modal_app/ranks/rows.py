"""Which rows of a step a rank gets: all ranks together those that one process would, in its order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, TypeVar

from modal_app.ranks.place import Place

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from transformers import Trainer

    Kind = TypeVar("Kind", bound=type[Trainer])


class Share:
    """A batch sampler: of every batch of `batches` the rows of one rank, as their indices.

    `batches` makes those of one rank alone, and from now on batches for all ranks together. The last of an
    epoch may not part evenly. blank: a rank without a row gets this one, which teaches nothing, and some
    have a row more than others. None: rows of it are taken again until all ranks have equally many.
    """

    def __init__(self, batches: Any, place: Place, *, blank: int | None) -> None:
        self._batches, self._place, self._blank = batches, place, blank
        batches.batch_size *= place.count
        self.batch_size: int = batches.batch_size
        self.drop_last = False

    @property
    def sampler(self) -> Any:
        """What draws the order of an epoch."""
        return self._batches.sampler

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self._batches, "set_epoch"):
            self._batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield self._part(list(batch))

    def _part(self, batch: list[int]) -> list[int]:
        rank, count = self._place.rank, self._place.count
        if self._blank is not None:
            return batch[rank::count] or [self._blank]
        whole = -(-len(batch) // count) * count
        return list(islice(cycle(batch), whole))[rank::count]


def sharing(trainer: Kind, place: Place, *, has_blank: bool = False) -> Kind:
    """The trainer with this rank's share of its rows. has_blank: its last row is the blank one."""
    if place.count == 1:
        return trainer
    # The class is made here because its base is known only once transformers is imported.
    from accelerate.data_loader import DataLoaderShard

    class SharingTrainer(trainer):  # type: ignore[valid-type, misc]  # a class made at run time
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            rows = self.train_dataset if train_dataset is None else train_dataset
            return super()._get_train_sampler(rows.select(range(len(rows) - 1)) if has_blank else rows)

        def get_train_dataloader(self) -> DataLoader[Any]:
            whole = super().get_train_dataloader()
            blank = len(whole.dataset) - 1 if has_blank else None
            mine: DataLoader[Any] = DataLoaderShard(
                whole.dataset,
                device=whole.device,
                batch_sampler=Share(whole.batch_sampler.batch_sampler, place, blank=blank),
                collate_fn=whole.collate_fn,
                pin_memory=whole.pin_memory,
            )
            return mine

    return SharingTrainer  # type: ignore[return-value]  # a class made at run time
