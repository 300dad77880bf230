"""What is written about a fit: headline, remarks, tables for papers, a paragraph."""
