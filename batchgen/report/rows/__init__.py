"""Which answers a page shows, and what of them."""
