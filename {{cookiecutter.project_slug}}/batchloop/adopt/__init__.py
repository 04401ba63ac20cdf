"""Adopt: a package."""
