"""Loss, optimiser, loop, checkpoint."""
