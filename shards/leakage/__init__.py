"""Images of val and test that appear in train, exactly or nearly."""
