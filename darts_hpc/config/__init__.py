"""What a user may set: one frozen config an entry point (schema) and how flags and presets become it (cli)."""
