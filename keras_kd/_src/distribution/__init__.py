"""Several PyTorch processes that train one student together."""
