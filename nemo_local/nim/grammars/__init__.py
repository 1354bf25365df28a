"""What a reply must look like, from a request's fields to the mask of the next token."""
