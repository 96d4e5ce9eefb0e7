//! The one loop that carries a protocol's effects out, one at a time, and tells it what came of each.

pub mod of_scans;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::error::HandlerError;
use super::faults::{Run, time_to_read};
use super::metrics::{self, Unit};
use crate::aws::ecr::Read;
use crate::aws::requests::Recorded;
use crate::aws::verdicts::Written;
use crate::aws::{Aws, Carried};
use crate::domain::alert::NoticeKind;
use crate::domain::outputs::{Settled, signature_text, summary_of};
use crate::domain::protocol::{Depth, Do, Outcome, Protocol, Saw, Why};
use crate::domain::request::AskedScan;
use crate::domain::scan::Answer;
use crate::events::ours::Ours;

/// The roles of a stack that was made a moment ago may do nothing yet: for so long a refusal is not taken for the last word.
const FRESH_ROLE: Duration = Duration::from_secs(20);
const ASK_AGAIN_MS: u64 = 1000;
/// The lines of single effects: of this target, and shown with `LOG_LEVEL=debug` alone.
pub const EFFECTS: &str = "effects";

/// Runs a protocol to its end. `Ok` is what it did, in a word.
pub async fn drive(protocol: impl Protocol, aws: &Aws) -> Result<String, HandlerError> {
    // In a box of its own: together with what waits for this, the compiler would not follow so deep a future.
    match Box::pin(drive_to_its_end(protocol, aws)).await? {
        Outcome::Done(what) => Ok(what),
        Outcome::Checked(checked) => Ok(checked.verdict.word().to_owned()),
        Outcome::Redeliver(why) => Err(HandlerError::TryAgain(why)),
    }
}

/// The same, with all that it came to. An error is what has to be delivered again.
pub async fn drive_to_its_end(mut protocol: impl Protocol, aws: &Aws) -> Result<Outcome, HandlerError> {
    let mut saw = Saw::Start;
    let began = Instant::now();
    let mut run = Run::of(&protocol);
    loop {
        match protocol.next(saw, Timestamp::now()) {
            Do::Finish(Outcome::Redeliver(why)) => return Err(HandlerError::TryAgain(why)),
            Do::Finish(outcome) => return Ok(outcome),
            effect => {
                let name = name(&effect);
                run.before(name, &effect);
                let mut outcome = perform(effect.clone(), aws).await;
                while outcome.as_ref().is_err_and(|why| why.denied) && aws.role_may_be_fresh() {
                    if began.elapsed() >= FRESH_ROLE {
                        // It was not that. Nobody has to wait for it again.
                        aws.role_is_not_fresh();
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(ASK_AGAIN_MS + u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs() % 500))).await;
                    outcome = perform(effect.clone(), aws).await;
                }
                saw = outcome.unwrap_or_else(Saw::Failed);
                measure(&effect, &saw, aws);
                run.after(name, &effect);
                match &saw {
                    Saw::Failed(why) => info!(target: EFFECTS, effect = name, "{}", why.text),
                    _ => info!(target: EFFECTS, effect = name, "done"),
                }
            }
        }
    }
}

