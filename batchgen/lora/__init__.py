"""LoRA adapters as peft writes them: what their config and tensors mean. Imports neither torch nor peft."""
