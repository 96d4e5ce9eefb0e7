//! What a direct question is answered: whether this image may be deployed, asked without a deployment.
//!
//! The same machine answers it that answers CloudFormation ([`super::protocol::deploy`]), so the two cannot differ; here is only
//! the form, which is for programs to read and is public: members are added, never changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::finding::{Counts, Finding};
use super::image::ImageDigest;
use super::signature::standing::Signed;

/// So many findings are listed, as in the answer to a deployment.
pub const LISTED: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    pub schema_version: u32,
    pub verdict: Verdict,
    /// Whether a gate that asks for the same would let the image through now.
    pub may_deploy: bool,
    pub image: Named,
    /// When it was scanned; for an index, the oldest scan of its images.
    pub scanned_at: Option<Timestamp>,
    /// Unknown where the policy could not be read.
    pub policy_hash: Option<String>,
    /// Of what counts and is not ignored, in all the images that were judged.
    pub counts: Counts,
    /// The first of those that block, image by image, worst first.
    pub blocking: Vec<Blocking>,
    pub blocking_total: u64,
    /// Who has signed it, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signed>,
    /// The counted images of an index; of a single image there are none.
    pub images: Vec<OfIndex>,
    /// What a blocked deployment would read, or why this one would pass or wait.
    pub message: String,
    /// When it is worth asking again, where there is no verdict yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Pass,
    Block,
    /// No scanner can scan it, or its scan failed.
    Unscanned,
    /// There is no complete result yet: a deployment would wait.
    Pending,
    /// It is not signed as asked, or that could not be checked.
    #[serde(rename = "SIGNATURE_FAILED")]
    SignatureFailed,
    /// What was asked cannot be judged: neither waiting nor scanning helps.
    Refused,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Block => "BLOCK",
            Self::Unscanned => "UNSCANNED",
            Self::Pending => "PENDING",
            Self::SignatureFailed => "SIGNATURE_FAILED",
            Self::Refused => "REFUSED",
        }
    }

    /// The verdict of a decision that let nothing through.
    pub fn of_refusal(word: &str) -> Self {
        [Self::Block, Self::Unscanned, Self::Pending, Self::SignatureFailed].into_iter().find(|verdict| verdict.word() == word).unwrap_or(Self::Refused)
    }
}

/// The image that was judged; without a digest, none was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Named {
    pub repository: String,
    pub digest: Option<ImageDigest>,
    /// By digest, to be deployed: a tag can move.
    pub uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocking {
    pub id: String,
    pub severity: String,
    pub package: Option<String>,
    pub installed: Option<String>,
    pub fixed_in: Option<String>,
    /// The image of an index in which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ImageDigest>,
}

impl Blocking {
    pub fn of(finding: &Finding, digest: Option<ImageDigest>) -> Self {
        let package = finding.packages.first();
        Self {
            id: finding.id.clone(),
            severity: finding.severity.word().to_owned(),
            package: package.map(|package| package.name.clone()),
            installed: package.and_then(|package| package.version.clone()),
            fixed_in: package.and_then(|package| package.fixed_in.clone()),
            digest,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OfIndex {
    pub digest: ImageDigest,
    pub platform: String,
    pub verdict: Verdict,
}
