"""What every component shares: the /opt/ml contract, raw tables, artifacts, and how to fail."""
