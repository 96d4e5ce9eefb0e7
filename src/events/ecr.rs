//! ECR's own events: something was pushed, deleted, archived or replicated, or a basic scan has ended.

use super::members::{Members, shown};
use super::{Envelope, Event, Manifest, UnreadableEvent};
use crate::domain::image::ImageDigest;
use crate::domain::manifest::{digest_in_tag, media_type, subject_of_tag};

pub(super) fn read(envelope: &Envelope<'_>) -> Result<Event, UnreadableEvent> {
    match envelope.detail_type {
        "ECR Image Action" => image_action(envelope),
        "ECR Artifact Action" | "ECR Referrer Action" => artifact_action(envelope),
        "ECR Image Scan" => image_scan(envelope),
        "ECR Replication Action" => replication(envelope),
        "ECR Pull Through Cache Action" => {
            Ok(envelope.ignored("a pull-through cache asked its upstream; an image that it stores is looked at when it is deployed"))
        }
        "ECR Scan Resource Change" => Ok(envelope.ignored("scan frequencies of repositories changed; the registry's configuration is read when it is needed")),
        other => Ok(envelope.ignored(format!("`{}` of aws.ecr is of no use to this version", shown(other)))),
    }
}

fn image_action(envelope: &Envelope<'_>) -> Result<Event, UnreadableEvent> {
    let detail = envelope.detail()?;
    if let Some(event) = without_success(envelope, &detail)? {
        return Ok(event);
    }
    let action = detail.text("action-type")?;
    if !matches!(action, "PUSH" | "DELETE" | "UPDATE_STORAGE_CLASS") {
        return Ok(envelope.ignored(format!("the action `{}` is of no use to this version", shown(action))));
    }
    let about = envelope.about(&detail)?;
    let artifact = Artifact::of(&detail, &about.tags)?;
    Ok(match (action, artifact) {
        ("PUSH", Some(Artifact { subject, media_type })) => Event::ArtifactPushed { about, subject, media_type },
        ("PUSH", None) => Event::ImagePushed { about, manifest: manifest(&detail)? },
        (_, Some(_)) => envelope.ignored("a signature, attestation or another artifact was deleted, archived or restored; no verdict hangs on that"),
        ("DELETE", None) => Event::ImageDeleted { about },
        (_, None) => match detail.text("target-storage-class")? {
            "ARCHIVE" => Event::ImageArchived { about },
            "STANDARD" => Event::ImageRestored { about },
            other => envelope.ignored(format!("the storage class `{}` is unknown to this version", shown(other))),
        },
    })
}

/// What stands beside an image (ECR calls it artifact or referrer) is never judged; only its arrival is news.
fn artifact_action(envelope: &Envelope<'_>) -> Result<Event, UnreadableEvent> {
    let detail = envelope.detail()?;
    if let Some(event) = without_success(envelope, &detail)? {
        return Ok(event);
    }
    match detail.text("action-type")? {
        "PUSH" => {
            let about = envelope.about(&detail)?;
            let subject = about.tags.iter().find_map(|tag| subject_of_tag(tag));
            let media_type = detail.text_if_any("artifact-media-type")?.map(str::to_owned);
            Ok(Event::ArtifactPushed { about, subject, media_type })
        }
        other => Ok(envelope.ignored(format!("`{}` of a signature, attestation or another artifact; no verdict hangs on that", shown(other)))),
    }
}

fn image_scan(envelope: &Envelope<'_>) -> Result<Event, UnreadableEvent> {
    let detail = envelope.detail()?;
    let status = detail.text("scan-status")?.to_owned();
    let counts = detail.counts_if_any("finding-severity-counts")?;
    Ok(Event::BasicScanEnded { about: envelope.about(&detail)?, status, counts })
}

fn replication(envelope: &Envelope<'_>) -> Result<Event, UnreadableEvent> {
    let detail = envelope.detail()?;
    if let Some(event) = without_success(envelope, &detail)? {
        return Ok(event);
    }
    let about = envelope.about(&detail)?;
    // The event holds no media type, so a replicated signature can be told by its tag alone.
    match about.tags.iter().find_map(|tag| subject_of_tag(tag)) {
        Some(subject) => Ok(Event::ArtifactPushed { about, subject: Some(subject), media_type: None }),
        None => Ok(Event::ImageReplicated { about }),
    }
}

/// An action that failed has changed nothing. One that does not say how it ended is worth a look: the registry knows.
fn without_success(envelope: &Envelope<'_>, detail: &Members<'_>) -> Result<Option<Event>, UnreadableEvent> {
    Ok(match detail.text_if_any("result")? {
        None | Some("SUCCESS") => None,
        Some(other) => Some(envelope.ignored(format!("its result is `{}`, so nothing has changed in the repository", shown(other)))),
    })
}

fn manifest(detail: &Members<'_>) -> Result<Manifest, UnreadableEvent> {
    Ok(match detail.text_if_any("manifest-media-type")?.map(media_type).as_deref() {
        None => Manifest::NotSaid,
        Some("application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json") => Manifest::Index,
        Some("application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json") => Manifest::Image,
        Some(_) => Manifest::Other,
    })
}

struct Artifact {
    subject: Option<ImageDigest>,
    media_type: Option<String>,
}

impl Artifact {
    /// What marks a push as no image. The tag comes first: a signature by tag has the media types of an ordinary image.
    fn of(detail: &Members<'_>, tags: &[String]) -> Result<Option<Self>, UnreadableEvent> {
        let artifact_type = detail.text_if_any("artifact-media-type")?;
        let found = |subject| Ok(Some(Self { subject, media_type: artifact_type.map(str::to_owned) }));
        if let Some(subject) = tags.iter().find_map(|tag| subject_of_tag(tag)) {
            return found(Some(subject));
        }
        // Clients that do not trust a registry to list referrers keep an index of them under the tag `sha256-HEX`.
        if manifest(detail)? == Manifest::Index
            && let Some(subject) = tags.iter().find_map(|tag| digest_in_tag(tag))
        {
            return found(Some(subject));
        }
        let is_artifact = match artifact_type.map(media_type).as_deref() {
            Some("application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json") => false,
            Some(_) => true,
            None => matches!(
                detail.text_if_any("manifest-media-type")?.map(media_type).as_deref(),
                Some("application/vnd.oci.artifact.manifest.v1+json" | "application/vnd.cncf.oras.artifact.manifest.v1+json")
            ),
        };
        if is_artifact { found(None) } else { Ok(None) }
    }
}
