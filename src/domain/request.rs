//! A deployment that asks: what CloudFormation sent, unpacked, and the answer that it will get.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::head::{Child, Counted};
use super::history::stack_name;
use super::image::{ImageDigest, ImageRef, Repository, sha256_hex};
use super::notice::Decided;
use super::outputs::{Outputs, Progress, Scanned, Told};
use super::policy::Policy;
use super::response_url::ResponseUrl;
use super::signature::asked::{Asked, OnUnsigned};
use super::signature::standing::{Refusal, Signed};

/// CloudFormation accepts no more bytes than this for a whole answer.
pub const ANSWER_BYTES: usize = 4096;
/// CloudFormation takes no longer id.
const PHYSICAL_ID_BYTES: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RequestKind {
    Create,
    Update,
    Delete,
}

/// One request of CloudFormation. Its ResponseURL is not here: a bearer secret travels no further than it must.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    pub kind: RequestKind,
    pub request_id: String,
    pub stack_id: String,
    pub logical_id: String,
    /// From the request for Update and Delete, else from its properties or its place; see [`physical_id`].
    pub physical_id: String,
    /// Under which the `Data` last answered are kept: SHA-256 of the properties, without what CloudFormation adds.
    pub properties_hash: String,
    /// The same of the properties before an Update.
    pub old_properties_hash: Option<String>,
    /// When CloudFormation asked: by it a request of the same resource is older or newer than another.
    pub asked_at: Timestamp,
    /// What the gate was asked, or the sentence with which it has to be refused.
    pub gate: Result<Gate, String>,
    /// Repository and image as the properties name them, readable or not: what a rollback's answer can say without AWS.
    pub named: Named,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Named {
    pub repository: String,
    pub image: String,
}

impl Request {
    /// The key under which the deployments of this resource are kept.
    pub fn stack_key(&self) -> String {
        format!("{}#{}", self.stack_id, self.logical_id)
    }

    /// The stack's name, for people.
    pub fn stack_name(&self) -> &str {
        stack_name(&self.stack_id)
    }
}

/// The id of the resource: the construct's address, or, for a resource written by hand without one, a hash of its place. It
/// never holds the digest: a new id would make every update a replacement.
pub fn physical_id(addr: Option<&str>, stack_id: &str, logical_id: &str) -> String {
    match addr {
        // In the answer, where a control character takes six bytes.
        Some(addr) if !addr.is_empty() && encoded_len(addr) <= PHYSICAL_ID_BYTES => addr.to_owned(),
        _ => format!("ecr-scan-verifier-{}", &sha256_hex(format!("{stack_id}#{logical_id}").as_bytes())[..32]),
    }
}

/// What a gate is asked: which image, judged how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gate {
    pub repository: Repository,
    pub image: ImageRef,
    /// The digest known when the template was made; the tag must still name it.
    pub expected: Option<ImageDigest>,
    pub scan: AskedScan,
    pub policy: Policy,
    /// Who has to have signed it.
    #[serde(default)]
    pub signatures: Option<Asked>,
    /// Which images of an index count; empty: all of them.
    pub platforms: Vec<String>,
    /// How old a scan may be, in seconds.
    pub max_scan_age_s: Option<u32>,
    pub on_unscanned: OnUnscanned,
    pub on_block: OnBlock,
    pub suppress_on_rollback: bool,
    pub polling_timeout_s: u32,
    /// What is to be written once the request is answered.
    #[serde(default)]
    pub outputs: Option<Outputs>,
}

impl Gate {
    /// How old a scan may be. Where this gate starts scans itself it is a day, unless it says otherwise: the original construct
    /// scanned at each deployment, and ECR scans an image once a day.
    pub fn max_scan_age(&self) -> Option<SignedDuration> {
        let usual = (self.scan == AskedScan::Basic { start_scan: true }).then_some(24 * 3600);
        self.max_scan_age_s.or(usual).map(|seconds| SignedDuration::from_secs(i64::from(seconds)))
    }

    /// Whether an image that is not signed as asked is let through as far as that goes. One that could not be checked never is.
    pub fn forgives(&self, refusal: &Refusal) -> bool {
        refusal.is_forgivable && self.signatures.as_ref().is_some_and(|asked| asked.on_unsigned == OnUnsigned::Warn)
    }

