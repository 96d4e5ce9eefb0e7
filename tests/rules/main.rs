//! The rules, one page each: events in, read as what they are.

mod events;
