//! The node as people meet it.
