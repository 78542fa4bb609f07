"""Pictures of cells and alphas, and the report over run folders. It reads what runs wrote and never writes there."""
