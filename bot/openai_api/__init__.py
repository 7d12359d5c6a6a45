"""The OpenAI-compatible API on a gateway's port: any client of that API can talk to the model."""
