"""From a row to token ids: templates, chat templates, limits."""
