"""A trained model outside the trainer: predict and export."""
