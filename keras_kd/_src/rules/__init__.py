"""Rules: what a teacher says is filtered or mended before it is taught."""
