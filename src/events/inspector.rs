//! Inspector's events: an image's first scan has ended, one finding has changed, an image came under coverage or left it.
//! Inspector scans more than images; what is about an instance, a function or a code repository is ignored.

use serde_json::Value;

use super::members::{Members, kind_of, shown};
use super::{About, Envelope, Event, UnreadableEvent, arn};

pub(super) fn read(envelope: &Envelope<'_>) -> Result<Event, UnreadableEvent> {
    match envelope.detail_type {
        "Inspector2 Scan" => scan(envelope),
        "Inspector2 Finding" => finding(envelope),
        "Inspector2 Coverage" => coverage(envelope),
        other => Ok(envelope.ignored(format!("`{}` of aws.inspector2 is of no use to this version", shown(other)))),
    }
}

/// Sent for the first scan of an image only; what changes later is told finding by finding.
fn scan(envelope: &Envelope<'_>) -> Result<Event, UnreadableEvent> {
    let detail = envelope.detail()?;
    let of_an_image = detail.get("image-digest").is_some() || detail.get("repository-name").is_some();
    if !of_an_image && let Some(other) = no_image(envelope, &detail) {
        return Ok(envelope.ignored(format!("a scan of `{}`, which is no image", shown(other))));
    }
    let status = detail.text("scan-status")?.to_owned();
    let counts = detail.counts_if_any("finding-severity-counts")?;
    Ok(Event::EnhancedScanEnded { about: envelope.about(&detail)?, status, counts })
}

/// What was scanned, when the event says plainly that it is something else than an image.
fn no_image<'a>(envelope: &Envelope<'a>, detail: &Members<'a>) -> Option<&'a str> {
    let resources = envelope.resources();
    if resources.iter().any(|resource| arn::is_of_ecr(resource)) {
        return None;
    }
    resources.first().copied().or_else(|| detail.get("instance-id")?.as_str())
}

fn finding(envelope: &Envelope<'_>) -> Result<Event, UnreadableEvent> {
    let detail = envelope.detail()?;
    let resource = affected(&detail)?;
    if let Some(resource) = &resource
        && let Some(kind) = resource.text_if_any("type")?
        && kind != "AWS_ECR_CONTAINER_IMAGE"
    {
        return Ok(envelope.ignored(format!("a finding on a resource of type `{}`, which is no image", shown(kind))));
    }
    let (id, tags) = match &resource {
        Some(resource) => (Some(resource.text("id")?), tags(resource)),
        None => (envelope.resources().first().copied(), Vec::new()),
    };
    let bad = |reason: String| match &resource {
        Some(resource) => resource.bad("id", reason),
        None => detail.bad("resources", reason),
    };
    let id = id.ok_or_else(|| bad("is missing".to_owned()))?;
    // The image's own ARN decides: the administrator of many accounts hears of all their images under its own account.
    let (repository, digest) = arn::image(id).ok_or_else(|| bad(format!("is `{}`, no ARN of an image in ECR", shown(id))))?;
    let about = About { digest, repository, tags, at: envelope.time() };
    let vulnerability = detail.get("packageVulnerabilityDetails").and_then(|details| details.get("vulnerabilityId")).and_then(Value::as_str);
    Ok(Event::FindingChanged {
        about,
        finding: detail.text("findingArn")?.to_owned(),
        status: detail.text("status")?.to_owned(),
        severity: detail.text_if_any("severity")?.map(str::to_owned),
        vulnerability: vulnerability.map(str::to_owned),
    })
}

/// The image among a finding's resources, else the first of them; `None` when the event lists none.
fn affected<'a>(detail: &Members<'a>) -> Result<Option<Members<'a>>, UnreadableEvent> {
    let list = match detail.get("resources") {
        None => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(detail.bad("resources", format!("is {}, expected a list", kind_of(other)))),
    };
    let is_image = |resource: &&Value| resource.get("type").is_some_and(|kind| kind == "AWS_ECR_CONTAINER_IMAGE");
    let position = list.iter().position(|resource| is_image(&resource)).unwrap_or(0);
    match list.get(position) {
        None => Ok(None),
        Some(Value::Object(resource)) => Ok(Some(detail.within(&format!("resources[{position}]"), resource))),
        Some(other) => Err(detail.bad(&format!("resources[{position}]"), format!("is {}, expected an object", kind_of(other)))),
    }
}

/// For people to see, so that nothing about them fails a finding.
fn tags(resource: &Members<'_>) -> Vec<String> {
    let list = ["awsEcrContainerImage", "image"].iter().find_map(|form| resource.get("details")?.get(form)?.get("imageTags")?.as_array());
    list.map(|tags| tags.iter().filter_map(Value::as_str).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()).unwrap_or_default()
}

fn coverage(envelope: &Envelope<'_>) -> Result<Event, UnreadableEvent> {
    let detail = envelope.detail()?;
    let resources = envelope.resources();
    let Some(first) = resources.first() else { return Err(envelope.members.bad("resources", "names nothing")) };
    let Some((repository, digest)) = resources.iter().find_map(|resource| arn::image(resource)) else {
        let half_an_image = resources.iter().find(|resource| arn::is_of_ecr(resource) && resource.contains("/sha256:"));
        return match half_an_image {
            Some(resource) => Err(envelope.members.bad("resources", format!("names `{}`, no ARN of an image in ECR", shown(resource)))),
            None => Ok(envelope.ignored(format!("coverage of `{}`, which is no image", shown(first)))),
        };
    };
    let scan = detail.inner("scanStatus")?;
    // The event says `statusCodeValue` where the API says `statusCode`.
    let status = match scan.text_if_any("statusCodeValue")? {
        Some(status) => status,
        None if scan.get("statusCode").is_some() => scan.text("statusCode")?,
        None => scan.text("statusCodeValue")?,
    };
    let about = About { digest, repository, tags: Vec::new(), at: envelope.time() };
    Ok(Event::CoverageChanged { about, status: status.to_owned(), reason: scan.text_if_any("reason")?.map(str::to_owned) })
}
