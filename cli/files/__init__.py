"""Files of devices: sent in encrypted chunks, and read again by who may. docs/spec/chunks.md."""
