"""A block as methods see it: sites, changes of basis, rotations, the unit that is learned."""
