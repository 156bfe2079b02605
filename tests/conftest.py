"""Here so that tests of every folder may import the helpers that lie in this one."""
