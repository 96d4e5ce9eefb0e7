//! Floor 1: pure. No network, no clock, no async: what is decided here can be read in one sitting and tested in microseconds.

pub mod alert;
pub mod check;
pub mod finding;
pub mod head;
pub mod history;
pub mod image;
pub mod index;
pub mod judge;
pub mod manifest;
pub mod message;
pub mod notice;
pub mod outputs;
pub mod page;
pub mod plan;
pub mod policy;
pub mod protocol;
pub mod request;
pub mod response_url;
pub mod scan;
pub mod signature;
pub mod walk;
