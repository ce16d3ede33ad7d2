"""Rules that turn the config of one Keras layer into specs; `RULES` of `options` has them all."""
