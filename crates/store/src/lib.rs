//! What a node remembers: SQL behind typed functions.
