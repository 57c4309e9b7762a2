"""How facts come in: callbacks, provider adapters, the poller; and the HTTP face of Taskbell."""
