"""Where tables lie (git-ignored), and the generator of the sample."""
