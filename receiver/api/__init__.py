"""The management API, one file a subject; each lists its endpoints."""
