"""Hubs, from which models are downloaded: their caches on this machine, probes and downloads."""
