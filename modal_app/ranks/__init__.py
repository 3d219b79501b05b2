"""Several processes that train one run together, a GPU each; rank 0 is the trainer itself."""
