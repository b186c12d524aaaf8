"""Other libraries' models in their own environments: nothing here is imported by penchant, and nothing here imports it.

loop.py is run by the Python of a peer's environment (penchant.bench.against); of_NAME.py builds that peer's own model from its own package
and does its own training step.
"""
