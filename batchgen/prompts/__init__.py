"""From a row to token ids: templates filled in, chat templates applied, limits kept."""
