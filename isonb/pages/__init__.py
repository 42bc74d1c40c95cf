"""What makes the book: numbers in prose, formulas, verdicts in words, the theme, and the sigma explorer."""
