"""Rules that turn the config of one Keras layer into specs; `rules` lists them all."""
