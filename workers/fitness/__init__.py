"""Whether an input is fit for a model, asked before the model is."""
