"""OpenVINO GenAI: models that were converted for it, on CPUs."""
