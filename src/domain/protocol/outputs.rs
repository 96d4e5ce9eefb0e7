//! A request has been answered, and wants something written: logs of the scan, an SBOM, a message.
//!
//! Nothing here decides any more. Each output is tried on its own and settled once: a failure does not keep the others from
//! being written, and brings the message again, which goes on with what is left. Inspector writes an SBOM in its own time, so
//! that one is asked about again and again, by a message that comes later.
//!
//! Under `strictOutputs` the request still waits: for its outputs. It is woken when they are settled.

use jiff::{SignedDuration, Timestamp};

use super::deploy::Home;
use super::wake::{By, Wake};
use super::{Do, ExportState, Outcome, Protocol, Saw, Why};
use crate::domain::outputs::{Export, Found, Outputs as Wanted, Progress, Role, Scanned, Settled, Told, Writer};
use crate::domain::policy::Policy;
use crate::domain::request::{Request, Stage, Stored};
use crate::domain::scan::{Facts, FactsHash, ScanSource};

/// A writer that died is followed by another one after this: as long as the function runs at most.
const LEASE: SignedDuration = SignedDuration::from_secs(120);
/// After how long an export is asked about, time after time; from then on every [`EVERY`].
const ASK_S: [i64; 3] = [5, 10, 20];
const EVERY: SignedDuration = SignedDuration::from_secs(30);
/// How long an export may take.
const PATIENCE: SignedDuration = SignedDuration::from_secs(300);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outputs {
    request_id: String,
    pipeline: String,
    home: Home,
    pipelines: Policy,
    at: At,
    work: Option<Box<Work>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Work {
    request: Request,
    wanted: Wanted,
    told: Told,
    progress: Progress,
    /// The findings that were read, by their hash.
    facts: Vec<(FactsHash, Option<Facts>)>,
    /// What could not be written this time.
    failed: Option<Why>,
    /// What has been tried in this run.
    tried: [bool; 4],
    /// Whether the request waits for this.
    is_open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Start,
    Reading,
    Taking,
    Choosing,
    Facts(FactsHash),
    Logs,
    Exporting,
    AskingExport,
    Placing(String),
    PublishingSignature,
    Publishing,
    /// Noting, and what comes after it.
    Noting(After),
    ComingBack,
    Waking(Box<Wake>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum After {
    GoOn,
    ComeBackIn(SignedDuration),
    End,
}

impl Outputs {
    pub fn new(request_id: String, pipeline: String, home: Home, pipelines: Policy) -> Self {
        Self { request_id, pipeline, home, pipelines, at: At::Start, work: None }
    }

    fn read(&mut self, stored: Stored, now: Timestamp) -> Do {
        let wanted = stored.request.gate.as_ref().ok().and_then(|gate| gate.outputs.clone());
        let (Some(wanted), Some(told)) = (wanted, stored.told) else { return done("there is nothing to write") };
        let Stored { request, progress, stage, .. } = stored;
        let is_open = stage == Stage::Open;
        let work = Work { request, wanted, told, progress, facts: Vec::new(), failed: None, tried: [false; 4], is_open };
        if work.is_settled() {
            return self.over(is_open, now);
        }
        self.work = Some(Box::new(work));
        self.at = At::Taking;
        Do::TakeOutputs { request_id: self.request_id.clone(), until: now.saturating_add(LEASE).unwrap_or(Timestamp::MAX) }
    }

    /// The next output that is not settled.
    fn choose(&mut self, now: Timestamp) -> Do {
        let Some(work) = &mut self.work else { return stray("no work") };
        let [logs, sbom, signature, message] = work.tried;
        if work.progress.logs.is_none() && !logs {
            if work.wanted.logs.is_some()
                && !work.told.by_signature_alone
                && let Some(scanned) = work.unread()
            {
                let effect = Do::ReadFacts { repository: work.gate().repository.clone(), digest: scanned.image.digest.clone(), facts: scanned.facts.clone() };
                self.at = At::Facts(scanned.facts.clone());
                return effect;
            }
            work.tried[0] = true;
            if work.wanted.logs.is_none() {
                // The summary is in the log of the function that has decided.
                work.progress.logs = Some(Settled::written("in the function's log"));
                return self.choose(now);
            }
            if work.found().iter().any(|(_, facts)| facts.is_none()) {
                return self.settle(|progress| progress.logs = Some(Settled::not_written("the findings are not stored any more")));
            }
            let (role, logs) = (work.role(), work.writer(&self.pipeline).logs(&work.found()));
            self.at = At::Logs;
            return Do::WriteLogs { role, logs };
        }
        if let Some(to) = work.wanted.sbom.clone()
            && work.progress.sbom.is_none()
            && !sbom
        {
            work.tried[1] = true;
            if work.told.by_signature_alone {
                return self.settle_sbom(Settled::written("no scan was judged, so there is no SBOM"));
            }
            let role = work.role();
            if let Some(export) = &work.progress.export {
                let report_id = export.report_id.clone();
                self.at = At::AskingExport;
                return Do::ReadExport { role, report_id };
            }
            let Some(image_arn) = work.inspected() else {
                return self.settle_sbom(Settled::written("SBOM export is only available with Enhanced scanning. Skipping SBOM generation."));
            };
            let prefix = work.writer(&self.pipeline).export_prefix(&to);
            self.at = At::Exporting;
            return Do::StartExport { role, image_arn, sbom: to, prefix };
        }
        if let Some(topic_arn) = work.wanted.topic_arn.clone()
            && work.progress.signature_message.is_none()
            && !signature
            && let Some(message) = work.writer(&self.pipeline).signature_message()
        {
            work.tried[2] = true;
            let role = work.role();
            self.at = At::PublishingSignature;
            return Do::Publish { role, topic_arn, message };
        }
        if let Some(topic_arn) = work.wanted.topic_arn.clone()
            && work.progress.message.is_none()
            && !message
        {
            work.tried[3] = true;
            match work.writer(&self.pipeline).message() {
                None => work.progress.message = Some(Settled::written("nothing blocks")),
                Some(message) => {
                    let role = work.role();
                    self.at = At::Publishing;
                    return Do::Publish { role, topic_arn, message };
                }
            }
        }
        self.come_to_an_end(now)
    }

    fn come_to_an_end(&mut self, now: Timestamp) -> Do {
        let Some(work) = &mut self.work else { return stray("no work") };
        work.progress.failed = work.failed.as_ref().map(|why| why.text.clone());
        // What failed comes again by itself, and then asks about an export too.
        let exports = work.progress.export.as_ref().filter(|_| work.progress.sbom.is_none() && work.failed.is_none());
        match exports.map(|export| ask_after(export.since, now)) {
            Some(after) => self.note(After::ComeBackIn(after)),
            None => self.note(After::End),
        }
    }

    fn note(&mut self, after: After) -> Do {
        let Some(work) = &self.work else { return stray("no work") };
        let (settled, ends) = (work.is_settled(), after != After::GoOn);
        self.at = At::Noting(after);
        Do::NoteOutputs { request: Box::new(work.request.clone()), decided_at: work.told.decided_at, progress: work.progress.clone(), settled, ends }
    }

    /// Remembered at once, so that a run that dies later does not do it again.
    fn settle(&mut self, settle: impl FnOnce(&mut Progress)) -> Do {
        if let Some(work) = &mut self.work {
            settle(&mut work.progress);
        }
        self.note(After::GoOn)
    }

    fn settle_sbom(&mut self, settled: Settled) -> Do {
        self.settle(|progress| (progress.sbom, progress.export) = (Some(settled), None))
    }

    fn failed(&mut self, why: Why, now: Timestamp) -> Do {
        if let Some(work) = &mut self.work {
            work.failed = Some(why);
        }
        self.choose(now)
    }

    fn exported(&mut self, state: ExportState, now: Timestamp) -> Do {
        let Some(work) = &self.work else { return stray("no work") };
        let (Some(to), Some(export)) = (work.wanted.sbom.as_ref(), work.progress.export.as_ref()) else { return stray("no export") };
        match state {
            ExportState::Running if now.duration_since(export.since) < PATIENCE => self.choose(now),
            ExportState::Running => self.settle_sbom(Settled::not_written(format!("SBOM export timed out after {} seconds.", PATIENCE.as_secs()))),
            ExportState::Failed => {
                let criteria = serde_json::json!({ "resourceId": [{ "comparison": "EQUALS", "value": work.inspected() }] });
                self.settle_sbom(Settled::not_written(format!("SBOM export failed. Filter criteria: {criteria}")))
            }
            ExportState::Cancelled => self.settle_sbom(Settled::not_written("SBOM export was cancelled.")),
            ExportState::Succeeded => {
                let writer = work.writer(&self.pipeline);
                let (from, place) = ((to.bucket.clone(), writer.export_prefix(to)), writer.sbom_place(to));
                let role = work.role();
                self.at = At::Placing(format!("s3://{}/{}", place.0, place.1));
                Do::PlaceExport { role, from, to: place }
            }
        }
    }

    fn no_file(&mut self) -> Do {
        let Some(work) = &self.work else { return stray("no work") };
        let prefix = work.wanted.sbom.as_ref().map(|to| work.writer(&self.pipeline).export_prefix(to)).unwrap_or_default();
        self.settle_sbom(Settled::not_written(format!(
            "SBOM export succeeded but no file found in S3 under prefix: {prefix}. Inspector writes one only of images that it scans continuously: check that the registry's scanning configuration has a CONTINUOUS_SCAN rule for this repository."
        )))
    }

    fn after_note(&mut self, after: After, now: Timestamp) -> Do {
        match after {
            After::GoOn => {
                self.at = At::Choosing;
                self.choose(now)
            }
            After::ComeBackIn(after) => {
                self.at = At::ComingBack;
                Do::SendOutputs { request_id: self.request_id.clone(), after }
            }
            After::End => match self.work.take() {
                Some(work) => match work.failed {
                    Some(why) => Do::Finish(Outcome::Redeliver(why)),
                    None => self.over(work.is_open, now),
                },
                None => stray("no work"),
            },
        }
    }

    /// Nothing is left to do but to tell who waits for it.
    fn over(&mut self, is_open: bool, now: Timestamp) -> Do {
        if !is_open {
            return done("its outputs are written");
        }
        let mut wake = Wake::new(self.request_id.clone(), By::News, self.home.clone(), self.pipelines.clone());
        let effect = wake.next(Saw::Start, now);
        self.at = At::Waking(Box::new(wake));
        effect
    }
}

/// When to ask again: soon at first, and for the last time when patience ends.
fn ask_after(since: Timestamp, now: Timestamp) -> SignedDuration {
    let waited = now.duration_since(since);
    let mut total = 0;
    let next = ASK_S.iter().find(|seconds| {
        total += **seconds;
        SignedDuration::from_secs(total) > waited
    });
    next.map_or(EVERY, |seconds| SignedDuration::from_secs(*seconds))
}

impl Work {
    fn gate(&self) -> &crate::domain::request::Gate {
        self.request.gate.as_ref().expect("what has outputs has a gate")
    }

    fn role(&self) -> Role {
        Role { arn: self.wanted.role_arn.clone(), of_stack: self.request.stack_id.clone() }
    }

    fn writer<'a>(&'a self, pipeline: &'a str) -> Writer<'a> {
        Writer { request: &self.request, gate: self.gate(), outputs: &self.wanted, told: &self.told, pipeline }
    }

    fn unread(&self) -> Option<&Scanned> {
        self.told.images.iter().find(|scanned| !self.facts.iter().any(|(hash, _)| *hash == scanned.facts))
    }

    fn found(&self) -> Vec<Found<'_>> {
        let facts = |scanned: &Scanned| self.facts.iter().find(|(hash, _)| *hash == scanned.facts).and_then(|(_, facts)| facts.as_ref());
        self.told.images.iter().map(|scanned| (scanned, facts(scanned))).collect()
    }

    /// What Inspector calls the image whose SBOM is wanted: of an index, the first image that was judged.
    fn inspected(&self) -> Option<String> {
        let scanned = self.told.images.iter().find(|scanned| scanned.source == ScanSource::Enhanced)?;
        Some(self.gate().repository.image_arn(&scanned.image.digest))
    }

    fn is_settled(&self) -> bool {
        self.progress.is_settled(&self.wanted, &self.told)
    }
}

fn done(what: &str) -> Do {
    Do::Finish(Outcome::Done(what.to_owned()))
}

fn stray(what: &str) -> Do {
    Do::Finish(Outcome::Redeliver(Why::new(format!("outputs: {what}"))))
}

impl Protocol for Outputs {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        match (std::mem::replace(&mut self.at, At::Choosing), saw) {
            (At::Start, Saw::Start) => {
                self.at = At::Reading;
                Do::ReadRequest(self.request_id.clone())
            }
            (At::Reading, Saw::Request(None)) => done("nobody knows this request"),
            (At::Reading, Saw::Request(Some(stored))) => self.read(*stored, now),
            (At::Taking, Saw::Done) => self.choose(now),
            // It may die over it, so this message comes again.
            (At::Taking, Saw::Lost) => Do::Finish(Outcome::Redeliver(Why::new("somebody else is writing its outputs"))),
            (At::Facts(hash), Saw::Facts(facts)) => {
                if let Some(work) = &mut self.work {
                    work.facts.push((hash, facts));
                }
                self.choose(now)
            }
            (At::Logs, Saw::Done) => self.settle(|progress| progress.logs = Some(Settled::written("written"))),
            (At::Exporting, Saw::Export(report_id)) => self.settle(|progress| progress.export = Some(Export { report_id, since: now })),
            (At::AskingExport, Saw::ExportIs(state)) => self.exported(state, now),
            (At::Placing(place), Saw::Done) => self.settle_sbom(Settled::written(place)),
            (At::Placing(_), Saw::NoFile) => self.no_file(),
            (At::PublishingSignature, Saw::Done) => self.settle(|progress| progress.signature_message = Some(Settled::written("sent"))),
            (At::Publishing, Saw::Done) => self.settle(|progress| progress.message = Some(Settled::written("sent"))),
            (At::Facts(_), Saw::Failed(why)) => {
                if let Some(work) = &mut self.work {
                    work.tried[0] = true;
                }
                self.failed(why, now)
            }
            (At::Logs | At::Exporting | At::AskingExport | At::Placing(_) | At::PublishingSignature | At::Publishing, Saw::Failed(why)) => {
                self.failed(why, now)
            }
            (At::Noting(after), Saw::Done) => self.after_note(after, now),
            (At::Waking(mut wake), saw) => {
                let effect = wake.next(saw, now);
                self.at = At::Waking(wake);
                effect
            }
            (At::ComingBack, Saw::Done) => done("Inspector is still writing the SBOM"),
            (_, Saw::Failed(why)) => Do::Finish(Outcome::Redeliver(why)),
            (at, saw) => Do::Finish(Outcome::Redeliver(Why::new(format!("{saw:?} in {at:?}")))),
        }
    }
}
