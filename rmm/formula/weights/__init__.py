"""Weight functions: rewriting, evaluation, and their text in program languages."""
