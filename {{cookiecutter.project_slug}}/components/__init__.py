"""Components: a package."""
