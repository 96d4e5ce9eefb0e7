//! Events in: JSON goes in, domain values come out, nothing else.
//!
//! Whatever reaches a function comes through [`read`]: EventBridge's events about images and findings, CloudFormation's
//! requests, questions asked directly, and our own messages to ourselves. An event is a hint: it says where to look, never that an image is clean. So
//! what cannot be read is an [`UnreadableEvent`] that names the member, and what is of no use is [`Event::Ignored`] with the
//! reason; neither is ever taken for good news. Dates inside `detail` come in three styles and are not read at all: what
//! orders events is the envelope's `time`.
//!
//! The types are our own and filled by hand ([`members`]) rather than derived, because a derived reader says that a map had
//! the wrong type and not which member of which event it was.

pub(crate) mod arn;
pub mod check;
pub mod deployment;
mod ecr;
mod inspector;
mod members;
pub mod ours;
pub mod sqs;
pub mod tick;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::domain::image::{ImageDigest, Repository};
use check::Check;
use deployment::Request;
use members::Members;
pub(crate) use members::shown;
use ours::Ours;

/// Findings by severity, in the scanner's own words (Inspector's hold a `TOTAL` and leave the low ones out).
pub type Counts = BTreeMap<String, u64>;

/// What an event means to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    ImagePushed {
        about: About,
        manifest: Manifest,
    },
    /// A hint only: deleting a tag announces itself in the same words as deleting the image.
    ImageDeleted {
        about: About,
    },
    ImageArchived {
        about: About,
    },
    ImageRestored {
        about: About,
    },
    /// Something that is no image was put beside the images: a signature, an attestation, an SBOM, a chart.
    ArtifactPushed {
        about: About,
        /// The image that it speaks about, where its tag names it.
        subject: Option<ImageDigest>,
        media_type: Option<String>,
    },
    /// The image has arrived in this region; a replica needs its own scan.
    ImageReplicated {
        about: About,
    },
    BasicScanEnded {
        about: About,
        status: String,
        /// `None`: the event states no counts. That is unknown, not clean.
        counts: Option<Counts>,
    },
    EnhancedScanEnded {
        about: About,
        status: String,
        counts: Option<Counts>,
    },
    FindingChanged {
        about: About,
        finding: String,
        status: String,
        severity: Option<String>,
        vulnerability: Option<String>,
    },
    CoverageChanged {
        about: About,
        status: String,
        reason: Option<String>,
    },
    DeploymentRequested(Box<Request>),
    /// Lambda has given up a request: each time it was delivered, the function failed.
    DeploymentGivenUp {
        request: Box<Request>,
        why: String,
    },
    /// Somebody asks, without a deployment, whether an image would be let through.
    CheckRequested(Check),
    Ours(Ours),
    /// A known envelope of no use to us.
    Ignored {
        why: String,
        glance: Glance,
    },
}

/// The image that an event is about. Its repository holds the account and region where the image is, which is not always
/// the account that the event was sent to: an Inspector administrator hears of its members' images too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub digest: ImageDigest,
    pub repository: Repository,
    pub tags: Vec<String>,
    /// When EventBridge says it happened; the only clock that orders events.
    pub at: Option<Timestamp>,
}

/// What kind of manifest was pushed, as far as the event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manifest {
    Index,
    Image,
    Other,
    NotSaid,
}

/// What can be told, for a person to see, about something that we do not act upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    pub account: Option<String>,
    pub region: Option<String>,
    /// The name alone.
    pub repository: Option<String>,
    pub digest: Option<ImageDigest>,
    pub tags: Vec<String>,
}

/// Why an input is no event that we can act upon. Never holds a ResponseURL, and values only cut short and escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("this is not JSON: {0}")]
    NotJson(String),
    #[error("this is neither an event with `detail-type`, nor a CloudFormation request, nor a `check`{}{seems}", if seems.is_empty() { "" } else { ": " })]
    NotAnEvent { seems: String },
    #[error("{event}: `{member}` {reason}")]
    BadMember { event: String, member: String, reason: String },
}

