"""Published ways to train: transfers of one `fit`, or a chain of several."""
