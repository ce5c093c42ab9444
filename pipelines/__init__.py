"""One pipeline a file, each reads as the picture in the documentation."""
