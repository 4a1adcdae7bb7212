"""How a run ended, for programs that watch it: a request to an address, and a file for Prometheus."""
