"""The local engine: runs compiled pipeline definitions on this machine, with neither AWS nor its SDK."""
