"""The offline base model: built on this machine, the same bytes every time, no download."""
