"""Cloud: a package."""
