//! The protocols: pure machines that are told what was seen and say what to do next, one effect at a time.
//!
//! A machine has no clock, no network and no randomness. One driver loop carries its effects out in Lambda
//! (`handlers::drive`); whatever else wants to drive it (a test, the model checker) calls the very same `next`.
//!
//! - [`deploy`]: CloudFormation asks. Answered at once, or stored to wait.
//! - [`scan`]: there is news of an image. Remembered; then whoever waits for it is woken.
//! - [`outputs`]: a request has been answered, and wants something written.
//! - [`announce`], [`notice`]: somebody is told, of an image or of a decision.
//! - [`wake`]: one waiting request is looked at: its image has news, its timer rings, a newer request replaces it, or its time
//!   is up.
//!
//! *Who retries.* The SDK: throttles, 5xx and resets, a few times. The driver: what a role that is seconds old may not do yet.
//! The machine: a version conflict is a fact, it merges again with the row that it was handed, five times. The queue, or
//! Lambda: everything else. Nobody retries twice.
//!
//! *Time.* `now` is read once before each `next`. A lease compares the claimer's `now` with the stored one, so it is longer
//! than sending an answer can take, and clocks may differ by the rest.

pub mod announce;
pub mod deploy;
pub mod notice;
pub mod outputs;
pub mod remember;
pub mod scan;
pub mod wake;

use jiff::{SignedDuration, Timestamp};

use super::alert::{Announced, Live, NoticeKind};
use super::check::Checked;
use super::head::{Counted, Head};
use super::image::{ImageDigest, ImageRef, Repository};
use super::outputs::{Log, Message, Progress, Role, SbomTo, Told};
use super::plan::Started;
use super::request::{Answer, Data, Forward, Glass, Record, Request, Rows, Stage, Stored, Waiting};
use super::response_url::ResponseUrl;
use super::scan::{Answer as ScanAnswer, Facts, FactsHash, ScanSource};
use super::signature::asked::Asked;
use super::signature::verdict::Verdict;

/// How long the claimer may take to send the answer before somebody else sends it: the PUT takes 20 s at most, and clocks
/// differ by some.
pub const LEASE: SignedDuration = SignedDuration::from_secs(60);

