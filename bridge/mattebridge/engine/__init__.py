"""One frame on the device: inputs, model, finish."""
