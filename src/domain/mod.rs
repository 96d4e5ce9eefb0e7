//! Floor 1: pure. No network, no clock, no async: what is decided here can be read in one sitting and tested in microseconds.

pub mod image;