/// What an operator counts.
fn measure(effect: &Do, saw: &Saw, aws: &Aws) {
    let pipeline = &aws.settings.pipeline;
    match (effect, saw) {
        (Do::Record { request, record, .. } | Do::Claim { request, record }, Saw::Done) => {
            let waited_s = record.decided_at.duration_since(request.asked_at).as_secs();
            metrics::decision(pipeline, &record.verdict, waited_s);
            // The one line of a decision, whoever has decided.
            info!(
                verdict = record.verdict,
                digest = record.digest.as_ref().map(tracing::field::display),
                repository = request.named.repository,
                image = request.named.image,
                stack = request.stack_name(),
                logical_id = request.logical_id,
                request_id = request.request_id,
                waited_s,
                why = record.why,
                "decided"
            );
            if let Some(text) = record.told.as_ref().and_then(signature_text) {
                info!(request_id = request.request_id, stack = request.stack_name(), "Signature verification result:\n{text}");
            }
            if let Some(objection) = record.told.as_ref().and_then(|told| told.signature.as_ref()?.objection.as_ref()) {
                warn!(request_id = request.request_id, stack = request.stack_name(), "{objection}");
            }
            if request.gate.as_ref().is_ok_and(|gate| gate.scan == AskedScan::SignatureOnly) && record.told.is_some() {
                info!(request_id = request.request_id, "Vulnerability scanning skipped (ScanConfig.signatureOnly() mode).");
            }
            let has_logs = request.gate.as_ref().is_ok_and(|gate| gate.outputs.as_ref().is_some_and(|outputs| outputs.logs.is_some()));
            if let Some(told) = record.told.as_ref().filter(|_| !has_logs)
                && let Some(summary) = summary_of(request, told)
            {
                info!(request_id = request.request_id, digest = %told.digest, stack = request.stack_name(), "summary:\n{summary}");
            }
        }
        (Do::Publish { topic_arn, .. }, Saw::Failed(why)) => {
            metrics::count(pipeline, "OutputsFailed", 1, Unit::Count);
            warn!(topic_arn, "{}", why.text);
        }
        (Do::WriteLogs { .. } | Do::StartExport { .. } | Do::ReadExport { .. } | Do::PlaceExport { .. }, Saw::Failed(_)) => {
            metrics::count(pipeline, "OutputsFailed", 1, Unit::Count);
        }
        (Do::NoteOutputs { request, progress, settled: true, ends: true, .. }, Saw::Done) => {
            let said = |settled: &Option<Settled>| settled.as_ref().map(|settled| settled.what.clone()).unwrap_or_default();
            info!(
                request_id = request.request_id,
                logs = said(&progress.logs),
                sbom = said(&progress.sbom),
                notice = said(&progress.message),
                "its outputs are settled"
            );
            if let Some(why) = progress.given_up() {
                metrics::count(pipeline, "OutputsFailed", 1, Unit::Count);
                warn!(request_id = request.request_id, stack = request.stack_name(), "{why}");
            }
        }
        (Do::PublishOwn { kind, .. }, Saw::Done) => {
            metrics::count(pipeline, "AlertsSent", 1, Unit::Count);
            match kind {
                NoticeKind::ExemptionEnding => metrics::count(pipeline, "ExemptionsEnding", 1, Unit::Count),
                NoticeKind::BreakGlassUsed => metrics::count(pipeline, "BreakGlassUsed", 1, Unit::Count),
                _ => {}
            }
        }
        (Do::PutEvent { .. }, Saw::Done) => metrics::count(pipeline, "VerdictChanged", 1, Unit::Count),
        (Do::PublishOwn { .. } | Do::PutEvent { .. }, Saw::Failed(_)) => metrics::count(pipeline, "AlertsFailed", 1, Unit::Count),
        (Do::Register { .. }, Saw::Done) => metrics::count(pipeline, "ParkedRequests", 1, Unit::Count),
        _ => {}
    }
}

/// In a box, and compiled once: what is called from generic code alone would be compiled in the library and in each function again.
#[inline(never)]
fn perform(effect: Do, aws: &Aws) -> Carried<'_> {
    Box::pin(carry_out(effect, aws))
}

