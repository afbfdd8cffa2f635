"""The sources of images: a file for each, with a function `read(images)`."""
