"""Which of the processes of a run this one is, and what they tell one another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from modal_app import hardware
from modal_app.session.stop import StopReason

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

# A collective that takes longer has a rank that does not come. Writing a large checkpoint lies in between.
PATIENCE = timedelta(minutes=30)
_REASONS: tuple[StopReason | None, ...] = (None, *StopReason)  # as they are told, by their number


@dataclass(frozen=True)
class Place:
    """One of `count` processes; rank 0 has the claim, reports, and writes what is kept."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def agreed(self, reason: StopReason | None) -> StopReason | None:
        """What rank 0 gives here, at every rank: all of them stop after the same step, or none."""
        if self.count == 1:
            return reason
        import torch
        import torch.distributed as dist

        told = torch.tensor(_REASONS.index(reason))
        dist.broadcast(told, src=0)
        return _REASONS[int(told)]

    def meet(self) -> None:
        """Every rank has come here."""
        self.agreed(None)


ALONE = Place()


@contextmanager
def joined(place: Place, store: TCPStore) -> Iterator[None]:
    """The ranks are one process group inside, which accelerate finds; CPU tensors pass through gloo.

    Afterwards a new one can be made: what accelerate knows of this one is forgotten.
    """
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if hardware.device() == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.count, timeout=PATIENCE)
    try:
        yield
    finally:
        _forget()


def shard_on_cpu_too() -> None:
    """accelerate hands FSDP only to what it takes for a GPU; torch shards on a CPU just as well."""
    from accelerate import DistributedType, PartialState

    if hardware.device() == "cpu":
        known: dict[str, Any] = PartialState._shared_state
        known["distributed_type"] = DistributedType.MULTI_GPU


def _forget() -> None:
    import torch.distributed as dist
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    dist.destroy_process_group()
