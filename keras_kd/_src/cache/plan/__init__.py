"""plan: estimates a cache's size and time before anything is written."""
