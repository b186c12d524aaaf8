"""What every model must obey, checked on a small made world: for those of MODELS, and for anybody's own."""
