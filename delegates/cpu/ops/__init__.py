"""How ops become commands, a family a module. ``registry.LOWERINGS`` lists them with their rules."""
