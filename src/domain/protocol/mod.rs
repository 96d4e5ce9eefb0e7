//! The protocols: pure machines that are told what was seen and say what to do next, one effect at a time.
//!
//! A machine has no clock, no network and no randomness. One driver loop carries its effects out in Lambda
//! (`handlers::drive`); whatever else wants to drive it (a test, a model checker) calls the very same `next`.
//!
//! *Who retries.* The SDK: throttles, 5xx and resets, a few times. The machine: a version conflict is a fact, it merges again
//! with the row that it was handed, five times. The queue, or Lambda: everything else. Nobody retries twice.

pub mod deploy;
pub mod remember;
pub mod scan;

use jiff::{SignedDuration, Timestamp};

use super::head::Head;
use super::image::{ImageDigest, ImageRef, Repository};
use super::policy::Policy;
use super::request::{Answer, Data, Record, Rows};
use super::scan::{Answer as ScanAnswer, Facts, FactsHash, ScanSource};

/// An effect. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Ask the scanner's API.
    Look {
        repository: Repository,
        digest: ImageDigest,
        depth: Depth,
        pushed_at: Option<Timestamp>,
    },
    /// The policies of the deployments that live on this image.
    ReadPolicies {
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
    /// One conditional transaction: the request with its finished answer, and the deployments.
    Record(Box<Record>),
    /// Send the answer to CloudFormation.
    Put(Answer),
    /// The answer has arrived: forget where it had to go.
    MarkAnswered,
    /// After a Delete: nothing of this resource is deployed any more.
    CloseDeployments {
        stack_key: String,
    },
    /// A message to ourselves: read this image again after a while.
    LookAgain {
        repository: Repository,
        digest: ImageDigest,
        n: u32,
        after: SignedDuration,
    },
    Finish(Outcome),
}

/// How much of a scanner's answer to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// One page, and nothing else: a look that costs a deployment one call.
    FirstPage,
    /// All pages and, where ECR's answer leaves it open, Inspector's coverage.
    Whole,
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    Answer(ScanAnswer),
    Policies(Vec<Policy>),
    Rows(Rows),
    Data(Option<Data>),
    Done,
    /// Somebody else has written the row, which is now this.
    Conflict(Option<Box<Head>>),
    /// The request was recorded before, by an earlier delivery.
    AlreadyRecorded {
        answer: Answer,
        answered: bool,
    },
    /// The effect could not be carried out.
    Failed(Why),
}

/// What a reference turned out to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    Image(ImageDigest),
    /// The counted images of an index, attestations left out.
    Index(ImageDigest, Vec<super::head::Child>),
    NotAnImage(ImageDigest, String),
    NotFound,
    /// The tag names another digest than the one expected.
    OtherDigest,
}

/// Why something could not be done, in words for the log, and whether trying again may help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub text: String,
    pub denied: bool,
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One word for the log and the metrics, and what it is about.
    Done(String),
    /// Nothing was decided; whoever delivered this has to deliver it again.
    Redeliver(Why),
}

pub trait Protocol {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do;
}
