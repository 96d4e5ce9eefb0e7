//! What a world starts with: who asks for what and when, what the scanner says one word after the other, and how much may go
//! wrong.

use ecr_scan_verifier::domain::alert::{self, Alerting, Audience, Live};
use ecr_scan_verifier::domain::finding::{Counts, Finding};
use ecr_scan_verifier::domain::head::{Child, Counted, EventCounts};
use ecr_scan_verifier::domain::image::{ImageDigest, ImageRef, Repository};
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::Resolved;
use ecr_scan_verifier::domain::protocol::deploy::Home;
use ecr_scan_verifier::domain::request::{AskedScan, Gate, Named, OnBlock, OnUnscanned, Request, RequestKind};
use ecr_scan_verifier::domain::response_url::ResponseUrl;
use ecr_scan_verifier::domain::scan::{Answered, Facts, FactsHash, Report, ScanSource};
use ecr_scan_verifier::domain::signature::asked::{Asked as SignersAsked, AskedSigner, OnUnsigned};
use ecr_scan_verifier::domain::signature::trust::Rule;
use jiff::Timestamp;
use serde_json::json;

use crate::seeds::Seed;
use crate::world::What;

/// Worlds are small: no setting has more of either.
pub const IMAGES: usize = 3;
pub const REQUESTS: usize = 3;
pub const RESOURCES: usize = 2;

/// Seconds since everything began.
pub type Second = i32;

pub fn at(second: Second) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::from(second)).expect("not so long")
}

pub fn second(at: Timestamp) -> Second {
    // A lease that never ends, ends with the last number.
    Second::try_from(at.as_second() - 1_800_000_000).unwrap_or(Second::MAX)
}

pub fn home() -> Home {
    Home { account: "123456789012".into(), region: "eu-west-1".into(), is_heard: false }
}

pub fn repository() -> Repository {
    "arn:aws:ecr:eu-west-1:123456789012:repository/app".parse().expect("an ARN")
}

/// A finding of each severity that a setting needs.
pub const LOW: (&str, &str) = ("CVE-1", "LOW");
pub const CRITICAL: (&str, &str) = ("CVE-2", "CRITICAL");
pub const CRITICAL_TOO: (&str, &str) = ("CVE-3", "CRITICAL");

pub type Listed = &'static [(&'static str, &'static str)];

/// What the scanner says of an image, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    NoScan,
    Running,
    /// Basic: it counts a finding that it does not list.
    Disagrees,
    /// Inspector: it calls the scan complete and has not listed everything yet. It does within [`FILLS_WITHIN`].
    Filling(Listed),
    /// All there is.
    Lists(Listed),
}

/// So long Inspector may take to fill a list (what [`ecr_scan_verifier::domain::head::APART`] is meant to outlast).
pub const FILLS_WITHIN: Second = 19;

#[derive(Clone, Copy, Debug)]
pub struct Says {
    pub word: Word,
    /// Whether an event tells of it.
    pub tells: bool,
    /// Whether that event carries Inspector's counts.
    pub counts: bool,
}

pub struct Image {
    pub digest: ImageDigest,
    /// In this order; the last one for ever.
    pub script: Vec<Says>,
    pub children: Vec<usize>,
    /// Whether somebody signs it, at some moment.
    pub is_to_be_signed: bool,
}

pub struct Asked {
    pub request: Request,
    pub url: ResponseUrl,
    pub at: Second,
    pub due: Second,
    pub counted: Counted,
    /// The image in the template, and those that count for it.
    pub root: usize,
    pub images: Vec<usize>,
    pub resource: usize,
    /// Asked only when this one has its answer.
    pub after: Option<usize>,
    /// From this request on its stack is rolling back.
    pub rolls_back: bool,
}

/// How often the adversary may do what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    /// A process dies, or an effect fails, before or after it is carried out.
    pub faults: u8,
    pub lost: u8,
    pub doubled: u8,
    /// Time passes although somebody is at work, or a message waits.
    pub slow: u8,
}

