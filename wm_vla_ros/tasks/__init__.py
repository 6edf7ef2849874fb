"""Tasks: what an instruction asks for, when it is done, and how far it is done."""
