//! The one loop that carries a protocol's effects out, one at a time, and tells it what came of each.

use jiff::Timestamp;
use tracing::{debug, warn};

use super::error::HandlerError;
use crate::aws::Aws;
use crate::aws::requests::Recorded;
use crate::aws::verdicts::Written;
use crate::domain::protocol::{Depth, Do, Outcome, Protocol, Saw, Why};
use crate::domain::request::Request;
use crate::domain::scan::{Answer as ScanAnswer, leaves_open};
use crate::events::ours::Ours;

/// A request of CloudFormation and the secret place for its answer.
pub struct Asking<'a> {
    pub request: &'a Request,
    pub response_url: &'a str,
}

/// Runs a protocol to its end. `Ok` is what it did, in a word.
pub async fn drive(mut protocol: impl Protocol, aws: &Aws, asking: Option<&Asking<'_>>) -> Result<String, HandlerError> {
    let mut saw = Saw::Start;
    loop {
        match protocol.next(saw, Timestamp::now()) {
            Do::Finish(Outcome::Done(what)) => return Ok(what),
            Do::Finish(Outcome::Redeliver(why)) => return Err(HandlerError::TryAgain(why)),
            effect => {
                let name = name(&effect);
                fault_point(&effect);
                saw = perform(effect, aws, asking).await.unwrap_or_else(Saw::Failed);
                if let Saw::Failed(why) = &saw {
                    warn!(effect = name, "{}", why.text);
                } else {
                    debug!(effect = name, "done");
                }
            }
        }
    }
}

/// Carries one effect out. No decision is taken here.
async fn perform(effect: Do, aws: &Aws, asking: Option<&Asking<'_>>) -> Result<Saw, Why> {
    Ok(match effect {
        Do::ResolveImage { repository, image, expected } => Saw::Image(aws.ecr.resolve(&repository, &image, expected.as_ref()).await?),
        Do::ReadStack(stack_id) => Saw::Stack { rolling_back: aws.stacks.is_rolling_back(&stack_id).await? },
        Do::ReadHeads { repository, digests } => Saw::Heads(aws.verdicts.heads(&repository, &digests).await?),
        Do::ReadFacts { repository, digest, facts } => Saw::Facts(aws.verdicts.facts(&repository, &digest, &facts).await?),
        Do::ReadRegistry => Saw::Registry(aws.ecr.registry(true).await?),
        Do::Look { repository, digest, depth, pushed_at } => {
            let read_at = Timestamp::now();
            let what = aws.ecr.findings(&repository, &digest, depth).await?;
            // After the findings: an answer that contradicts the configuration we knew has dropped it by now.
            let source = aws.ecr.registry(false).await?;
            let (coverage, pushed_at) = match depth {
                Depth::Whole if leaves_open(source, &what) => {
                    let pushed_at = match pushed_at {
                        Some(at) => Some(at),
                        None => aws.ecr.pushed_at(&repository, &digest).await?,
                    };
                    (aws.inspector.coverage(&repository, &digest).await?, pushed_at)
                }
                _ => (None, None),
            };
            Saw::Answer(ScanAnswer { source, what, coverage, pushed_at, read_at })
        }
        Do::ReadPolicies { repository, digest } => Saw::Policies(aws.deployments.policies(&repository, &digest).await?),
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
        Do::Record(record) => {
            let asking = asked_by(asking)?;
            match aws.requests.record(asking.request, asking.response_url, &record).await? {
                Recorded::Yes => Saw::Done,
                Recorded::Before { answer, answered } => Saw::AlreadyRecorded { answer, answered },
            }
        }
        Do::Put(answer) => {
            aws.answers.put(asked_by(asking)?.response_url, &answer).await?;
            Saw::Done
        }
        Do::MarkAnswered => {
            aws.requests.mark_answered(&asked_by(asking)?.request.request_id, Timestamp::now()).await?;
            Saw::Done
        }
        Do::CloseDeployments { stack_key } => {
            aws.deployments.close(&stack_key, Timestamp::now()).await?;
            Saw::Done
        }
        Do::LookAgain { repository, digest, n, after } => {
            aws.queue.send(Ours::LookAgain { digest, repository, n, request_id: None }.to_json(), after).await?;
            Saw::Done
        }
        Do::Finish(outcome) => unreachable!("the loop ends with {outcome:?}"),
    })
}

fn asked_by<'a, 'b>(asking: Option<&'a Asking<'b>>) -> Result<&'a Asking<'b>, Why> {
    asking.ok_or_else(|| Why { text: "nobody asked, so there is nobody to answer".to_owned(), denied: false })
}

fn name(effect: &Do) -> &'static str {
    match effect {
        Do::ResolveImage { .. } => "resolve the image",
        Do::ReadStack(_) => "read the stack",
        Do::ReadHeads { .. } => "read the verdicts",
        Do::ReadFacts { .. } => "read the stored findings",
        Do::ReadRegistry => "read the registry's configuration",
        Do::Look { .. } => "ask the scanner",
        Do::ReadPolicies { .. } => "read the policies",
        Do::ReadRows { .. } => "read the deployments",
        Do::ReadData { .. } => "read the recorded data",
        Do::PutFacts { .. } => "store the findings",
        Do::ExpireFacts { .. } => "let old findings go",
        Do::WriteHead { .. } => "write the verdict",
        Do::Record(_) => "record the decision",
        Do::Put(_) => "answer CloudFormation",
        Do::MarkAnswered => "mark the request",
        Do::CloseDeployments { .. } => "close the deployments",
        Do::LookAgain { .. } => "look again later",
        Do::Finish(_) => "finish",
    }
}

/// In a test build alone: panics before the effect whose description holds the text of `FAULT_PANIC_AT`.
#[cfg(feature = "faults")]
fn fault_point(effect: &Do) {
    if let Ok(text) = std::env::var("FAULT_PANIC_AT") {
        assert!(text.is_empty() || !format!("{effect:?}").contains(&text), "fault point");
    }
}

#[cfg(not(feature = "faults"))]
fn fault_point(_effect: &Do) {}