pub struct Setting {
    pub registry: ScanSource,
    pub images: Vec<Image>,
    pub asked: Vec<Asked>,
    /// The second of the first sweep; another comes every minute.
    pub sweep: Option<Second>,
    /// Whether our own messages, timers and look-agains, are sent at all.
    pub own_messages: bool,
    pub at_once: usize,
    pub left: Left,
    /// Whose work may fail, and until when.
    pub fails: fn(&What) -> bool,
    pub fails_until: Second,
    /// Whether work that fails always dies: there are fewer worlds without the other ways.
    pub only_dies: bool,
    /// Which messages may be lost, and which doubled.
    pub loses: fn(&What) -> bool,
    pub doubles: fn(&What) -> bool,
    /// Whether CloudFormation asks although somebody is at work.
    pub overlaps: bool,
    /// Whom the pipeline tells; `None`: nobody.
    pub alerting: Option<Alerting>,
    /// Where the images live all along.
    pub lives: Vec<Live>,
    /// Whether a walk comes after what was lost, and has the image looked at.
    pub walks: bool,
    pub seed: Option<Seed>,
    /// What has to happen in some run, or the setting shows less than it means to.
    pub sometimes: Vec<&'static str>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            registry: ScanSource::Basic,
            images: Vec::new(),
            asked: Vec::new(),
            sweep: Some(SWEEP),
            own_messages: true,
            at_once: 2,
            left: Left::default(),
            fails: |_| true,
            fails_until: Second::MAX,
            only_dies: false,
            loses: |what| matches!(what, What::Event { .. }),
            doubles: |_| true,
            overlaps: true,
            alerting: None,
            lives: Vec::new(),
            walks: true,
            seed: None,
            sometimes: Vec::new(),
        }
    }
}

/// The most unlucky moment for a request that is due after [`PATIENCE`]: one second later, and this sweep would answer it.
pub const SWEEP: Second = PATIENCE + 29;
/// How long a request waits, where a setting does not say otherwise: two timers.
pub const PATIENCE: Second = 10;

/// Silent until the end is told.
pub fn says(word: Word) -> Says {
    Says { word, tells: matches!(word, Word::Lists(_)), counts: false }
}

impl Setting {
    pub fn image(mut self, name: &str, words: &[Word]) -> Self {
        let script = words.iter().copied().map(says).collect();
        self.images.push(Image { digest: ImageDigest::of(name.as_bytes()), script, children: Vec::new(), is_to_be_signed: false });
        self
    }

    /// An image that holds all the others so far.
    pub fn index(mut self) -> Self {
        let children = (0..self.images.len()).collect();
        self.images.push(Image { digest: ImageDigest::of(b"index"), script: vec![says(Word::NoScan)], children, is_to_be_signed: false });
        self
    }

    pub fn asks(self, kind: RequestKind, image: usize, at: Second) -> Self {
        self.asks_for(kind, image, at, PATIENCE, strict(), 0)
    }

    pub fn asks_for(mut self, kind: RequestKind, image: usize, asked: Second, patience: Second, policy: Policy, resource: usize) -> Self {
        let n = self.asked.len();
        let root = &self.images[image];
        let is_index = !root.children.is_empty();
        let reference = if is_index { ImageRef::Tag("1".into()) } else { ImageRef::Digest(root.digest.clone()) };
        let images = if is_index { root.children.clone() } else { vec![image] };
        let platform = |n: usize| if is_index { format!("linux/{n}") } else { String::new() };
        let child = |n: &usize| Child { digest: self.images[*n].digest.clone(), platform: platform(*n) };
        let counted = Counted { digest: root.digest.clone(), images: images.iter().map(child).collect() };
        let request = Request {
            kind,
            request_id: format!("request-{n}"),
            stack_id: format!("arn:aws:cloudformation:eu-west-1:123456789012:stack/stack-{resource}/1"),
            logical_id: "Gate".into(),
            physical_id: "gate".into(),
            properties_hash: format!("properties of {image}"),
            old_properties_hash: None,
            asked_at: at(asked),
            gate: Ok(Gate {
                signatures: None,
                repository: repository(),
                image: reference.clone(),
                expected: None,
                scan: match self.registry {
                    ScanSource::Basic => AskedScan::Basic { start_scan: false },
                    ScanSource::Enhanced => AskedScan::Enhanced,
                },
                policy,
                platforms: vec![],
                max_scan_age_s: None,
                on_unscanned: OnUnscanned::Block,
                on_block: OnBlock::Fail,
                suppress_on_rollback: true,
                polling_timeout_s: patience.unsigned_abs(),
                outputs: None,
            }),
            named: Named { repository: "app".into(), image: reference.to_string() },
        };
        self.asked.push(Asked {
            request,
            url: ResponseUrl::from(format!("https://answers.example/{n}")),
            at: asked,
            due: asked + patience,
            counted,
            root: image,
            images,
            resource,
            after: None,
            rolls_back: false,
        });
        self
    }

