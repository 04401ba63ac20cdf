"""The tests of `batchloop/`, the plumbing of a rendered repository: they run against one that is rendered for them."""
