"""Where it is joined: settings, the app, the command line, the demo."""

__version__ = "0.1.0"
