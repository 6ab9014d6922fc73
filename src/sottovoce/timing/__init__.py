"""How long models take: beside each other, beside other programs, beside what the machine could do."""
