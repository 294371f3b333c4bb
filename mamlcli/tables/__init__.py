"""What commands find as tables: aligned text, HTML for a notebook, a pandas frame where pandas is there."""
