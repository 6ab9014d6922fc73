"""How the small speech corpus that sottovoce ships was made: texts, voices, rooms, and the script that ran them."""