    /// Whether an image of an index counts.
    pub fn counts(&self, image: &Child) -> bool {
        // A platform that is asked for without its variant means all of them.
        let is_of = |wanted: &String| image.platform == *wanted || image.platform.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('/'));
        self.platforms.is_empty() || self.platforms.iter().any(is_of)
    }

    /// The image as the original construct's messages name it, digests included: `repository:tag`.
    pub fn label(&self) -> String {
        format!("{}:{}", self.repository.name, self.image)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AskedScan {
    Basic {
        start_scan: bool,
    },
    Enhanced,
    /// No scan counts: what is asked is who has signed it.
    SignatureOnly,
}

/// What becomes of an image that no scanner can scan (distroless, scratch). It never speaks of one that nobody could look at,
/// whose scan failed, or that is still to be scanned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnUnscanned {
    #[default]
    Block,
    /// Let through, and told to whoever hears alerts.
    Warn,
    Allow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnBlock {
    Fail,
    /// `failOnVulnerability: false`: a Block is reported and let through. Nothing else is.
    Warn,
}

/// What a template can read from the gate, with `Fn::GetAtt`. Always all five: a template that reads a missing one fails, and
/// in a rollback that would leave the stack stuck.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Data {
    pub image_digest: String,
    pub image_uri: String,
    pub verdict: String,
    /// RFC 3339, or empty.
    pub scanned_at: String,
    pub policy_hash: String,
}

impl Data {
    pub fn admitted(gate: &Gate, digest: &ImageDigest, verdict: &str, scanned_at: Option<Timestamp>) -> Self {
        Self {
            image_digest: digest.to_string(),
            image_uri: format!("{}@{digest}", gate.repository.uri()),
            verdict: verdict.to_owned(),
            scanned_at: scanned_at.map(|at| at.to_string()).unwrap_or_default(),
            policy_hash: gate.policy.hash().to_string(),
        }
    }

    /// A rollback's answer where nothing was recorded and the image could not be resolved.
    pub fn unknown_image(named: &Named, gate: Option<&Gate>) -> Self {
        let policy = gate.map(|gate| gate.policy.hash());
        // A name without its registry is somebody else's image: Docker takes it for one of its own hub.
        let repository = gate.map_or_else(|| named.repository.clone(), |gate| gate.repository.uri());
        Self {
            image_digest: String::new(),
            // Neither can be longer in ECR; what a template says can, and the answer would not be taken.
            image_uri: format!("{repository:.320}:{:.128}", named.image),
            verdict: "ROLLBACK".to_owned(),
            scanned_at: String::new(),
            policy_hash: policy.map(|hash| hash.to_string()).unwrap_or_default(),
        }
    }
}

/// What happens to the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// Let through; Delete has no data.
    Success(Option<Data>),
    Failed(Reason),
}

/// Why a deployment was refused. The opening and the closing lines stay whole; of the list in between, as much as fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reason {
    pub opening: String,
    /// One finding a line, worst first.
    pub list: Vec<String>,
    /// How many there are, the listed ones included.
    pub of: u64,
    pub closing: String,
}

impl Reason {
    pub fn new(text: impl Into<String>) -> Self {
        Self { opening: text.into(), ..Self::default() }
    }

    /// The whole text, with at most `list` lines of the list.
    fn with(&self, list: usize) -> String {
        let shown = &self.list[..list.min(self.list.len())];
        let more = self.of.saturating_sub(shown.len() as u64);
        let more = match (more, shown.is_empty()) {
            (0, _) => None,
            (_, true) if self.list.is_empty() => None,
            (more, _) => Some(format!("  and {more} more")),
        };
        let closing = (!self.closing.is_empty()).then_some(self.closing.as_str());
        let lines = std::iter::once(self.opening.as_str()).chain(shown.iter().map(String::as_str)).chain(more.as_deref()).chain(closing);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The whole text, as far as an answer to CloudFormation takes it.
    pub fn text(&self) -> String {
        self.fit(ANSWER_BYTES)
    }

    /// As many lines of the list as fit into `bytes` of JSON text, at most 20; cut on a character if not even the rest fits.
    fn fit(&self, bytes: usize) -> String {
        let fits = |text: &str| encoded_len(text) <= bytes;
        let longest = (0..=self.list.len().min(20)).rev().map(|list| self.with(list)).find(|text| fits(text));
        longest.unwrap_or_else(|| cut(&self.with(0), bytes))
    }
}

/// The bytes that JSON needs for a text, without the quotes.
fn encoded_len(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |json| json.len() - 2)
}

