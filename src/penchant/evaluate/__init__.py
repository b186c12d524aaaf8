"""Protocols, judging by them, comparison."""
