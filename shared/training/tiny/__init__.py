"""What the offline base model `fineflow/tiny` is made of, except its weights."""
