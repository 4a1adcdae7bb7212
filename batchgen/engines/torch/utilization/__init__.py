"""FLOPs, the machine's measured peak, and MFU."""
