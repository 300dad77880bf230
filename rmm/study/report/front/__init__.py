"""The first screen of a report: answer, figure, table of the methods, cautions."""
