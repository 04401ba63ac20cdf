"""Monitoring: learns what raw training data and scores look like, and says how far a new batch is from that."""
