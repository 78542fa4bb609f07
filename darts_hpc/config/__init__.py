"""What a user may set: one file of frozen configs per entry point, and how flags and presets become them (cli)."""
