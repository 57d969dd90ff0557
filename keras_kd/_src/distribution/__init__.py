"""Several processes of PyTorch that train one student together."""
