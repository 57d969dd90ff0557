"""Whether a distillation was worth it: ways to train, compared."""
