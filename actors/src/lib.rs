//! The actors of a node: every state change goes through here.
