"""The HTTP API, its workers and the playground."""
