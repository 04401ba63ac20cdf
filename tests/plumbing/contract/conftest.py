"""The fixtures of the contract suite, which the rendered repository brings."""

from batchloop.contract.containers import contract, features, schema, server

__all__ = ["contract", "features", "schema", "server"]
