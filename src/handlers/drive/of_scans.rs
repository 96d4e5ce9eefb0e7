//! Effects that on-scan alone has: it looks into a scan to its end, remembers whose findings they are, and tells people.
//!
//! The other functions do not name this, so they are not made of it.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::won;
use crate::aws::ecr::Read;
use crate::aws::verdicts::Begun;
use crate::aws::{Aws, Carried};
use crate::domain::protocol::{Depth, Do, PageToken, Saw, Why};
use crate::domain::scan::{Answer, Answered, Report, ScanSource, leaves_open};
use crate::events::ours::Ours;
use crate::handlers::faults::time_to_read;

/// Carries such an effect out.
pub fn of_scans(effect: Do, aws: &Aws) -> Carried<'_> {
    Box::pin(carry_out(effect, aws))
}

async fn carry_out(effect: Do, aws: &Aws) -> Result<Saw, Why> {
    Ok(match effect {
        Do::ReadFrequency { repository } => Saw::Frequency { on_demand_only: aws.ecr.is_scanned_on_demand_only(&repository).await? },
        Do::Look { repository, digest, depth: Depth::Whole, pushed_at, from, epss } => {
            let begun = match &from {
                Some(token) => Some(aws.verdicts.begun(&repository, &digest, token).await?),
                None => None,
            };
            // What a reading proves dates from its beginning.
            let read_at = begun.as_ref().map_or_else(Timestamp::now, |begun| begun.read_at);
            let epss = epss || begun.as_ref().is_some_and(|begun| begun.epss);
            let until = Instant::now() + time_to_read();
            let keep = async |report: Report, is_listed: bool, next: PageToken| {
                aws.verdicts.keep_begun(&repository, &digest, &next, &Begun { read_at, report, epss, is_listed }).await?;
                Ok(Saw::MoreToRead(next))
            };
            let (mut what, epss_from) = match begun {
                Some(begun) if begun.is_listed => (Answered::Findings(begun.report), from),
                begun => match aws.ecr.findings(&repository, &digest, Depth::Whole, begun.map(|begun| begun.report).zip(from), until).await? {
                    Read::Answered(what) => (what, None),
                    Read::OutOfTime(report, next) => return keep(report, false, next).await,
                },
            };
            // After the findings: an answer that contradicts the configuration we knew has dropped it by now.
            let source = aws.ecr.registry(false).await?;
            if let Answered::Findings(report) = &mut what
                && epss
                && source == ScanSource::Enhanced
                && let Some(next) = aws.inspector.read_epss(&repository, &digest, report, epss_from, until).await?
            {
                return keep(std::mem::take(report), true, next).await;
            }
            let (coverage, pushed_at) = if leaves_open(source, &what) {
                let pushed_at = match pushed_at {
                    Some(at) => Some(at),
                    None => aws.ecr.pushed_at(&repository, &digest).await?,
                };
                (aws.inspector.coverage(&repository, &digest).await?, pushed_at)
            } else {
                (None, None)
            };
            Saw::Answer(Answer { source, what, coverage, pushed_at, read_at })
        }
        Do::ReadOn { repository, digest, from } => {
            aws.queue.send(Ours::RestOfRead { digest, repository, token: from.0 }.to_json(), SignedDuration::ZERO).await?;
            Saw::Done
        }
        Do::StartScan { repository, digest } => Saw::Started(aws.ecr.start_scan(&repository, &digest).await?),
        Do::ReadDeployed { repository, digest } => Saw::Deployed(aws.deployments.lives(&repository, &digest).await?),
        Do::Index { repository, digest, version, facts } => {
            aws.verdicts.index(&repository, &digest, version, facts.as_ref(), Timestamp::now()).await?;
            Saw::Done
        }
        Do::ReadAnnounced { repository, digest, audience } => Saw::Announced(Box::new(aws.verdicts.announced(&repository, &digest, &audience).await?)),
        Do::WriteAnnounced { repository, digest, audience, expect, announced } => {
            won(aws.verdicts.write_announced(&repository, &digest, &audience, expect, &announced, Timestamp::now()).await?)
        }
        Do::AnnounceAgain { repository, digest, after } => {
            aws.queue.send(Ours::Announce { digest, repository }.to_json(), after).await?;
            Saw::Done
        }
        Do::TakeNotice { request_id, until } => won(aws.requests.take_notice(&request_id, until, Timestamp::now()).await?),
        Do::LetNoticeGo { request_id, until } => won(aws.requests.let_notice_go(&request_id, until).await?),
        Do::NoteNotice { request_id } => {
            aws.requests.note_notice(&request_id).await?;
            Saw::Done
        }
        Do::ReadWaiting { repository, digest } => Saw::Waiting(aws.requests.waiting_for(&repository, &digest).await?),
        Do::AdvanceTimer { request_id, to } => won(aws.requests.advance_timer(&request_id, to).await?),
        Do::TakeOutputs { request_id, until } => won(aws.requests.take_outputs(&request_id, until, Timestamp::now()).await?),
        Do::NoteOutputs { request, decided_at, progress, settled, ends } => {
            aws.requests.note_outputs(&request, decided_at, &progress, settled, ends).await?;
            Saw::Done
        }
        other => return Err(Why::new(format!("{other:?} is carried out elsewhere"))),
    })
}
