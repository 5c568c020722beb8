"""Enterprise contracts: what a customer commits to for a term, what it pays beyond, and what it gets back."""
