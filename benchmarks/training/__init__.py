"""What the benchmarks of training share: the work, and who does it."""
