"""Stan: program text, compilation, and chains as processes."""