/// The longest beginning that fits with an ellipsis behind it.
fn cut(text: &str, bytes: usize) -> String {
    let mut left = bytes.saturating_sub('…'.len_utf8());
    let mut end = 0;
    for (at, char) in text.char_indices() {
        let needs = encoded_len(char.encode_utf8(&mut [0; 4]));
        if needs > left {
            break;
        }
        left -= needs;
        end = at + char.len_utf8();
    }
    format!("{}…", &text[..end])
}

/// The answer to CloudFormation, whole: these very bytes are stored, and sent each time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer(String);

impl Answer {
    pub fn new(request: &Request, ruling: &Ruling) -> Self {
        let write = |reason: Option<&str>| {
            let data = match ruling {
                Ruling::Success(data) => data.as_ref(),
                Ruling::Failed(_) => None,
            };
            let body = Body {
                status: if matches!(ruling, Ruling::Success(_)) { "SUCCESS" } else { "FAILED" },
                reason,
                physical_resource_id: &request.physical_id,
                stack_id: &request.stack_id,
                request_id: &request.request_id,
                logical_resource_id: &request.logical_id,
                data,
            };
            serde_json::to_string(&body).expect("texts are JSON")
        };
        Self(match ruling {
            Ruling::Success(_) => write(None),
            Ruling::Failed(reason) => {
                let room = ANSWER_BYTES.saturating_sub(write(Some("")).len());
                write(Some(&reason.fit(room)))
            }
        })
    }

    /// The answer to a request that asks for no image.
    pub fn success(physical_id: &str, stack_id: &str, request_id: &str, logical_id: &str) -> Self {
        let body =
            Body { status: "SUCCESS", reason: None, physical_resource_id: physical_id, stack_id, request_id, logical_resource_id: logical_id, data: None };
        Self(serde_json::to_string(&body).expect("texts are JSON"))
    }

    /// An answer that was stored before.
    pub fn stored(bytes: String) -> Self {
        Self(bytes)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a refusal says.
    pub fn reason(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.0).ok()?;
        body["Reason"].as_str().map(str::to_owned)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    physical_resource_id: &'a str,
    stack_id: &'a str,
    request_id: &'a str,
    logical_resource_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Data>,
}

/// What one decision leaves behind, in one transaction: the request with its answer, and what the stack deploys from now on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub answer: Answer,
    pub decided_at: Timestamp,
    pub admitted: Option<Admission>,
    /// Rows of this resource that are not true any more.
    pub replaced: Vec<String>,
    /// Where the rows were read: the request that was the last to be let through then. Has there been another one since, there
    /// are other rows too.
    pub after: Option<Option<String>>,
    /// The decision in one word and, when refused, the reason's first line.
    pub verdict: String,
    pub why: String,
    /// What lets an image through that would be refused; used up by this.
    pub glass: Option<Glass>,
    /// For whoever writes the outputs, where there are any.
    pub told: Option<Told>,
    /// They were written before it, of what was known then; else they are written anew, of `told`.
    pub outputs_are_written: bool,
    /// What the pipeline's topic hears of it.
    pub notice: Option<Decided>,
    /// For the history: the digest that was asked for, where it was known, and what was known of each image that was judged.
    pub digest: Option<ImageDigest>,
    pub known: Vec<Scanned>,
    /// Who has signed it, where that was asked.
    pub signed: Option<Signed>,
}

impl Record {
    /// What is kept with the request for whoever writes its outputs, where there are any that are still to be written.
    pub fn for_outputs(&self, request: &Request) -> Option<&Told> {
        let has_outputs = request.gate.as_ref().is_ok_and(|gate| gate.outputs.is_some());
        self.told.as_ref().filter(|_| has_outputs && !self.outputs_are_written)
    }
}

/// Somebody has taken it upon themselves to let one image into one stack, once, whatever its scan says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glass {
    pub stack_id: String,
    pub repository: Repository,
    pub digest: ImageDigest,
    pub reason: String,
    pub until: Timestamp,
}

