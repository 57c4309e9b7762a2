"""How facts go out: claim, send, judge, write down."""
