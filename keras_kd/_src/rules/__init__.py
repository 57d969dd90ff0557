"""Rules: target filtering and refinement."""
