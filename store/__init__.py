"""What is true: tables, transactions and the state machine. No HTTP, no environment."""
