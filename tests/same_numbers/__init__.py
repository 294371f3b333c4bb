"""Whether a refactoring moved a number: what this checkout trains and evaluates, beside what another commit does."""