impl Glass {
    /// The key of its row: the stack, then the image.
    pub fn key(stack_id: &str, repository: &Repository, digest: &ImageDigest) -> (String, String) {
        (format!("break-glass#{stack_id}"), format!("{digest}#{}", repository.arn()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Admission {
    pub repository: Option<Repository>,
    /// The digest in the template, then, for an index, those of its counted images.
    pub digests: Vec<ImageDigest>,
    pub policy: Option<Policy>,
    pub data: Data,
}

/// A request as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    pub request: Request,
    /// Gone as soon as the answer has arrived.
    pub url: Option<ResponseUrl>,
    pub due: Timestamp,
    pub stage: Stage,
    /// The images that its verdict hangs on, where the request has waited.
    pub images: Option<Counted>,
    /// The number of the timer that is under way.
    pub timer: u32,
    /// What its outputs are made of, and how far they are.
    pub told: Option<Told>,
    pub progress: Progress,
    /// What the pipeline's topic is still to hear of its decision.
    pub notice: Option<Decided>,
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It waits.
    Open,
    /// Decided; somebody is sending the answer, and until then nobody else has to.
    Claimed {
        answer: Answer,
        lease_until: Timestamp,
    },
    Answered,
}

/// A request that waits, as the pointers to it say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiting {
    pub request_id: String,
    pub asked_at: Timestamp,
}

/// The last request that moved a resource forward, by which a rollback can be known where nobody can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Forward {
    pub properties_hash: String,
    pub old_properties_hash: Option<String>,
    pub at: Timestamp,
}

/// The deployments of one resource, as they are recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rows {
    /// By their keys.
    pub images: BTreeMap<String, Row>,
    /// The request that was let through last; none once the resource is gone.
    pub newest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub digest: ImageDigest,
    /// The digest in the template: itself, or the index that this is an image of.
    pub of: ImageDigest,
    pub is_admitted: bool,
}

/// The key of a row that says: this image is deployed here.
pub fn image_row(digest: &ImageDigest, repository: &Repository) -> String {
    format!("image#{digest}#{}", repository.arn())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            kind: RequestKind::Create,
            request_id: "3a1f8a10-0000-4000-8000-000000000000".into(),
            stack_id: "arn:aws:cloudformation:eu-west-1:123456789012:stack/payments/8f9a1c20".into(),
            logical_id: "Gate".into(),
            physical_id: "c8".into(),
            properties_hash: "00".into(),
            old_properties_hash: None,
            asked_at: Timestamp::UNIX_EPOCH,
            gate: Err("unused".into()),
            named: Named::default(),
        }
    }

    fn reason_of(answer: &Answer) -> String {
        let body: serde_json::Value = serde_json::from_str(answer.as_str()).unwrap();
        body["Reason"].as_str().unwrap().to_owned()
    }

    #[test]
    fn an_answer_is_never_longer_than_cloudformation_takes() {
        for line in ["CVE-2024-3094", "\"quoted\" \\ and\ttabbed", "üñïçødé ☃ 🦀"] {
            for repeated in [1, 40, 400] {
                let reason = Reason { opening: "refused".into(), list: vec![line.repeat(repeated); 500], of: 900, closing: "next".into() };
                let answer = Answer::new(&request(), &Ruling::Failed(reason));
                assert!(answer.as_str().len() <= ANSWER_BYTES, "{} bytes", answer.as_str().len());
                let text = reason_of(&answer);
                assert!(text.starts_with("refused\n") && text.ends_with("\nnext"), "{text}");
            }
            let endless = Answer::new(&request(), &Ruling::Failed(Reason::new(line.repeat(3000))));
            assert!(endless.as_str().len() <= ANSWER_BYTES);
            assert!(reason_of(&endless).ends_with('…'));
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let reason = Reason { opening: "refused".into(), list: (0..30).map(|n| format!("  CVE-{n}")).collect(), of: 57, closing: "next".into() };
        let text = reason_of(&Answer::new(&request(), &Ruling::Failed(reason)));
        assert!(text.contains("  CVE-19\n  and 37 more\nnext"), "{text}");
    }

    #[test]
    fn the_physical_id_does_not_change_with_the_image() {
        assert_eq!(physical_id(Some("c8f1"), "stack", "Gate"), "c8f1");
        for none in [Some(""), Some("x".repeat(1025).as_str()), Some("\u{1}".repeat(1024).as_str())] {
            assert_eq!(physical_id(none, "stack", "Gate"), physical_id(None, "stack", "Gate"), "no answer has room for it");
        }
        assert_ne!(physical_id(None, "stack", "Gate"), physical_id(None, "stack", "Gate2"));
    }
}
