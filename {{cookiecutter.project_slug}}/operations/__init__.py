"""The command line: run the pipelines here, take on a table, and all that is done in an AWS account."""
