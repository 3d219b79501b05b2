from typing import Any


class DictDefault(dict[str, Any]):
    """Keys are attributes; a missing one is None."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)
