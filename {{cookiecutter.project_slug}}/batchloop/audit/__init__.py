"""What an auditor asks of a release: its card, what its images hold, what is known against it, how to repeat it."""