impl Event {
    /// One word for the meaning, for logs and for `read-event`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ImagePushed { .. } => "image-pushed",
            Self::ImageDeleted { .. } => "image-deleted",
            Self::ImageArchived { .. } => "image-archived",
            Self::ImageRestored { .. } => "image-restored",
            Self::ArtifactPushed { .. } => "artifact-pushed",
            Self::ImageReplicated { .. } => "image-replicated",
            Self::BasicScanEnded { .. } => "basic-scan-ended",
            Self::EnhancedScanEnded { .. } => "enhanced-scan-ended",
            Self::FindingChanged { .. } => "finding-changed",
            Self::CoverageChanged { .. } => "coverage-changed",
            Self::DeploymentRequested(_) => "deployment-requested",
            Self::DeploymentGivenUp { .. } => "deployment-given-up",
            Self::CheckRequested(_) => "check-requested",
            Self::Ours(_) => "our-own-message",
            Self::Ignored { .. } => "ignored",
        }
    }

    /// The image that AWS has news of; `None` for requests, our own messages and what is ignored.
    pub fn about(&self) -> Option<&About> {
        match self {
            Self::ImagePushed { about, .. }
            | Self::ImageDeleted { about }
            | Self::ImageArchived { about }
            | Self::ImageRestored { about }
            | Self::ArtifactPushed { about, .. }
            | Self::ImageReplicated { about }
            | Self::BasicScanEnded { about, .. }
            | Self::EnhancedScanEnded { about, .. }
            | Self::FindingChanged { about, .. }
            | Self::CoverageChanged { about, .. } => Some(about),
            Self::DeploymentRequested(_) | Self::DeploymentGivenUp { .. } | Self::CheckRequested(_) | Self::Ours(_) | Self::Ignored { .. } => None,
        }
    }

    /// Account and region where it happened, so that news from elsewhere can be ignored and counted. For an image that is
    /// where the image is, for a deployment where its stack is; our own messages, and checks, come from nowhere else.
    pub fn home(&self) -> Option<(&str, &str)> {
        match self {
            Self::DeploymentRequested(request) | Self::DeploymentGivenUp { request, .. } => request.home(),
            Self::CheckRequested(_) | Self::Ours(_) => None,
            Self::Ignored { glance, .. } => Some((glance.account.as_deref()?, glance.region.as_deref()?)),
            _ => self.about().map(|about| (about.repository.account.as_str(), about.repository.region.as_str())),
        }
    }
}

impl UnreadableEvent {
    /// What a person can do about it.
    pub fn way_out(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "Give one event as JSON, as AWS sent it.",
            Self::NotAnEvent { .. } => {
                "Give one event as EventBridge delivers it, one CloudFormation request or `check`, or a queue's batch (`Records`) of them."
            }
            Self::BadMember { .. } => "Nothing is concluded from such an event; the samples in `events/` show what AWS sends.",
        }
    }
}

/// Reads an event from its text.
pub fn read_slice(text: &[u8]) -> Result<Event, UnreadableEvent> {
    read(&json(text)?)
}

/// Reads the body of a queue's message: an event, or Lambda's record of a deployment that it has given up. That record holds
/// the whole request, so it comes over a queue of its own, and nothing else reads it.
pub fn read_body(text: &[u8]) -> Result<Event, UnreadableEvent> {
    let body = json(text)?;
    let Some(payload) = body.get("requestPayload").filter(|_| body.get("requestContext").is_some()) else { return read(&body) };
    match read(payload)? {
        Event::DeploymentRequested(request) => {
            let why = body.pointer("/responsePayload/errorMessage").and_then(Value::as_str);
            let condition = body.pointer("/requestContext/condition").and_then(Value::as_str);
            let why = why.or(condition).unwrap_or("the function on-deploy failed").to_owned();
            Ok(Event::DeploymentGivenUp { request, why })
        }
        _ => Err(no_event(&body)),
    }
}

/// Reads an event.
pub fn read(event: &Value) -> Result<Event, UnreadableEvent> {
    let Some(members) = event.as_object() else { return Err(no_event(event)) };
    let has = |member: &str| members.get(member).is_some_and(|value| !value.is_null());
    if has("detail-type") {
        read_envelope(members)
    } else if has("RequestType") {
        Request::read(members).map(|request| Event::DeploymentRequested(Box::new(request)))
    } else if has("check") {
        Check::read(members).map(Event::CheckRequested)
    } else if has("v") && has("kind") {
        Ours::read(members).map(Event::Ours)
    } else {
        Err(no_event(event))
    }
}

pub(crate) fn json(text: &[u8]) -> Result<Value, UnreadableEvent> {
    if text.trim_ascii().is_empty() {
        return Err(UnreadableEvent::NotJson("it is empty".to_owned()));
    }
    serde_json::from_slice(text).map_err(|error| UnreadableEvent::NotJson(error.to_string()))
}

/// EventBridge's envelope, the same around every event.
struct Envelope<'a> {
    detail_type: &'a str,
    members: Members<'a>,
}

fn read_envelope(members: &Map<String, Value>) -> Result<Event, UnreadableEvent> {
    let Some(detail_type) = members.get("detail-type").and_then(Value::as_str) else { return Err(no_event(&Value::Object(members.clone()))) };
    let label = match members.get("id").and_then(Value::as_str) {
        Some(id) => format!("{} {}", shown(detail_type), shown(id)),
        None => shown(detail_type),
    };
    let envelope = Envelope { detail_type, members: Members::new(&label, members) };
    match envelope.members.text("source")? {
        "aws.ecr" => ecr::read(&envelope),
        "aws.inspector2" => inspector::read(&envelope),
        other => Ok(envelope.ignored(format!("an event of `{}`; only those of aws.ecr and aws.inspector2 tell of images", shown(other)))),
    }
}

