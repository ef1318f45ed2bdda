"""The translation of instructions into ops. Pure."""
