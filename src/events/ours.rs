//! Our own messages, from one function to another over the scan queue, and to itself later.
//!
//! They hold names only, never a ResponseURL and no facts: who receives one looks everything up again. Version 1 is read
//! and written; what a later version adds to a message is passed over, what it would need is refused.

use serde::Serialize;
use serde_json::{Map, Value};

use super::members::{Members, shown};
use super::{Glance, UnreadableEvent};
use crate::domain::image::{ImageDigest, Repository};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ours {
    /// The `n`-th time to look after a waiting request.
    Timer { request_id: String, n: u32 },
    /// Look at an image once more; `n` counts the looks. A request that was just registered rides along.
    LookAgain { digest: ImageDigest, repository: Repository, n: u32, request_id: Option<String> },
    /// Write what an answered request wants written (logs, SBOM).
    Outputs { request_id: String },
    /// Tell of what was decided about a request.
    Notice { request_id: String },
    /// Somebody has signed an image: who waits for that is looked at.
    Signed { digest: ImageDigest, repository: Repository },
    /// See whether somebody has to be told of an image.
    Announce { digest: ImageDigest, repository: Repository },
    /// Go on with findings whose reading ran out of time, from this page on.
    RestOfRead { digest: ImageDigest, repository: Repository, token: String },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    v: u32,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a ImageDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'a Repository>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

impl Ours {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Timer { .. } => "timer",
            Self::LookAgain { .. } => "look-again",
            Self::Outputs { .. } => "outputs",
            Self::Notice { .. } => "notice",
            Self::Announce { .. } => "announce",
            Self::Signed { .. } => "signed",
            Self::RestOfRead { .. } => "rest-of-read",
        }
    }

    /// The body of the message.
    pub fn to_json(&self) -> String {
        let empty = Message { v: 1, kind: self.kind(), request_id: None, n: None, digest: None, repository: None, token: None };
        let message = match self {
            Self::Timer { request_id, n } => Message { request_id: Some(request_id), n: Some(*n), ..empty },
            Self::LookAgain { digest, repository, n, request_id } => {
                Message { request_id: request_id.as_deref(), n: Some(*n), digest: Some(digest), repository: Some(repository), ..empty }
            }
            Self::Outputs { request_id } | Self::Notice { request_id } => Message { request_id: Some(request_id), ..empty },
            Self::Announce { digest, repository } | Self::Signed { digest, repository } => {
                Message { digest: Some(digest), repository: Some(repository), ..empty }
            }
            Self::RestOfRead { digest, repository, token } => Message { digest: Some(digest), repository: Some(repository), token: Some(token), ..empty },
        };
        serde_json::to_string(&message).expect("texts and numbers always make JSON")
    }

    pub(super) fn read(members: &Map<String, Value>) -> Result<Self, UnreadableEvent> {
        let message = Members::new("our own message", members);
        if message.whole_number_if_any("v")? != Some(1) {
            return Err(message.bad("v", "is not 1, the only version that this version of ecr-scan-verifier knows"));
        }
        let n = |default: Option<u32>| match message.whole_number_if_any("n")? {
            Some(n) => u32::try_from(n).map_err(|_| message.bad("n", "is too large")),
            None => default.ok_or_else(|| message.bad("n", "is missing")),
        };
        let repository = || {
            let arn = message.text("repository")?;
            arn.parse().map_err(|_| message.bad("repository", format!("is `{}`, no ARN of an ECR repository", shown(arn))))
        };
        Ok(match message.text("kind")? {
            "timer" => Self::Timer { request_id: message.text("requestId")?.to_owned(), n: n(None)? },
            "look-again" => Self::LookAgain {
                digest: message.digest("digest")?,
                repository: repository()?,
                n: n(Some(1))?,
                request_id: message.text_if_any("requestId")?.map(str::to_owned),
            },
            "outputs" => Self::Outputs { request_id: message.text("requestId")?.to_owned() },
            "notice" => Self::Notice { request_id: message.text("requestId")?.to_owned() },
            "announce" => Self::Announce { digest: message.digest("digest")?, repository: repository()? },
            "signed" => Self::Signed { digest: message.digest("digest")?, repository: repository()? },
            "rest-of-read" => Self::RestOfRead { digest: message.digest("digest")?, repository: repository()?, token: message.text("token")?.to_owned() },
            other => return Err(message.bad("kind", format!("is `{}`, which this version of ecr-scan-verifier does not know", shown(other)))),
        })
    }

    /// For a person to see.
    pub fn glance(&self) -> Glance {
        match self {
            Self::LookAgain { digest, repository, .. }
            | Self::RestOfRead { digest, repository, .. }
            | Self::Announce { digest, repository }
            | Self::Signed { digest, repository } => Glance {
                account: Some(repository.account.clone()),
                region: Some(repository.region.clone()),
                repository: Some(repository.name.clone()),
                digest: Some(digest.clone()),
                tags: Vec::new(),
            },
            Self::Timer { .. } | Self::Outputs { .. } | Self::Notice { .. } => Glance::default(),
        }
    }
}