impl<'a> Envelope<'a> {
    fn detail(&self) -> Result<Members<'a>, UnreadableEvent> {
        self.members.inner("detail")
    }

    /// What the event names as its resources: ARNs mostly, an instance's bare id for EC2.
    fn resources(&self) -> Vec<&'a str> {
        self.members.get("resources").and_then(Value::as_array).map(|all| all.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// A time that is missing or strange costs us only the order of events, so it never fails the event.
    fn time(&self) -> Option<Timestamp> {
        self.members.get("time")?.as_str()?.parse().ok()
    }

    fn about(&self, detail: &Members<'a>) -> Result<About, UnreadableEvent> {
        Ok(About { digest: detail.digest("image-digest")?, repository: self.repository(detail)?, tags: detail.tags()?, at: self.time() })
    }

    /// Inspector names a repository by its ARN, ECR by its bare name; then account and region are the envelope's.
    fn repository(&self, detail: &Members<'a>) -> Result<Repository, UnreadableEvent> {
        let name = detail.text("repository-name")?;
        if name.starts_with("arn:") {
            return arn::repository(name).ok_or_else(|| detail.bad("repository-name", format!("is `{}`, no ARN of an ECR repository", shown(name))));
        }
        let named = self.resources().into_iter().filter_map(arn::repository).find(|repository| repository.name == name);
        let part = |member: &'static str, from_arn: Option<&str>| match (self.members.text_if_any(member)?, from_arn) {
            (Some(text), _) => Ok(text.to_owned()),
            (None, Some(text)) => Ok(text.to_owned()),
            (None, None) => Err(self.members.bad(member, "is missing")),
        };
        let account = part("account", named.as_ref().map(|repository| repository.account.as_str()))?;
        let region = part("region", named.as_ref().map(|repository| repository.region.as_str()))?;
        let partition = named.map_or_else(|| arn::partition_of(&region).to_owned(), |repository| repository.partition);
        let repository = Repository { partition, region, account, name: name.to_owned() };
        // The way over the ARN refuses what would make it ambiguous.
        arn::repository(&repository.arn()).ok_or_else(|| {
            detail.bad("repository-name", format!("is `{}`: with account and region of the event it makes no ARN of an ECR repository", shown(name)))
        })
    }

    fn ignored(&self, why: impl Into<String>) -> Event {
        let text = |member: &str| self.members.get(member).and_then(Value::as_str).map(str::to_owned);
        let mut glance = Glance { account: text("account"), region: text("region"), ..Glance::default() };
        if let Ok(detail) = self.detail() {
            glance.digest = detail.digest("image-digest").ok();
            glance.tags = detail.tags().unwrap_or_default();
            glance.repository =
                detail.text("repository-name").ok().map(|name| arn::repository(name).map_or_else(|| name.to_owned(), |repository| repository.name));
        }
        Event::Ignored { why: why.into(), glance }
    }
}

/// Says what the input seems to be instead: the commonest mistakes are a neighbouring file of the same kind.
fn no_event(input: &Value) -> UnreadableEvent {
    let seems = match input {
        Value::Array(_) => "it is a list",
        Value::Object(members) => {
            let has = |member: &str| members.contains_key(member);
            if members.get("detail-type").or(members.get("source")).is_some_and(Value::is_array) {
                "it is an event pattern, the filter of a rule"
            } else if has("detail-type") {
                "its `detail-type` is no text"
            } else if has("detail") || has("DetailType") || has("detailType") {
                "its `detail-type` is missing"
            } else if has("Records") {
                "its `Records` are not a queue's"
            } else if has("Messages") {
                "it is an answer of `aws sqs receive-message`, whose messages each hold one event as `Body`"
            } else if members.get("Type").is_some_and(|kind| kind == "Notification") {
                "it is an SNS notification; our rules send to a queue directly, so no event comes in one"
            } else if has("requestPayload") {
                "it is Lambda's record of a failed call, whose `requestPayload` is the event"
            } else if has("Status") || has("PhysicalResourceId") {
                "it is an answer to CloudFormation, not a request"
            } else if has("imageScanFindings") || has("imageScanStatus") || has("findings") {
                "it is a scanner's answer, which `ecr-scan-verifier judge` reads"
            } else {
                ""
            }
        }
        _ => "it is no object",
    };
    UnreadableEvent::NotAnEvent { seems: seems.to_owned() }
}
