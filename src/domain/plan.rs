//! Plans: what to do where nobody waits for an answer. Steps are safe to repeat, since every event may arrive twice, and
//! their order carries meaning.

use jiff::{SignedDuration, Timestamp};

use super::head::{Kind, News};
use super::image::{ImageDigest, Repository};
use super::protocol::Resolved;
use super::protocol::wake::is_overdue;
use super::scan::{Reading, ScanSource, ScanState};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Remember(ImageDigest, News),
    StartScan(ImageDigest),
    /// Have on-scan look at those who wait for a signature of this.
    Signed(ImageDigest),
    /// Have on-scan read the image.
    Look(ImageDigest, SignedDuration),
}

/// What happened to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    pub repository: Repository,
    pub digest: ImageDigest,
    pub tags: Vec<String>,
    pub at: Option<Timestamp>,
}

/// An image arrived: remember what it is, and have it scanned where nobody else will.
///
/// Remember comes before StartScan: if we die between the two, the redelivered push starts the scan; the other way round a
/// scan could end for an image that nobody has heard of. An index comes before its images, so that an image that knows its
/// index always finds it.
pub fn for_push(push: &Pushed, is: &Resolved, scanned_on_demand_only: bool) -> Vec<Step> {
    let tags = || push.tags.iter().map(|tag| Some(tag.clone())).chain(push.tags.is_empty().then_some(None));
    let remember =
        |kind: &Kind| tags().map(|tag| Step::Remember(push.digest.clone(), News::Pushed { kind: kind.clone(), tag, at: push.at })).collect::<Vec<_>>();
    match is {
        Resolved::Image(digest) => {
            let mut steps = remember(&Kind::Image);
            if scanned_on_demand_only {
                steps.push(Step::StartScan(digest.clone()));
            }
            steps
        }
        Resolved::Index(index, children) => {
            let mut steps = remember(&Kind::Index(children.clone()));
            steps.extend(children.iter().map(|child| Step::Remember(child.digest.clone(), News::PartOf(index.clone()))));
            steps
        }
        // It may be a signature, for which somebody waits.
        Resolved::NotAnImage(.., Some(subject)) => vec![Step::Signed(subject.clone())],
        // Nothing to scan; or gone before we looked, of which its own event tells.
        Resolved::NotAnImage(..) | Resolved::NotFound | Resolved::OtherDigest | Resolved::Unusable(_) => Vec::new(),
    }
}

/// What came of asking for a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Started {
    Yes,
    /// ECR limits how often one image may be scanned. Good news: a scan exists, so there is something to wait for.
    Already,
    Unsupported,
    /// Inspector scans here, and nobody else may.
    RegistryIsEnhanced,
    NoImage,
    Archived,
}

/// What follows from it. ECR sends an event only for a scan that it starts, so where there was one already we look ourselves.
pub fn after_start(digest: &ImageDigest, started: Started, now: Timestamp) -> Vec<Step> {
    match started {
        Started::Yes | Started::RegistryIsEnhanced => Vec::new(),
        Started::Already | Started::Archived | Started::NoImage => vec![Step::Look(digest.clone(), SignedDuration::ZERO)],
        Started::Unsupported => {
            let reading = Reading::without_result(ScanSource::Basic, ScanState::Unsupported, "UnsupportedImageTypeException".to_owned(), now);
            vec![Step::Remember(digest.clone(), News::Scan(reading))]
        }
    }
}

/// Whether the sweep has to look at an open request: its time is over, or whoever claimed it has not sent the answer in time.
pub fn is_for_sweep(due: Option<Timestamp>, lease_until: Option<Timestamp>, now: Timestamp) -> bool {
    match lease_until {
        Some(lease_until) => lease_until <= now,
        // Without a time it is not one of ours, and looking at it costs little.
        None => due.is_none_or(|due| is_overdue(due, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::head::Child;

    fn digest(seed: &str) -> ImageDigest {
        ImageDigest::of(seed.as_bytes())
    }

    fn push(tags: &[&str]) -> Pushed {
        let repository = "arn:aws:ecr:eu-west-1:123456789012:repository/app".parse().unwrap();
        Pushed { repository, digest: digest("a"), tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), at: None }
    }

    #[test]
    fn an_image_is_remembered_before_its_scan_is_started() {
        let steps = for_push(&push(&["1.4.2"]), &Resolved::Image(digest("a")), true);
        assert!(matches!(steps.as_slice(), [Step::Remember(_, News::Pushed { kind: Kind::Image, .. }), Step::StartScan(_)]), "{steps:?}");
        let steps = for_push(&push(&[]), &Resolved::Image(digest("a")), false);
        assert!(matches!(steps.as_slice(), [Step::Remember(..)]), "somebody else scans it: {steps:?}");
    }

    #[test]
    fn an_index_is_not_scanned_and_its_images_know_it() {
        let child = Child { digest: digest("child"), platform: "linux/arm64".into() };
        let steps = for_push(&push(&["1.4.2"]), &Resolved::Index(digest("a"), vec![child.clone()]), true);
        assert_eq!(steps[1], Step::Remember(child.digest, News::PartOf(digest("a"))));
        assert_eq!(steps.len(), 2);
    }

    #[test]
    fn what_is_no_image_leaves_nothing_behind() {
        for is in [Resolved::NotAnImage(digest("a"), "application/x".into(), None), Resolved::NotFound] {
            assert_eq!(for_push(&push(&["1.4.2"]), &is, true), vec![], "{is:?}");
        }
        let signature = Resolved::NotAnImage(digest("a"), "application/vnd.cncf.notary.signature".into(), Some(digest("app")));
        assert_eq!(for_push(&push(&[]), &signature, true), vec![Step::Signed(digest("app"))], "what it is about may be waited for");
    }

    #[test]
    fn a_scan_that_exists_already_is_read_by_ourselves() {
        assert!(matches!(after_start(&digest("a"), Started::Already, Timestamp::UNIX_EPOCH).as_slice(), [Step::Look(..)]));
        assert!(after_start(&digest("a"), Started::Yes, Timestamp::UNIX_EPOCH).is_empty());
    }
}
