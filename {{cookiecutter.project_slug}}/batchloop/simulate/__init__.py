"""Simulate: a package."""
