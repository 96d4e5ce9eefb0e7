//! Every sentence that a person will read. What, why, what next; the original construct's lines first and whole, then ours,
//! the image first. "Could not look" and "looked and refused" never share a sentence.

use super::finding::{Counts, Finding, FindingStatus};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::head::Child;
use super::image::{ImageDigest, Repository};
use super::judge::Judgement;
use super::request::{AskedScan, Gate, Reason, Request};
use super::scan::{ScanSource, ScanState};
use super::signature::standing::Refusal;
use super::signature::{self, say};

/// A blocked image: which one, under which policy, by what.
#[derive(Clone, Debug)]
pub struct Blocked<'a> {
    pub gate: &'a Gate,
    pub image: &'a Child,
    pub source: ScanSource,
    /// Of all that count and are not ignored.
    pub counts: &'a Counts,
    pub blocking: u64,
    /// What the findings say in detail; `None` when they could not be read.
    pub judgement: Option<&'a Judgement<'a>>,
    /// What has no rating and does not block.
    pub unrated: &'a Counts,
    /// How many other images of the same index block too.
    pub also: usize,
}

/// The original's five lines, then the image, what blocks it, and the way out.
pub fn found_vulnerabilities(blocked: &Blocked<'_>) -> Reason {
    let Blocked { gate, image, source, counts, blocking, judgement, unrated, also } = blocked;
    let subject = subject(&gate.repository, image);
    let noun = if *blocking == 1 { "finding blocks" } else { "findings block" };
    let opening = format!(
        "ECR Image Scan found vulnerabilities.\nImage: {}\nScan Type: {source}\nFindings: {}\nSee scan logs for details.\n\n{subject}: {blocking} {noun} ({}):",
        gate.label(),
        originals(counts),
        gate.policy.severity,
    );
    let mut closing = Vec::new();
    match judgement {
        Some(judgement) => closing.extend(beyond_severity(judgement)),
        None => closing.push("  (the list of findings could not be read; the counts are those of the scan)".to_owned()),
    }
    if !unrated.is_empty() {
        closing.push(format!("Without a rating, not blocking: {unrated}."));
    }
    if *also > 0 {
        closing.push(format!("{also} more of the index's images {}.", if *also == 1 { "blocks" } else { "block" }));
    }
    closing.push("Rebuild with the fix, or add an exemption with a reason and a last day.".to_owned());
    closing.push(everything(&gate.repository, &image.digest));
    let list = judgement.map(|judgement| judgement.blocking.iter().map(|finding| finding_line(finding)).collect());
    Reason { opening, list: list.unwrap_or_default(), of: *blocking, closing: closing.join("\n") }
}

/// The original construct's five lines about what blocks, without ours.
pub fn objection(reason: &Reason) -> String {
    reason.opening.split("\n\n").next().unwrap_or_default().to_owned()
}

/// What a policy says beyond severities, and what is excused by it, in a line each.
fn beyond_severity(judgement: &Judgement<'_>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (severity, (found, most)) in &judgement.too_many {
        lines.push(format!("{found} {} findings, and `maxFindings` allows {most}.", severity.word()));
    }
    if !judgement.ignored.is_empty() {
        lines.push(format!("{} more ignored by `ignoreFindings`.", judgement.ignored.len()));
    }
    if let Some((_, first)) = judgement.exempt.iter().min_by_key(|(_, exemption)| exemption.until) {
        lines.push(format!("{} more exempt, the first until {} ({:.80}).", judgement.exempt.len(), first.until, first.reason));
    }
    for exemption in judgement.ended_exemptions.iter().take(3) {
        lines.push(format!("The exemption of {} ended on {} and excuses nothing.", exemption.id, exemption.until));
    }
    if let Some((finding, first)) = judgement.in_grace.iter().min_by_key(|(_, until)| *until) {
        let day = TimeZone::UTC.to_datetime(*first).date();
        lines.push(format!("{} more in grace; {} blocks from {day} on.", judgement.in_grace.len(), finding.id));
    }
    lines
}

