"""The peers' programs import libraries that only their own environments have."""

collect_ignore = ["apps"]
