"""The outside made real: files, LLM servers, scoring models, embeddings, the memory bank. Each fits a port of the core."""
