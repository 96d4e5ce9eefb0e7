//! What was decided, as a person asks for it later: about one image, or in one stack.

use jiff::Timestamp;

use super::image::ImageDigest;
use super::outputs::{Progress, Scanned};
use super::signature::standing::Signed;

/// Whose history it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// In one repository alone, where that is named.
    Image { digest: ImageDigest, repository: Option<String> },
    /// Every stack that has had this name.
    StackName(String),
    /// One stack, by its ARN.
    Stack(String),
}

/// One decision, as its row says. What a row of an earlier version does not hold is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub at: Option<Timestamp>,
    pub stack: String,
    pub logical_id: String,
    pub request_id: String,
    pub repository: String,
    /// As the template named it.
    pub image: String,
    pub digest: Option<String>,
    pub verdict: String,
    pub why: String,
    pub policy_hash: Option<String>,
    /// The policy's own text, where it is recorded: of what was let through.
    pub policy: Option<String>,
    pub known: Vec<Scanned>,
    /// Who had signed it, where that was asked.
    pub signed: Option<Signed>,
    pub outputs: Option<Progress>,
}

impl Decision {
    pub fn stack_name(&self) -> &str {
        stack_name(&self.stack)
    }
}

/// The name in a stack's ARN.
pub fn stack_name(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}
