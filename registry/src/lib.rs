//! Who exists and what they consented to: families, API keys, and the cache ingest asks.
