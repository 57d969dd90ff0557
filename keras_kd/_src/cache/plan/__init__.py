"""Plan: what cached predictions would take, before anything is written."""
