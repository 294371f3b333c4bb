"""What a run folder holds to a page that people read: one HTML file that needs no other, and the same as Markdown."""
