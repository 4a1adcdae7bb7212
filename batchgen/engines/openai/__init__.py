"""The engine `openai`: rows are answered by servers that implement OpenAI's HTTP API, such as vLLM, llama.cpp or Ollama."""
