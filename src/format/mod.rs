//! Record, queue entry and index bytes: pure functions, no I/O, no clock.
