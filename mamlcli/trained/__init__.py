"""A trained run put to use: it adapts to tasks of a user's own and predicts, in the user's units."""
