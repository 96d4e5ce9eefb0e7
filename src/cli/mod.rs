//! The commands of `ecr-scan-verifier`: text in, text and an exit code out. `main.rs` reads the arguments and prints.

#[cfg(feature = "aws")]
pub mod break_glass;
#[cfg(feature = "aws")]
pub mod check;
#[cfg(feature = "aws")]
pub mod dead_letters;
#[cfg(feature = "aws")]
pub mod explain;
pub mod history;
pub mod judge;
pub mod named;
pub mod read_event;
pub mod verify_signature;
#[cfg(feature = "aws")]
pub mod waiters;
#[cfg(feature = "aws")]
pub mod who_has;

/// What a command has to say, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub exit: u8,
}

impl Outcome {
    pub fn said(stdout: String, exit: u8) -> Self {
        Self { stdout, stderr: String::new(), exit }
    }

    /// Exit code 1: a usage error, an input that cannot be read, no credentials, no table.
    pub fn failed(stderr: impl Into<String>) -> Self {
        Self { stdout: String::new(), stderr: stderr.into(), exit: 1 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}
