"""From here to the servers: addresses, connections, retries, and which server gets the next request."""
