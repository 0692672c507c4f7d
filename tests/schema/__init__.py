"""The service held against its own /openapi.json by schemathesis, which makes requests out of that document."""
