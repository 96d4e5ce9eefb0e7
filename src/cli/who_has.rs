//! `ecr-scan-verifier who-has CVE-...`: which images have a finding, and which stacks run them.
//!
//! One query of the shelf on which the id belongs, one of what is deployed, one read of the images' rows for their tags: as many
//! calls for one image as for a hundred, and right as soon as an update or a delete is recorded. Exit 0: somebody has it; 3:
//! nobody; 1: could not look.
//!
//! IAM: `dynamodb:Query`, `GetItem` and `BatchGetItem` on Verdicts, `Query` on the index `live` of Deployments.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::{Format, Outcome};
use crate::aws::Aws;
use crate::aws::deployments::LiveRow;
use crate::domain::head::Head;
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::protocol::Why;

/// DynamoDB reads so many items at once.
const AT_ONCE: usize = 100;

pub async fn who_has(aws: &Aws, id: &str, format: Format) -> Outcome {
    let having = match having(aws, id).await {
        Ok(having) => having,
        Err(why) => return Outcome::failed(format!("who-has: {}\n", why.text)),
    };
    let exit = if having.is_empty() { 3 } else { 0 };
    let text = match format {
        Format::Json => {
            let report = Report { schema_version: 1, pipeline: &aws.settings.pipeline, id, images: having };
            serde_json::to_string_pretty(&report).expect("texts are JSON") + "\n"
        }
        Format::Text if having.is_empty() => format!("No image that pipeline {} knows has {id}.\n", aws.settings.pipeline),
        Format::Text => in_words(id, &having),
    };
    Outcome::said(text, exit)
}

async fn having(aws: &Aws, id: &str) -> Result<Vec<Having>, Why> {
    let found = aws.verdicts.having(id).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let mut live: BTreeMap<(Repository, ImageDigest), Vec<LiveRow>> = BTreeMap::new();
    let mut page = None;
    loop {
        let (rows, _, next) = aws.deployments.live(page.as_deref(), LIVE_AT_ONCE).await?;
        for row in rows {
            live.entry((row.repository.clone(), row.digest.clone())).or_default().push(row);
        }
        page = match next {
            Some(next) => Some(next),
            None => break,
        };
    }
    let mut by_repository: BTreeMap<Repository, Vec<(ImageDigest, Timestamp)>> = BTreeMap::new();
    for (repository, digest, since) in found {
        by_repository.entry(repository).or_default().push((digest, since));
    }
    let mut having = Vec::new();
    for (repository, images) in by_repository {
        for some in images.chunks(AT_ONCE) {
            let digests: Vec<ImageDigest> = some.iter().map(|(digest, _)| digest.clone()).collect();
            let heads = aws.verdicts.heads(&repository, &digests).await?;
            for ((digest, since), head) in some.iter().zip(heads) {
                let rows = live.remove(&(repository.clone(), digest.clone())).unwrap_or_default();
                having.push(Having::of(&repository, digest, *since, head.as_ref(), &rows));
            }
        }
    }
    // What runs comes first.
    having.sort_by_key(|image| (image.deployed.is_empty(), image.since));
    Ok(having)
}

/// Nobody waits for the rows one by one.
const LIVE_AT_ONCE: i32 = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema_version: u32,
    pipeline: &'a str,
    id: &'a str,
    images: Vec<Having>,
}

/// An image that has the finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Having {
    repository: String,
    digest: ImageDigest,
    tags: Vec<String>,
    /// When the pipeline first read of it.
    since: Timestamp,
    verdict: String,
    deployed: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    stack: String,
    stack_id: String,
    logical_id: String,
    image: String,
    since: String,
}

impl Having {
    pub fn of(repository: &Repository, digest: &ImageDigest, since: Timestamp, head: Option<&Head>, rows: &[LiveRow]) -> Self {
        let place = |row: &LiveRow| {
            let (stack_id, logical_id) = row.resource().unwrap_or((&row.stack_key, ""));
            Place {
                stack: stack_id.split('/').nth(1).unwrap_or(stack_id).to_owned(),
                stack_id: stack_id.to_owned(),
                logical_id: logical_id.to_owned(),
                image: row.image.clone(),
                since: row.since.clone(),
            }
        };
        Self {
            repository: repository.name.clone(),
            digest: digest.clone(),
            tags: head.map(|head| head.tags.clone()).unwrap_or_default(),
            since,
            verdict: head.map(|head| head.verdict.clone()).unwrap_or_default(),
            deployed: rows.iter().map(place).collect(),
        }
    }
}

/// The answer for a person.
pub fn in_words(id: &str, having: &[Having]) -> String {
    let stacks: usize = having.iter().map(|image| image.deployed.len()).sum();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let mut text = format!("{id}: in {} image{}, deployed {stacks} time{}\n", having.len(), plural(having.len()), plural(stacks));
    for image in having {
        let tags = if image.tags.is_empty() { String::new() } else { format!(" ({})", image.tags.join(", ")) };
        let _ = write!(text, "\n{}@{}{tags}\n  known since  {}\n", image.repository, image.digest, image.since);
        if image.deployed.is_empty() {
            text += "  deployed nowhere\n";
        }
        for place in &image.deployed {
            let _ = writeln!(text, "  runs in      {} ({}) as {}, since {}", place.stack, place.logical_id, place.image, place.since);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_with_its_stacks() {
        let repository: Repository = "arn:aws:ecr:eu-west-1:123456789012:repository/payments-api".parse().unwrap();
        let digest = ImageDigest::of(b"app");
        let row = LiveRow {
            stack_key: "arn:aws:cloudformation:eu-west-1:123456789012:stack/payments/8f9a#Gate".into(),
            digest: digest.clone(),
            repository: repository.clone(),
            image: "1.4.1".into(),
            since: "2026-03-14T09:26:53Z".into(),
            asked_at: None,
        };
        let runs = Having::of(&repository, &digest, Timestamp::UNIX_EPOCH, None, &[row]);
        let lies = Having::of(&repository, &ImageDigest::of(b"other"), Timestamp::UNIX_EPOCH, None, &[]);
        let text = in_words("CVE-2024-3094", &[runs, lies]);
        assert!(text.starts_with("CVE-2024-3094: in 2 images, deployed 1 time\n"), "{text}");
        assert!(text.contains("  runs in      payments (Gate) as 1.4.1, since 2026-03-14T09:26:53Z\n") && text.contains("  deployed nowhere\n"), "{text}");
    }
}
