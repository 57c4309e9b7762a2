"""One file a provider; `receiver.provider.providers` finds them."""
