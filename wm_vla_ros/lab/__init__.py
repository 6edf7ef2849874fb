"""Research questions, each with a command that answers it. Nothing that a running stack needs is here."""
