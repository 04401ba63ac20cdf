"""The plumbing: owned by the template, replaced as a whole by an update."""