    /// Somebody signs this image, sooner or later or not at all.
    pub fn may_be_signed(mut self, image: usize) -> Self {
        self.images[image].is_to_be_signed = true;
        self
    }

    /// Every request wants a signature; and nothing else, if it goes `by_signature_alone`.
    pub fn wants_signatures(mut self, by_signature_alone: bool) -> Self {
        let key = "arn:aws:kms:eu-west-1:123456789012:key/1".parse().expect("a key");
        let asked = SignersAsked { rule: Rule::AllOf, signers: vec![AskedSigner::Kms(key)], on_unsigned: OnUnsigned::Fail };
        for gate in self.asked.iter_mut().filter_map(|asked| asked.request.gate.as_mut().ok()) {
            gate.signatures = Some(asked.clone());
            if by_signature_alone {
                gate.scan = AskedScan::SignatureOnly;
            }
        }
        self
    }

    pub fn wants_a_signature(&self, request: usize) -> bool {
        self.asked[request].request.gate.as_ref().is_ok_and(|gate| gate.signatures.is_some())
    }

    pub fn is_by_signature_alone(&self, request: usize) -> bool {
        self.asked[request].request.gate.as_ref().is_ok_and(|gate| gate.scan == AskedScan::SignatureOnly)
    }

    /// The last request is asked only when the one before it has its answer.
    pub fn in_turn(mut self) -> Self {
        let last = self.asked.len() - 1;
        self.asked[last].after = Some(last - 1);
        self
    }

    /// The last request is the rollback of its stack.
    pub fn rolls_back(mut self) -> Self {
        self.asked.last_mut().expect("somebody asks").rolls_back = true;
        self
    }

    /// Whether a verdict can hang on more than counts by severity.
    pub fn needs_findings(&self) -> bool {
        self.policies().any(|policy| !policy.is_by_severity_alone())
    }

    fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.asked.iter().filter_map(|asked| asked.request.gate.as_ref().ok()).map(|gate| &gate.policy)
    }

    fn policy(&self, request: usize) -> &Policy {
        &self.asked[request].request.gate.as_ref().expect("every request is well formed").policy
    }

    /// What lives by this request.
    pub fn live(&self, request: usize) -> Live {
        let Asked { request: Request { stack_id, logical_id, .. }, counted, .. } = &self.asked[request];
        Live {
            stack_id: stack_id.clone(),
            logical_id: logical_id.clone(),
            of: counted.digest.clone(),
            image: String::new(),
            since: String::new(),
            policy: Some(self.policy(request).clone()),
            topic: None,
            verdict: String::new(),
            judged: None,
        }
    }

    /// The image lives in a stack all along; with a topic of the gate's own, or without.
    pub fn lives(mut self, topic: Option<&str>) -> Self {
        let (stack_id, role) = ("arn:aws:cloudformation:eu-west-1:123456789012:stack/lives/1", "arn:aws:iam::123456789012:role/gate");
        self.lives.push(Live {
            stack_id: stack_id.into(),
            logical_id: "Gate".into(),
            of: self.images[0].digest.clone(),
            image: String::new(),
            since: String::new(),
            policy: Some(strict()),
            topic: topic.map(|arn| (arn.to_owned(), role.to_owned())),
            verdict: String::new(),
            judged: None,
        });
        self
    }

    pub fn facts(&self, listed: Listed) -> FactsHash {
        Facts::new(self.registry, findings(listed)).hash().clone()
    }

    /// Who can be told, in the order of [`crate::alerts::Telling`].
    pub fn audiences(&self) -> Vec<Audience> {
        let lives: Vec<Live> = if self.lives.is_empty() { (0..self.asked.len()).map(|request| self.live(request)).collect() } else { self.lives.clone() };
        self.alerting.as_ref().map_or_else(Vec::new, |alerting| alert::audiences(alerting, &Policy::default(), &lives))
    }

    pub fn audience_of(&self, id: &str) -> usize {
        self.audiences().iter().position(|audience| audience.id() == id).expect("nobody else is told")
    }

    pub fn image_of(&self, digest: &ImageDigest) -> usize {
        self.images.iter().position(|image| image.digest == *digest).expect("no other image is asked about")
    }

    pub fn request_of(&self, request_id: &str) -> usize {
        self.asked.iter().position(|asked| asked.request.request_id == request_id).expect("no other request is asked about")
    }

    pub fn resource_of(&self, stack_key: &str) -> usize {
        self.asked.iter().find(|asked| asked.request.stack_key() == stack_key).expect("no other resource is asked about").resource
    }

    pub fn resolve(&self, image: &ImageRef) -> Resolved {
        let image = match image {
            ImageRef::Digest(digest) => &self.images[self.image_of(digest)],
            ImageRef::Tag(_) => self.images.last().expect("the index"),
        };
        match image.children.as_slice() {
            [] => Resolved::Image(image.digest.clone()),
            _ => Resolved::Index(image.digest.clone(), self.asked[0].counted.images.clone()),
        }
    }

    /// What the scanner's API answers in this stage of an image's script.
    pub fn answer(&self, image: usize, stage: usize, completed: Second) -> Answered {
        let status = |word: &str| Report { status: Some(word.to_owned()), ..Report::default() };
        let finished = |listed: Listed| Report {
            completed_at: Some(at(completed)),
            findings: findings(listed),
            listed: true,
            has_enhanced_findings: self.registry == ScanSource::Enhanced && !listed.is_empty(),
            has_basic_findings: self.registry == ScanSource::Basic && !listed.is_empty(),
            ..status(if self.registry == ScanSource::Basic { "COMPLETE" } else { "ACTIVE" })
        };
        match self.images[image].script[stage].word {
            Word::NoScan => Answered::NoScan,
            Word::Running => Answered::Findings(status("IN_PROGRESS")),
            Word::Disagrees => Answered::Findings(Report { stated_counts: Some(Counts::of(&findings(&[CRITICAL]))), ..finished(&[]) }),
            Word::Filling(listed) | Word::Lists(listed) => Answered::Findings(finished(listed)),
        }
    }

    /// What an event of that stage counts.
    pub fn counts(&self, image: usize, stage: usize, now: Second) -> Option<EventCounts> {
        let says = &self.images[image].script[stage];
        let listed = match says.word {
            Word::Lists(listed) if says.counts => listed,
            _ => return None,
        };
        let counts = Counts::of(&findings(listed));
        Some(EventCounts { at: at(now), critical: counts.get("CRITICAL"), high: counts.get("HIGH"), medium: counts.get("MEDIUM"), total: counts.total() })
    }

    /// Whether the scanner has ever listed, whole, what this request's policy lets through.
    pub fn has_listed_what_passes(&self, request: usize, image: usize, stage: usize) -> bool {
        self.images[image].script[..=stage].iter().any(|says| match says.word {
            Word::Lists(listed) => self.lets_through(request, listed),
            _ => false,
        })
    }

    /// The same of the list of that name.
    pub fn lets_facts_through(&self, request: usize, image: usize, facts: &str) -> bool {
        self.images[image].script.iter().any(|says| match says.word {
            Word::Lists(listed) => Facts::new(self.registry, findings(listed)).hash().as_str() == facts && self.lets_through(request, listed),
            _ => false,
        })
    }

    /// Judged anew, and by other means than the machines do: of what is found here, a threshold of HIGH stops what is CRITICAL.
    fn lets_through(&self, request: usize, listed: Listed) -> bool {
        let ignored = &self.policy(request).ignore_findings;
        listed.iter().all(|(id, severity)| *severity == "LOW" || ignored.contains(*id))
    }
}

/// Blocks what is HIGH or worse.
pub fn strict() -> Policy {
    Policy::from_words(None, Some("HIGH"), []).expect("a threshold")
}

/// The same, and this one finding is ignored: it takes the findings themselves to judge.
pub fn ignoring((id, _): (&str, &str)) -> Policy {
    Policy::from_words(None, Some("HIGH"), [id.to_owned()]).expect("a threshold")
}

fn findings(listed: Listed) -> Vec<Finding> {
    let finding = |(id, severity): &(&str, &str)| serde_json::from_value(json!({"id": id, "severity": severity, "status": "ACTIVE"})).expect("a finding");
    listed.iter().map(finding).collect()
}
