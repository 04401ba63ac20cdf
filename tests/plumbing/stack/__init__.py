"""infra/stack.yaml and its permissions, as far as they can be checked without an account: a part of `make check`."""
