//! An image arrived, or left: remember what it is, and have it scanned where nobody else will.

use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use jiff::{SignedDuration, Timestamp};

use super::batch::{Subject, work_off};
use super::drive::drive;
use super::error::HandlerError;
use super::faults::Run;
use crate::aws::Aws;
use crate::domain::image::{ImageDigest, ImageRef, Repository};
use crate::domain::plan::{self, Pushed, Step};
use crate::domain::protocol::deploy::Home;
use crate::domain::protocol::remember::Remember;
use crate::domain::protocol::{Resolved, Why};
use crate::domain::scan::ScanSource;
use crate::events::Event;
use crate::events::ours::Ours;

pub async fn on_push(batch: SqsEvent, aws: &Arc<Aws>, home: &Home) -> SqsBatchResponse {
    work_off(batch, aws, home, subject, |aws, subject, said| async move { push(&aws, subject, &said.events).await }).await
}

fn subject(event: &Event) -> Option<Subject> {
    match event {
        Event::ImagePushed { about, .. }
        | Event::ImageReplicated { about }
        | Event::ImageDeleted { about }
        | Event::ImageArchived { about }
        | Event::ImageRestored { about }
        | Event::ArtifactPushed { about, .. } => Some(Subject::Image(about.digest.clone(), about.repository.clone())),
        _ => None,
    }
}

async fn push(aws: &Aws, subject: Subject, events: &[Event]) -> Result<String, HandlerError> {
    let Subject::Image(digest, repository) = subject else { return Ok("nothing to remember".to_owned()) };
    let mut steps = Vec::new();
    if let Some(push) = pushed(&digest, &repository, events) {
        let (is, on_demand_only) = facts(aws, &push).await.map_err(HandlerError::TryAgain)?;
        steps.extend(plan::for_push(&push, &is, on_demand_only));
    }
    steps.extend(signed(aws, &digest, &repository, events).await.map_err(HandlerError::TryAgain)?);
    // A hint only: what the API says of the image decides, and on-scan asks it.
    if events.iter().any(|event| !matches!(event, Event::ImagePushed { .. } | Event::ImageReplicated { .. } | Event::ArtifactPushed { .. })) {
        steps.push(Step::Look(digest, SignedDuration::ZERO));
    }
    let planned = steps.len();
    for step in steps {
        carry_out(step, &repository, aws).await?;
    }
    Ok(format!("remembered in {planned} steps"))
}

/// A signature has come, or something else about an image. Its tag names the image; where it has none, its manifest does.
async fn signed(aws: &Aws, digest: &ImageDigest, repository: &Repository, events: &[Event]) -> Result<Vec<Step>, Why> {
    let mut subjects = events.iter().filter_map(|event| match event {
        Event::ArtifactPushed { subject, .. } => Some(subject.clone()),
        _ => None,
    });
    match subjects.next() {
        None => Ok(Vec::new()),
        Some(Some(subject)) => Ok(vec![Step::Signed(subject)]),
        Some(None) => {
            let artifact = ImageRef::Digest(digest.clone());
            Ok(match Run::named("push").around("read the artifact", digest, aws.ecr.resolve(repository, &artifact, None)).await? {
                Resolved::NotAnImage(.., Some(subject)) => vec![Step::Signed(subject)],
                _ => Vec::new(),
            })
        }
    }
}

/// All pushes of one digest in a batch, put together: one digest can get several tags.
fn pushed(digest: &ImageDigest, repository: &Repository, events: &[Event]) -> Option<Pushed> {
    let mut push: Option<Pushed> = None;
    for event in events {
        if let Event::ImagePushed { about, .. } | Event::ImageReplicated { about } = event {
            let all = push.get_or_insert_with(|| Pushed { repository: repository.clone(), digest: digest.clone(), tags: Vec::new(), at: None });
            all.tags.extend(about.tags.iter().cloned());
            all.at = all.at.max(about.at);
        }
    }
    push
}

/// What was pushed, and whether somebody has to ask for its scan.
async fn facts(aws: &Aws, push: &Pushed) -> Result<(Resolved, bool), Why> {
    let (mut run, digest) = (Run::named("push"), &push.digest);
    let is = run.around("read the image", digest, aws.ecr.resolve(&push.repository, &ImageRef::Digest(digest.clone()), None)).await?;
    let on_demand_only = match is {
        Resolved::Image(_) if run.around("read the registry's configuration", digest, aws.ecr.registry(false)).await? == ScanSource::Basic => {
            run.around("read the repository's scan frequency", digest, aws.ecr.is_scanned_on_demand_only(&push.repository)).await?
        }
        _ => false,
    };
    Ok((is, on_demand_only))
}

pub(super) async fn carry_out(step: Step, repository: &Repository, aws: &Aws) -> Result<(), HandlerError> {
    let mut run = Run::named("push");
    match step {
        Step::Remember(digest, news) => {
            let heads = run.around("read the verdict", &digest, aws.verdicts.heads(repository, std::slice::from_ref(&digest))).await;
            let head = heads.map_err(HandlerError::TryAgain)?.into_iter().next().flatten();
            let policies = vec![aws.settings.policy.clone()];
            drive(Remember::new(repository, &digest, head, vec![news], policies), aws).await?;
        }
        Step::StartScan(digest) => {
            let started = run.around("start a scan", &digest, aws.ecr.start_scan(repository, &digest)).await.map_err(HandlerError::TryAgain)?;
            for step in plan::after_start(&digest, started, Timestamp::now()) {
                Box::pin(carry_out(step, repository, aws)).await?;
            }
        }
        Step::Signed(digest) => {
            let message = Ours::Signed { digest: digest.clone(), repository: repository.clone() };
            run.around("have a signature looked for", &digest, aws.queue.send(message.to_json(), SignedDuration::ZERO))
                .await
                .map_err(HandlerError::TryAgain)?;
        }
        Step::Look(digest, after) => {
            let message = Ours::LookAgain { digest: digest.clone(), repository: repository.clone(), n: 0, request_id: None };
            run.around("have the image read", &digest, aws.queue.send(message.to_json(), after)).await.map_err(HandlerError::TryAgain)?;
        }
    }
    Ok(())
}
