"""The command line: run the pipelines here, take on a table, see releases, plan the AWS side."""
