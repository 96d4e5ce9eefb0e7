//! What can go wrong in a handler: worth retrying or not, and what Lambda and its log get to read.

use lambda_runtime::Diagnostic;

use crate::domain::protocol::Why;
use crate::events::UnreadableEvent;

#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    #[error("could not read the event")]
    UnreadableEvent(#[source] UnreadableEvent),
    #[error("this function does not answer `{0}` events")]
    NotForUs(&'static str),
    #[error("cannot answer the request of {stack}: {reason}")]
    NoAnswerPossible { stack: String, reason: String },
    #[error("{}", .0.text)]
    TryAgain(Why),
    #[error("the work on {0} panicked")]
    Panicked(String),
}

impl HandlerError {
    /// Whether the same event, delivered again, may succeed.
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            Self::TryAgain(_) | Self::Panicked(_) => true,
            Self::UnreadableEvent(_) | Self::NotForUs(_) | Self::NoAnswerPossible { .. } => false,
        }
    }

    /// The whole chain in one line.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            line = format!("{line}: {cause}");
            source = cause.source();
        }
        line
    }
}

/// Lambda reports only the outermost text of an error.
impl From<HandlerError> for Diagnostic {
    fn from(error: HandlerError) -> Self {
        let error_type = if error.is_worth_retrying() { "TryAgain" } else { "GiveUp" };
        Diagnostic { error_type: error_type.to_owned(), error_message: error.chain() }
    }
}
