//! The federation protocol as pure functions of bytes, keys and times.