/// Carries one effect out. No decision is taken here.
async fn carry_out(effect: Do, aws: &Aws) -> Result<Saw, Why> {
    Ok(match effect {
        Do::ResolveImage { repository, image, expected } => Saw::Image(aws.ecr.resolve(&repository, &image, expected.as_ref()).await?),
        Do::ReadStack(stack_id) => Saw::Stack { rolling_back: aws.stacks.is_rolling_back(&stack_id).await? },
        Do::ReadHeads { repository, digests } => Saw::Heads(aws.verdicts.heads(&repository, &digests).await?),
        Do::ReadFacts { repository, digest, facts } => Saw::Facts(aws.verdicts.facts(&repository, &digest, &facts).await?),
        Do::ReadRegistry => Saw::Registry(aws.ecr.registry(true).await?),
        // What waits is looked into by on-scan: here it is what one page shows.
        Do::Look { repository, digest, depth: Depth::FirstPage, .. } => {
            let read_at = Timestamp::now();
            let what = match aws.ecr.findings(&repository, &digest, Depth::FirstPage, None, Instant::now() + time_to_read()).await? {
                Read::Answered(what) => what,
                Read::OutOfTime(..) => return Err(Why::new("one page was not read")),
            };
            // After the findings: an answer that contradicts the configuration we knew has dropped it by now.
            let source = aws.ecr.registry(false).await?;
            Saw::Answer(Answer { source, what, coverage: None, pushed_at: None, read_at })
        }
        Do::Verify { repository, digest, signers } => match &aws.signatures {
            Some(signatures) => Saw::Signed(signatures.verdict(&aws.verdicts, &repository, &digest, &signers, Timestamp::now()).await?),
            None => return Err(Why::new("this function verifies no signatures")),
        },
        Do::SendNotice { request_id } => {
            aws.queue.send(Ours::Notice { request_id }.to_json(), SignedDuration::ZERO).await?;
            Saw::Done
        }
        Do::ReadRows { stack_key } => Saw::Rows(aws.deployments.rows(&stack_key).await?),
        Do::ReadData { stack_key, properties_hash } => Saw::Data(aws.deployments.data(&stack_key, &properties_hash).await?),
        Do::PutFacts { repository, digest, facts, for_version } => {
            aws.verdicts.put_facts(&repository, &digest, &facts, for_version).await?;
            Saw::Done
        }
        Do::ExpireFacts { repository, digest, facts, since_version } => {
            aws.verdicts.expire_facts(&repository, &digest, &facts, since_version, Timestamp::now()).await?;
            Saw::Done
        }
        Do::WriteHead { expect, head } => match aws.verdicts.write_head(expect, &head).await? {
            Written::Yes => Saw::Done,
            Written::Conflict(current) => Saw::Conflict(current),
        },
        Do::ReadRequest(request_id) => Saw::Request(aws.requests.find(&request_id).await?.map(Box::new)),
        Do::ReadOpen { stack_key } => Saw::Waiting(aws.requests.open_of(&stack_key).await?),
        Do::ReadGlass { stack_id, repository, digest } => Saw::Glass(aws.deployments.glass(&stack_id, &repository, &digest).await?),
        Do::ReadForward { stack_key } => Saw::Forward(aws.deployments.forward(&stack_key).await?),
        Do::Record { request, url, due, record } => stored(aws.requests.record(&request, &url, due, &record).await?),
        Do::Register { request, url, due, images, since, told } => stored(aws.requests.register(&request, &url, due, &images, since, told.as_deref()).await?),
        Do::Tell { request_id, told } => won(aws.requests.tell(&request_id, &told).await?),
        Do::Claim { request, record } => stored(aws.requests.claim(&request, &record).await?),
        Do::TakeLease { request_id, until } => won(aws.requests.take_lease(&request_id, until, Timestamp::now()).await?),
        Do::Put { url, answer } => {
            aws.answers.put(url.as_secret(), &answer).await?;
            Saw::Done
        }
        Do::MarkAnswered { request_id } => {
            aws.requests.mark_answered(&request_id, Timestamp::now()).await?;
            Saw::Done
        }
        Do::CloseDeployments { stack_key, asked_at } => {
            aws.deployments.close(&stack_key, asked_at, Timestamp::now()).await?;
            Saw::Done
        }
        Do::LookAgain { repository, digest, n, after, request_id } => {
            aws.queue.send(Ours::LookAgain { digest, repository, n, request_id }.to_json(), after).await?;
            Saw::Done
        }
        Do::SendTimer { request_id, n, after } => {
            aws.queue.send(Ours::Timer { request_id, n }.to_json(), after).await?;
            Saw::Done
        }
        Do::SendOutputs { request_id, after } => {
            aws.queue.send(Ours::Outputs { request_id }.to_json(), after).await?;
            Saw::Done
        }
        effect @ (Do::WriteLogs { .. }
        | Do::StartExport { .. }
        | Do::ReadExport { .. }
        | Do::PlaceExport { .. }
        | Do::Publish { .. }
        | Do::PublishOwn { .. }
        | Do::PutEvent { .. }) => match &aws.outputs {
            Some(outputs) => outputs.put_out(effect).await?,
            None => return Err(Why::new("this function writes no outputs")),
        },
        effect @ (Do::Look { depth: Depth::Whole, .. }
        | Do::ReadFrequency { .. }
        | Do::ReadOn { .. }
        | Do::StartScan { .. }
        | Do::ReadDeployed { .. }
        | Do::Index { .. }
        | Do::ReadAnnounced { .. }
        | Do::WriteAnnounced { .. }
        | Do::AnnounceAgain { .. }
        | Do::TakeNotice { .. }
        | Do::LetNoticeGo { .. }
        | Do::NoteNotice { .. }
        | Do::ReadWaiting { .. }
        | Do::AdvanceTimer { .. }
        | Do::TakeOutputs { .. }
        | Do::NoteOutputs { .. }) => match aws.of_scans {
            Some(of_scans) => return of_scans(effect, aws).await,
            None => return Err(Why::new(format!("this function does not {}", name(&effect)))),
        },
        Do::Finish(outcome) => unreachable!("the loop ends with {outcome:?}"),
    })
}