/// The counts as the original construct prints them: it knows no UNTRIAGED, nor any word that ECR does not document.
pub fn originals(counts: &Counts) -> String {
    let known = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED"];
    let parts: Vec<String> = counts.iter().filter(|(word, _)| known.contains(word)).map(|(word, count)| format!("{word}: {count}")).collect();
    parts.join(", ")
}

/// One finding on one line: how bad, what, where, and what fixes it.
pub fn finding_line(finding: &Finding) -> String {
    let mut line = format!("  {:<13} {}", finding.severity.word(), finding.id);
    match finding.packages.as_slice() {
        [] => {}
        [first, rest @ ..] => {
            line += &format!("  {}", first.name);
            if let Some(version) = &first.version {
                line += &format!(" {version}");
            }
            line += &match &first.fixed_in {
                Some(fixed) => format!(", fixed in {fixed}"),
                None => ", no fix known".to_owned(),
            };
            if !rest.is_empty() {
                line += &format!(" (and in {} more package{})", rest.len(), if rest.len() == 1 { "" } else { "s" });
            }
        }
    }
    if let Some(epss) = finding.epss {
        line += &format!(", EPSS {epss}");
    }
    match finding.status {
        FindingStatus::Active => {}
        FindingStatus::Suppressed => line += " [suppressed]",
        FindingStatus::Closed => line += " [closed]",
    }
    line
}

/// `repository@digest`, with the platform of an index's image.
fn subject(repository: &Repository, image: &Child) -> String {
    if image.platform.is_empty() {
        format!("{}@{}", repository.name, image.digest)
    } else {
        format!("{}@{} ({})", repository.name, image.digest, image.platform)
    }
}

fn everything(repository: &Repository, digest: &ImageDigest) -> String {
    format!("Everything: ecr-scan-verifier explain {}@{digest}", repository.name)
}

/// Why there is no result that could be judged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotYet<'a> {
    State(&'a ScanState),
    /// The scan is complete, and its list of findings not yet proven whole.
    Unsettled,
    /// The record does not hold the findings that this policy needs.
    FindingsGone,
    /// Inspector has not been asked yet how likely the findings are exploited, or has not answered.
    NoEpss,
    /// The scan of that moment is older than `maxScanAge`, and a newer one has not ended.
    TooOld(Timestamp),
}

impl NotYet<'_> {
    fn word(&self) -> &str {
        match self {
            Self::State(state) => state.word(),
            Self::Unsettled => "UNPROVEN",
            Self::FindingsGone => "FINDINGS_NOT_RECORDED",
            Self::NoEpss => "EPSS_NOT_RECORDED",
            Self::TooOld(_) => "SCAN_TOO_OLD",
        }
    }

    fn way_out(&self) -> &'static str {
        match self {
            Self::State(ScanState::NotFound) => "Nobody has scanned it: have it scanned, and deploy again.",
            Self::State(ScanState::CountsDisagree) => {
                "The scanner counts more findings than it lists, read after read. Scan the image again, and deploy when that scan has ended."
            }
            Self::State(ScanState::FindingsUnavailable) => {
                "The scanner does not give the findings out. Scan the image again, and deploy when that scan has ended."
            }
            Self::State(ScanState::LimitExceeded) => "ECR limits how often an image may be scanned. Deploy again when there is a result.",
            Self::State(ScanState::Unknown(_)) => {
                "This version does not know that word of the scanner, so it does not let the image through. Update ecr-scan-verifier, or look at the image in the ECR console."
            }
            Self::State(_) => "Deploy again when the scan has ended, or wait longer: raise `pollingTimeout`.",
            Self::Unsettled => "The scan has ended, but its list of findings may still be filling up. Deploy again in a minute.",
            Self::TooOld(_) => {
                "The last scan is older than `maxScanAge`, and nobody has scanned the image again. Start its scan, and deploy when that has ended."
            }
            Self::NoEpss => {
                "Inspector's list of how likely the findings are exploited (EPSS), which this policy asks for, could not be read in time. Deploy again."
            }
            Self::FindingsGone => "The findings that this policy needs are not recorded. Deploy again when the image has been read again.",
        }
    }
}

