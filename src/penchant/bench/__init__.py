"""How quick the library is, measured beside a fixed yardstick on made data."""
