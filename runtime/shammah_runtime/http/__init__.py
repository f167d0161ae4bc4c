"""The HTTP server: OpenAI's and Anthropic's shapes over the same tiers. Only `shammah-serve http` imports it (extra `http`)."""