/// An effect. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Do {
    /// Resolve a tag, or look what a digest is. With `expected`, ECR checks that the tag names it.
    ResolveImage {
        repository: Repository,
        image: ImageRef,
        expected: Option<ImageDigest>,
    },
    /// Whether the stack that asks is rolling back.
    ReadStack(String),
    /// Consistently, all of one repository.
    ReadHeads {
        repository: Repository,
        digests: Vec<ImageDigest>,
    },
    ReadFacts {
        repository: Repository,
        digest: ImageDigest,
        facts: FactsHash,
    },
    /// Which scanner is in charge, asked afresh.
    ReadRegistry,
    /// Whether anybody scans the images of this repository without being asked.
    ReadFrequency {
        repository: Repository,
    },
    /// Ask the scanner's API.
    Look {
        repository: Repository,
        digest: ImageDigest,
        depth: Depth,
        pushed_at: Option<Timestamp>,
        /// Where an earlier reading ran out of time, to go on from there.
        from: Option<PageToken>,
        /// Whether to ask Inspector as well how likely the findings are exploited.
        epss: bool,
    },
    /// Who of those that are asked for has signed this digest.
    Verify {
        repository: Repository,
        digest: ImageDigest,
        signers: Box<Asked>,
    },
    /// Where this image is deployed.
    ReadDeployed {
        repository: Repository,
        digest: ImageDigest,
    },
    /// What this resource has admitted so far.
    ReadRows {
        stack_key: String,
    },
    /// The data last answered for these properties.
    ReadData {
        stack_key: String,
        properties_hash: String,
    },
    /// Immutable, under their hash, for the head of that version: always before the head that refers to them.
    PutFacts {
        repository: Repository,
        digest: ImageDigest,
        facts: Facts,
        for_version: u64,
    },
    /// Let facts go that no head refers to since `since_version`.
    ExpireFacts {
        repository: Repository,
        digest: ImageDigest,
        facts: FactsHash,
        since_version: u64,
    },
    /// Compare and set; `expect` 0 means that there is no row yet.
    WriteHead {
        expect: u64,
        head: Box<Head>,
    },
    /// The request as it is stored, consistently.
    ReadRequest(String),
    /// The open requests that wait for news of this image.
    ReadWaiting {
        repository: Repository,
        digest: ImageDigest,
    },
    /// The open requests of one resource.
    ReadOpen {
        stack_key: String,
    },
    /// Whether somebody has broken the glass for this image in this stack.
    ReadGlass {
        stack_id: String,
        repository: Repository,
        digest: ImageDigest,
    },
    /// The last request that moved a resource forward.
    ReadForward {
        stack_key: String,
    },
    /// One conditional transaction: the request with its finished answer, and the deployments.
    Record {
        request: Box<Request>,
        url: ResponseUrl,
        due: Timestamp,
        record: Box<Record>,
    },
    /// One conditional transaction: the request as open, and the pointers by which news find it.
    Register {
        request: Box<Request>,
        url: ResponseUrl,
        due: Timestamp,
        images: Counted,
        since: Timestamp,
        /// What its outputs are made of, where it waits for nothing but these.
        told: Option<Box<Told>>,
    },
    /// The same for a request that is registered.
    Tell {
        request_id: String,
        told: Box<Told>,
    },
    /// The same as `Record`, for a request that is stored and open.
    Claim {
        request: Box<Request>,
        record: Box<Record>,
    },
    /// The claimer has let its lease end: from now on it is ours to send.
    TakeLease {
        request_id: String,
        until: Timestamp,
    },
    /// Send the answer to CloudFormation.
    Put {
        url: ResponseUrl,
        answer: Answer,
    },
    /// The answer has arrived: forget where it had to go, and who waited for it.
    MarkAnswered {
        request_id: String,
    },
    /// After a Delete: nothing of this resource is deployed any more, and no older request can change that.
    CloseDeployments {
        stack_key: String,
        asked_at: Timestamp,
    },
    /// A message to ourselves: read this image again after a while.
    LookAgain {
        repository: Repository,
        digest: ImageDigest,
        n: u32,
        after: SignedDuration,
        /// Who waits for it, if somebody does.
        request_id: Option<String>,
    },
    /// A message to ourselves: go on reading from here.
    ReadOn {
        repository: Repository,
        digest: ImageDigest,
        from: PageToken,
    },
    /// A message to ourselves: look after this request then.
    SendTimer {
        request_id: String,
        n: u32,
        after: SignedDuration,
    },
    /// Timer `to` is under way instead of the one before it.
    AdvanceTimer {
        request_id: String,
        to: u32,
    },
    /// Ask for a basic scan.
    StartScan {
        repository: Repository,
        digest: ImageDigest,
    },
    /// A message to ourselves: write what this request wants written.
    SendOutputs {
        request_id: String,
        after: SignedDuration,
    },
    /// Whoever has it writes the outputs; two would send the message twice.
    TakeOutputs {
        request_id: String,
        until: Timestamp,
    },
    WriteLogs {
        role: Role,
        logs: Vec<Log>,
    },
    /// Have Inspector write the SBOM of exactly this image.
    StartExport {
        role: Role,
        image_arn: String,
        sbom: SbomTo,
        prefix: String,
    },
    ReadExport {
        role: Role,
        report_id: String,
    },
    /// Put the one file under `from` where it is to stay.
    PlaceExport {
        role: Role,
        from: (String, String),
        to: (String, String),
    },
    Publish {
        role: Role,
        topic_arn: String,
        message: Message,
    },
    /// Write what is known of one image's findings where it is found by their ids; `None`: it has none any more.
    Index {
        repository: Repository,
        digest: ImageDigest,
        /// The head's, where there are no findings to know it by.
        version: u64,
        facts: Option<Facts>,
    },
    /// What an audience was told of an image.
    ReadAnnounced {
        repository: Repository,
        digest: ImageDigest,
        audience: String,
    },
    /// Compare and set; `expect` 0 means that there is no record yet.
    WriteAnnounced {
        repository: Repository,
        digest: ImageDigest,
        audience: String,
        expect: u64,
        announced: Box<Announced>,
    },
    /// A message to ourselves: see after a while whether somebody has to be told of this image.
    AnnounceAgain {
        repository: Repository,
        digest: ImageDigest,
        after: SignedDuration,
    },
    /// To the pipeline's own topic.
    PublishOwn {
        kind: NoticeKind,
        message: Message,
    },
    /// To the event bus.
    PutEvent {
        message: Message,
    },
    /// A message to ourselves: tell of what was decided about this request.
    SendNotice {
        request_id: String,
    },
    /// Whoever has it tells of it; two would tell twice.
    TakeNotice {
        request_id: String,
        until: Timestamp,
    },
    /// Nobody was told, and who had taken it upon himself until then does not try again.
    LetNoticeGo {
        request_id: String,
        until: Timestamp,
    },
    /// Somebody was told: forget what of.
    NoteNotice {
        request_id: String,
    },
    /// How far the outputs are. `settled`: as far as they get, so the decision's own record says so too. `ends`: whoever had
    /// them lets go of them.
    NoteOutputs {
        request: Box<Request>,
        decided_at: Timestamp,
        progress: Progress,
        settled: bool,
        ends: bool,
    },
    Finish(Outcome),
}

