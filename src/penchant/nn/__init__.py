"""Parts that models are built of. None of them sees padding."""