/// The time for waiting is over. The original construct's sentence, then the image that it hangs on and what is known of it.
/// `listed`: how many findings block in a list that is not complete.
pub fn timed_out(request: &Request, waits_for: Option<(&Child, NotYet<'_>)>, listed: Option<u64>) -> Reason {
    let gate = request.gate.as_ref().ok();
    // The original construct asked every five seconds, and counted in these.
    let seconds = gate.map_or(0, |gate| gate.polling_timeout_s.div_ceil(5) * 5);
    let opening = match waits_for {
        // It waits for no scan.
        _ if gate.is_some_and(|gate| gate.scan == AskedScan::SignatureOnly) => format!("Signature verification timed out after {seconds} seconds."),
        Some((_, NotYet::State(ScanState::NotFound))) => format!(
            "No scan results found for the image after {seconds} seconds. Ensure that image scanning is enabled for this repository. If using Enhanced scanning (Amazon Inspector), verify that the repository is included in Inspector's coverage."
        ),
        _ => format!("ECR image scan timed out after {seconds} seconds. The scan may still be in progress. Check the ECR console for results."),
    };
    let Some(gate) = gate else { return Reason::new(opening) };
    let closing = match waits_for {
        Some((image, why)) => {
            let listed = listed.map(|n| format!("\n{n} of the findings that are listed so far {} under this policy.", if n == 1 { "blocks" } else { "block" }));
            format!(
                "\n{}: no complete scan result ({}).{}\n{}\n{}",
                subject(&gate.repository, image),
                why.word(),
                listed.unwrap_or_default(),
                why.way_out(),
                everything(&gate.repository, &image.digest)
            )
        }
        None => format!("\n{}: nobody could look in time.\nDeploy again; the functions' logs say what kept them.", gate.label()),
    };
    Reason { opening, closing, ..Reason::default() }
}

/// Nobody has deployed it, only asked whether a deployment would pass.
pub fn may_be_deployed(gate: &Gate, digest: &ImageDigest) -> String {
    let why = match (gate.scan, &gate.signatures) {
        (AskedScan::SignatureOnly, _) => "it is signed as asked".to_owned(),
        (_, None) => format!("nothing blocks ({})", gate.policy.severity),
        (_, Some(_)) => format!("nothing blocks ({}), and its signature was checked", gate.policy.severity),
    };
    format!("{}@{digest}: {why}. It may be deployed.", gate.repository.name)
}

/// The same, where the gate reports what blocks and lets it through.
pub fn let_through_all_the_same(reason: &Reason) -> String {
    format!("{}\n\nIt may be deployed all the same: `failOnVulnerability` is false.", reason.text())
}

/// The same, of an image that no scanner can scan.
pub fn let_through_unscanned(gate: &Gate, image: &Child) -> String {
    format!(
        "{}: not scanned ({}), since no scanner can scan it.\nIt may be deployed all the same: `onUnscanned` says so.",
        subject(&gate.repository, image),
        ScanState::Unsupported.word()
    )
}

/// The same, where a deployment would have to wait.
pub fn would_wait(gate: &Gate, image: &Child, why: NotYet<'_>, listed: Option<u64>) -> String {
    let next = match why {
        NotYet::State(ScanState::NotFound) => {
            "Nobody has scanned it, as far as the scanner says. Have it scanned, or ask again when its scan has had time to begin."
        }
        NotYet::State(ScanState::CountsDisagree | ScanState::FindingsUnavailable | ScanState::Unknown(_)) | NotYet::TooOld(_) => why.way_out(),
        NotYet::NoEpss => {
            "Inspector's list of how likely the findings are exploited (EPSS), which this policy asks for, has not been read. It is read where a deployment, or the pipeline's own policy, asks for it."
        }
        _ => "Ask again when the scan has ended and its findings have been read.",
    };
    let listed = listed.map(|n| format!("\n{n} of the findings that are listed so far {} under this policy.", if n == 1 { "blocks" } else { "block" }));
    format!(
        "{} is not judged yet: a deployment would wait.\n{}: no complete scan result ({}).{}\n{next}\n{}",
        gate.label(),
        subject(&gate.repository, image),
        why.word(),
        listed.unwrap_or_default(),
        everything(&gate.repository, &image.digest)
    )
}

/// What a log says of an image that is signed as asked.
pub const SIGNED: &str = "Signature verification succeeded";

/// The original construct's lines, then of each signer that is missing why, and the way out.
pub fn unsigned(gate: &Gate, refusal: &Refusal) -> Reason {
    let subject = subject(&gate.repository, &refusal.image);
    let missing: Vec<String> = match &refusal.verdict {
        signature::verdict::Verdict::Refused(missing) => missing.iter().map(|one| say::refused(&subject, one)).collect(),
        signature::verdict::Verdict::Verified(_) => Vec::new(),
    };
    let closing = if refusal.is_forgivable {
        format!(
            "See for yourself: ecr-scan-verifier verify-signature {}@{}, with --key, --kms or --signer-profile.",
            gate.repository.name, refusal.image.digest
        )
    } else {
        String::new()
    };
    Reason { opening: format!("{}\n", unsigned_in_the_originals_words(gate, refusal)), of: missing.len() as u64, list: missing, closing }
}

pub fn unsigned_in_the_originals_words(gate: &Gate, refusal: &Refusal) -> String {
    format!("Signature verification failed for image: {}\nSignature verification failed: {}", gate.label(), cause(gate, refusal))
}

/// `failOnUnsigned: false`.
pub fn unsigned_and_let_through(gate: &Gate, refusal: &Refusal) -> String {
    format!(
        "Signature verification failed for image: {}\n{}\nContinuing to scan despite unsigned image (failOnUnsigned=false).",
        gate.label(),
        cause(gate, refusal)
    )
}

/// Why it does not count as signed, in a line.
pub fn cause(gate: &Gate, refusal: &Refusal) -> String {
    let why = refusal.verdict.reason().map(say::why).unwrap_or_default();
    match gate.signatures.as_ref().map(|asked| asked.kind()) {
        Some("COSIGN") => format!("Cosign verify failed: {why}"),
        _ => why,
    }
}

/// Nobody has deployed it, only asked.
pub fn would_wait_for_signature(gate: &Gate, refusal: &Refusal) -> String {
    let why = if refusal.is_forgivable { "was pushed a moment ago and is not signed as asked yet" } else { "could not be checked for its signature" };
    let subject = subject(&gate.repository, &refusal.image);
    format!("{} {why}: a deployment would wait.\n{}", gate.label(), say::verdict(&subject, &refusal.verdict))
}

/// A newer request of the same resource took this one's place; nobody waits for its answer any more.
pub fn superseded() -> Reason {
    Reason::new("superseded by a later request for the same resource")
}

/// Every attempt to judge it failed.
pub fn given_up(gate: &Gate, why: &str) -> Reason {
    Reason::new(format!(
        "{} could not be judged: {why:.500}\nNothing was let through. Deploy again when the cause is gone; the logs of the function on-deploy say more.",
        gate.label()
    ))
}

/// It is in the registry, and cannot be used as an image.
pub fn unusable(gate: &Gate, why: &str) -> Reason {
    Reason::new(format!("{} cannot be judged: {why}.\nPush the image again in a current format, and deploy that one.", gate.label()))
}

/// `strictOutputs`: what was to be written could not be.
pub fn outputs_failed(gate: &Gate, why: &str) -> Reason {
    Reason::new(format!(
        "{} may pass, but `strictOutputs` asks for its outputs to be written first: {why:.1000}\nDeploy again when the cause is gone, or set `strictOutputs: false`: then outputs decide nothing.",
        gate.label()
    ))
}

pub fn policy_too_large(gate: &Gate, most: usize) -> Reason {
    Reason::new(format!(
        "The policy for {} is longer than {most} bytes, which is more than can be kept with a deployment.\nShorten `ignoreFindings`, or what is exempt.",
        gate.label()
    ))
}

/// The image has no scan result, and waiting does not bring one.
pub fn unscanned(gate: &Gate, image: &Child, state: &ScanState) -> Reason {
    let label = gate.label();
    let (opening, next) = match state {
        ScanState::Failed(why) => (format!("ECR image scan failed: {why}"), "Push the image again, or start its scan again, and deploy when that has ended."),
        ScanState::Unsupported => (
            "ECR image scan failed: Image is not supported for scanning.".to_owned(),
            "The scanner does not know its operating system, architecture or media type: build on a supported base image.",
        ),
        ScanState::EligibilityExpired => (
            format!("The scan of {label} has expired: Amazon Inspector does not watch this image any more."),
            "Pull or push the image, or lengthen Inspector's re-scan duration, and deploy when it has been scanned again.",
        ),
        ScanState::Archived => (format!("{label} is archived in ECR and cannot be deployed."), "Restore the image, wait until it is ACTIVE, and deploy again."),
        ScanState::Deleted => (format!("{label} does not exist in ECR."), "Push the image, and deploy when it has been scanned."),
        other => (format!("{label} has no scan result ({}).", other.word()), "Scan the image again."),
    };
    let closing = format!("{}: not scanned ({}).\n{next}\n{}", subject(&gate.repository, image), state.word(), everything(&gate.repository, &image.digest));
    Reason { opening, closing, ..Reason::default() }
}

/// BASIC was asked, with a scan of our own, and the registry scans with Inspector.
pub fn start_scan_is_disabled() -> Reason {
    Reason::new(
        "StartImageScan is disabled because Enhanced scanning (Amazon Inspector) is enabled on this account. Use ScanConfig.enhanced() instead of ScanConfig.basic().\n\
         (Or keep basic and set `startScan: false`: the image is then judged by Inspector's findings.)",
    )
}

/// ENHANCED was asked, and the registry scans with basic scanning.
pub fn enhanced_is_off(gate: &Gate) -> Reason {
    Reason::new(format!(
        "{} was to be judged by Enhanced scanning, but the registry's scan type is BASIC.\n\
         Enable Enhanced scanning (Amazon Inspector) in the registry's scanning configuration, or use ScanConfig.basic().",
        gate.label()
    ))
}

/// A scan that is older than the gate allows, where nobody here can start another.
pub fn scan_too_old(gate: &Gate, image: &Child, source: ScanSource, scanned_at: Timestamp, now: Timestamp) -> Reason {
    let days = now.duration_since(scanned_at).as_hours() / 24;
    let hours = now.duration_since(scanned_at).as_hours() % 24;
    let most = gate.max_scan_age().unwrap_or_default();
    let next = match source {
        ScanSource::Basic => "Start its scan (`aws ecr start-image-scan`), or let the gate do so with `startScan: true`; or raise `maxScanAge`.",
        ScanSource::Enhanced => {
            "Amazon Inspector scans again by itself, as long as the image is in its re-scan duration: push or pull the image; or raise `maxScanAge`."
        }
    };
    Reason::new(format!(
        "The scan of {} is {days} days and {hours} hours old ({scanned_at}), and `maxScanAge` is {} hours.\n{}: scanned by {source}.\n{next}\n{}",
        gate.label(),
        most.as_hours(),
        subject(&gate.repository, image),
        everything(&gate.repository, &image.digest)
    ))
}

/// Nobody has scanned the image, and nobody is going to.
pub fn nobody_scans(gate: &Gate, image: &Child, source: Option<ScanSource>) -> Reason {
    let name = &gate.repository.name;
    let next = match source {
        Some(ScanSource::Enhanced) => {
            "Add a filter that matches it to the registry's scanning configuration (Enhanced scanning, continuous or on push), then push the image again."
        }
        _ => "Turn scan on push on for it, start the scan (`aws ecr start-image-scan`), or let the gate do so with `startScan: true`; then deploy again.",
    };
    Reason::new(format!(
        "No scan results found for the image, and images of {name} are not scanned unless somebody asks (its scan frequency is MANUAL).\n{}: never scanned.\n{next}\n{}",
        subject(&gate.repository, image),
        everything(&gate.repository, &image.digest)
    ))
}

/// The policy asks for what only Inspector knows.
pub fn basic_does_not_say(gate: &Gate, members: &[&str]) -> Reason {
    Reason::new(format!(
        "{} was scanned by basic scanning, which does not say what `{}` asks for.\n\
         Use Enhanced scanning (Amazon Inspector), or take it out of the policy.",
        gate.label(),
        members.join("`, `")
    ))
}

pub fn image_not_found(gate: &Gate) -> Reason {
    Reason::new(format!(
        "{} does not exist in ECR (account {}, region {}).\nPush the image first, or correct `repository` and `imageTag`.",
        gate.label(),
        gate.repository.account,
        gate.repository.region
    ))
}

pub fn tag_moved(gate: &Gate, expected: &ImageDigest) -> Reason {
    Reason::new(format!(
        "{} does not name {expected} any more: the tag was moved after this template was made.\nDeploy again to judge the image that the tag names now, or deploy by digest.",
        gate.label()
    ))
}

pub fn tag_moved_while_waiting(gate: &Gate, waited_for: &ImageDigest) -> Reason {
    Reason::new(format!(
        "{} does not name {waited_for} any more: the tag was moved while this deployment waited for that image's scan.\nDeploy again to judge the image that the tag names now, or deploy by digest.",
        gate.label()
    ))
}

pub fn not_an_image(gate: &Gate, media_type: &str) -> Reason {
    Reason::new(format!("{} is not an image, but `{media_type}`: there is nothing to scan.\nCorrect `imageTag`.", gate.label()))
}

pub fn index_without_images(gate: &Gate) -> Reason {
    Reason::new(format!("{} is an index without a single image in it.\nPush an image under this tag.", gate.label()))
}

pub fn no_such_platform(gate: &Gate, platform: &str, has: &[Child]) -> Reason {
    let mut has: Vec<&str> = has.iter().map(|child| if child.platform.is_empty() { "(unnamed)" } else { child.platform.as_str() }).collect();
    has.sort_unstable();
    has.dedup();
    Reason::new(format!("{} has no image for {platform}; it has {}.\nPush one, or correct `platforms`.", gate.label(), has.join(", ")))
}

pub fn index_too_large(gate: &Gate, images: usize, most: usize) -> Reason {
    Reason::new(format!("{} is an index of {images} images; at most {most} can be judged together.\nDeploy one of its images by digest.", gate.label()))
}

/// A repository that this pipeline cannot see.
pub fn foreign_repository(gate: &Gate, account: &str, region: &str) -> Reason {
    let Repository { account: other_account, region: other_region, name, .. } = &gate.repository;
    Reason::new(format!(
        "Repository {name} is in account {other_account}, region {other_region}; this gate judges images of account {account}, region {region} alone.\n\
         Deploy from a repository of this account and region (ECR can replicate), and scan the image there.",
    ))
}

pub fn rollback_without_record(gate: &Gate) -> Reason {
    Reason::new(format!(
        "No complete scan result for {} is recorded, and `suppressErrorOnRollback: false` asks for one in a rollback too.\nContinue the rollback when the image has been scanned, or skip this resource in it.",
        gate.label()
    ))
}