fn stored(outcome: Recorded) -> Saw {
    match outcome {
        Recorded::Yes => Saw::Done,
        Recorded::Before(stage) => Saw::AlreadyStored(stage),
        Recorded::Superseded => Saw::Superseded,
        Recorded::NoGlass => Saw::NoGlass,
        Recorded::RowsChanged => Saw::RowsChanged,
    }
}

fn won(first: bool) -> Saw {
    if first { Saw::Done } else { Saw::Lost }
}

fn name(effect: &Do) -> &'static str {
    match effect {
        Do::ResolveImage { .. } => "resolve the image",
        Do::ReadStack(_) => "read the stack",
        Do::ReadHeads { .. } => "read the verdicts",
        Do::ReadFacts { .. } => "read the stored findings",
        Do::ReadRegistry => "read the registry's configuration",
        Do::ReadFrequency { .. } => "read the repository's scan frequency",
        Do::Look { .. } => "ask the scanner",
        Do::Verify { .. } => "find out who has signed the image",
        Do::ReadDeployed { .. } => "read who deploys the image",
        Do::Index { .. } => "make the findings known by their ids",
        Do::ReadAnnounced { .. } => "read what was told",
        Do::WriteAnnounced { .. } => "note what is told",
        Do::AnnounceAgain { .. } => "announce later",
        Do::PublishOwn { .. } => "tell the pipeline's topic",
        Do::PutEvent { .. } => "tell the event bus",
        Do::SendNotice { .. } => "have the decision told",
        Do::TakeNotice { .. } => "take the telling over",
        Do::LetNoticeGo { .. } => "leave the telling to another",
        Do::NoteNotice { .. } => "note that it was told",
        Do::ReadRows { .. } => "read the deployments",
        Do::ReadData { .. } => "read the recorded data",
        Do::PutFacts { .. } => "store the findings",
        Do::ExpireFacts { .. } => "let old findings go",
        Do::WriteHead { .. } => "write the verdict",
        Do::ReadRequest(_) => "read the request",
        Do::ReadWaiting { .. } => "read who waits for the image",
        Do::ReadOpen { .. } => "read the resource's open requests",
        Do::ReadForward { .. } => "read the last decisions",
        Do::ReadGlass { .. } => "read whether the glass was broken",
        Do::Record { .. } | Do::Claim { .. } => "record the decision",
        Do::Register { .. } => "let the request wait",
        Do::Tell { .. } => "keep what the outputs are made of",
        Do::TakeLease { .. } => "take the answer over",
        Do::Put { .. } => "answer CloudFormation",
        Do::MarkAnswered { .. } => "mark the request",
        Do::ReadOn { .. } => "have the rest read",
        Do::SendTimer { .. } => "set a timer",
        Do::AdvanceTimer { .. } => "note the timer",
        Do::StartScan { .. } => "start a scan",
        Do::CloseDeployments { .. } => "close the deployments",
        Do::SendOutputs { .. } => "have the outputs written",
        Do::TakeOutputs { .. } => "take the outputs over",
        Do::WriteLogs { .. } => "write the logs",
        Do::StartExport { .. } => "start the SBOM export",
        Do::ReadExport { .. } => "ask after the SBOM export",
        Do::PlaceExport { .. } => "put the SBOM in its place",
        Do::Publish { .. } => "send the message",
        Do::NoteOutputs { .. } => "note the outputs",
        Do::LookAgain { .. } => "look again later",
        Do::Finish(_) => "finish",
    }
}
