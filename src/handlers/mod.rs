//! Floor 3: parse, gather, decide, carry out. A handler reads facts, pure code decides, and the adapters do it.

pub mod batch;
pub mod deploy;
pub mod drive;
pub mod error;
mod faults;
pub mod metrics;
pub mod push;
pub mod scan;
pub mod sweep;
pub mod walk;
