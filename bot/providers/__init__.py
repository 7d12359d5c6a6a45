"""Models that somebody else runs: LangChain's providers and any server with OpenAI's API, made patient and private."""
