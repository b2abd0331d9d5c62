"""Options, terminal output and interruption, shared by all commands."""
