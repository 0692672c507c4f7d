"""The HTTP doors on Quart-Trio: the account API, the admin endpoint and health."""
