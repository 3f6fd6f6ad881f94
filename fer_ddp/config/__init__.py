"""A job: YAML to one frozen, typed object, with readable errors."""
