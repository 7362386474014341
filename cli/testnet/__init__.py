"""Local test networks: making them, starting and stopping their nodes."""