/// How far an export of Inspector's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExportState {
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// The scanner's name for the next page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageToken(pub String);

/// How much of a scanner's answer to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depth {
    /// One page, and nothing else: a look that costs a deployment one call.
    FirstPage,
    /// All pages and, where ECR's answer leaves it open, Inspector's coverage.
    Whole,
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Saw {
    Start,
    Image(Resolved),
    /// Whether the stack is rolling back.
    Stack {
        rolling_back: bool,
    },
    /// In the order of the question; `None` where there is no row.
    Heads(Vec<Option<Head>>),
    Facts(Option<Facts>),
    Registry(ScanSource),
    Frequency {
        on_demand_only: bool,
    },
    Answer(ScanAnswer),
    /// `None`: there is no such image.
    Signed(Option<Verdict>),
    /// The time is up and there are more pages; what was read is kept.
    MoreToRead(PageToken),
    Deployed(Vec<Live>),
    Announced(Box<Announced>),
    Rows(Rows),
    Data(Option<Data>),
    Request(Option<Box<Stored>>),
    Waiting(Vec<Waiting>),
    Forward(Option<Forward>),
    Glass(Option<Glass>),
    Started(Started),
    /// The report that Inspector writes.
    Export(String),
    ExportIs(ExportState),
    /// Inspector calls an export done, and there is no file.
    NoFile,
    Done,
    /// Somebody else has written the row, which is now this.
    Conflict(Option<Box<Head>>),
    /// The request is stored already, and this far.
    AlreadyStored(Stage),
    /// A newer request of the same resource has been decided: this one changes nothing any more.
    Superseded,
    /// Another request of the resource was let through since its rows were read.
    RowsChanged,
    /// The glass that was to let it through has been used, or its time is up.
    NoGlass,
    /// Somebody else was first.
    Lost,
    /// The effect could not be carried out.
    Failed(Why),
}

/// What a reference turned out to name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resolved {
    Image(ImageDigest),
    /// The counted images of an index, attestations left out.
    Index(ImageDigest, Vec<super::head::Child>),
    /// What it is, and what it refers to.
    NotAnImage(ImageDigest, String, Option<ImageDigest>),
    NotFound,
    /// The tag names another digest than the one expected.
    OtherDigest,
    /// It is there, and nobody can use it; why, in a sentence's second half. Asking again changes nothing.
    Unusable(String),
}

/// Why something could not be done, in words for the log, and whether trying again may help.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Why {
    pub text: String,
    pub denied: bool,
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// One word for the log and the metrics, and what it is about.
    Done(String),
    /// Nobody has asked for a deployment, only whether one would pass; nothing was recorded.
    Checked(Box<Checked>),
    /// Nothing was decided; whoever delivered this has to deliver it again.
    Redeliver(Why),
}

impl Why {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), denied: false }
    }
}

pub trait Protocol {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do;
}
