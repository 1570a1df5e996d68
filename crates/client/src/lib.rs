//! What a user's device does: seed, keys, sealing, signing, and a typed HTTP client of a node.
