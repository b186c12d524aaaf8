"""What `penchant.data.check` looks for, a small function each; the table of them is there."""
