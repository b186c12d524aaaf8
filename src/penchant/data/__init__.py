"""From a raw log to batches: read, check, prepare, log, split, negatives, load."""
