//! The walk: everything that is deployed, and everything that lies in the registry, looked at once, a page at a time.
//!
//! Every event can be lost on its way here, so once a day somebody goes and compares. A walk takes longer than a function
//! may run: where it is stands in a table, and each minute somebody goes on from there. Here is decided what to do about
//! what is met on the way, where the way leads, and who may walk.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::head::{Head, Kind};
use super::image::{ImageDigest, Repository};
use super::manifest;
use super::scan::{ScanState, Standing};

/// What was asked or pushed so lately may still be on its way: nobody has to make up for it yet.
const LATELY: SignedDuration = SignedDuration::from_hours(1);
/// A scan that is younger is today's: ECR scans an image once a day.
const TODAYS: SignedDuration = SignedDuration::from_hours(20);
/// A walk that is not over after so long is not coming to an end; a new one begins.
const ENDLESS: SignedDuration = SignedDuration::from_hours(24 * 7);
/// Longer than the function may run: who still holds the walk then is dead.
const LEASE: SignedDuration = SignedDuration::from_secs(75);
/// So often a page is tried, then it is passed over: one that nobody can read does not end the walk.
const TRIES: u32 = 5;
/// What on-scan and the scanner's API are asked to bear beside the day's events.
const LOOKS_PER_SECOND: u64 = 10;
/// SQS delays a message no longer.
const LONGEST_DELAY: SignedDuration = SignedDuration::from_secs(900);
/// So many images are kept in mind for a new scan: 100 KB of the walk's item, which DynamoDB limits to 400.
pub const RESCANS_IN_MIND: usize = 500;
/// A head has room for no more.
const TAGS: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Walker {
    /// Once a day.
    Daily,
    /// Once, when a pipeline is made: what has been in the registry before it.
    Backfill,
}

/// A walk, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    pub walker: Walker,
    pub began_at: Timestamp,
    pub place: Place,
    #[serde(default)]
    pub found: Found,
    /// Images to be scanned again, the oldest scan first.
    #[serde(default)]
    pub rescans: Vec<Rescan>,
    /// CloudFormation does not tell this function of stacks. Said once, and not asked again.
    #[serde(default)]
    pub stacks_are_denied: bool,
    /// Repositories that this function may not read have been met, and said so.
    #[serde(default)]
    pub repositories_are_denied: bool,
}

/// Where a walk is. `page`: where the list goes on; without it, at its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Deployed {
        page: Option<String>,
    },
    Rescans,
    /// The next repositories are to be listed.
    Repositories {
        page: Option<String>,
    },
    Images(Here),
    /// What is recorded of the repository: is it all there?
    Heads(Here),
    Over,
}

/// In a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    pub repository: Repository,
    pub page: Option<String>,
    /// The repositories that come after it.
    pub then: Vec<Repository>,
    /// Where their list goes on.
    pub more: Option<String>,
}

/// What a walk has met and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    pub repositories: u64,
    /// Live deployments' images, and those in the registry.
    pub images: u64,
    pub looked_again: u64,
    /// Nobody had told of them.
    pub remembered: u64,
    /// Known, and never judged, or taken for deleted.
    pub never_judged: u64,
    pub rescans: u64,
    /// Deployments that CloudFormation does not know any more.
    pub closed: u64,
    /// Recorded, and not in the registry any more.
    pub forgotten: u64,
    pub errors: u64,
}

impl Found {
    /// What news should have told.
    pub fn repaired(&self) -> u64 {
        self.remembered + self.never_judged + self.closed + self.forgotten
    }
}

/// An image whose scan is not of today.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rescan {
    /// Never comes first.
    pub scanned_at: Option<Timestamp>,
    pub digest: ImageDigest,
    pub repository: Repository,
}

impl Walk {
    pub fn begin(walker: Walker, now: Timestamp) -> Self {
        let place = match walker {
            Walker::Daily => Place::Deployed { page: None },
            Walker::Backfill => Place::Repositories { page: None },
        };
        Self { walker, began_at: now, place, found: Found::default(), rescans: Vec::new(), stacks_are_denied: false, repositories_are_denied: false }
    }

    /// One of which nothing is known but that it is over.
    pub fn ended(walker: Walker) -> Self {
        Self { place: Place::Over, ..Self::begin(walker, Timestamp::UNIX_EPOCH) }
    }

    pub fn is_over(&self) -> bool {
        self.place == Place::Over
    }

    /// This page is done; `next` is where its list goes on.
    pub fn go_on(&mut self, next: Option<String>, sweeps_registry: bool) {
        let after_deployed = if sweeps_registry { Place::Repositories { page: None } } else { Place::Over };
        self.place = match (std::mem::replace(&mut self.place, Place::Over), next) {
            (Place::Deployed { .. }, Some(page)) => Place::Deployed { page: Some(page) },
            (Place::Deployed { .. }, None) if !self.rescans.is_empty() => Place::Rescans,
            (Place::Rescans, _) if !self.rescans.is_empty() => Place::Rescans,
            (Place::Deployed { .. } | Place::Rescans, _) => after_deployed,
            (Place::Repositories { .. }, Some(page)) => Place::Repositories { page: Some(page) },
            (Place::Images(here), Some(page)) => Place::Images(Here { page: Some(page), ..here }),
            (Place::Images(here), None) => Place::Heads(Here { page: None, ..here }),
            (Place::Heads(here), Some(page)) => Place::Heads(Here { page: Some(page), ..here }),
            (Place::Heads(here), None) => match (here.then.is_empty(), here.more) {
                (true, Some(page)) => Place::Repositories { page: Some(page) },
                (_, more) => first_of(here.then, more),
            },
            (Place::Repositories { .. } | Place::Over, _) => Place::Over,
        };
    }

    /// These are the repositories that come next.
    pub fn go_through(&mut self, repositories: Vec<Repository>, more: Option<String>) {
        self.place = match (repositories.is_empty(), more) {
            (true, Some(page)) => Place::Repositories { page: Some(page) },
            (_, more) => first_of(repositories, more),
        };
    }

    /// Leaves the list that it is in.
    pub fn pass_over(&mut self, sweeps_registry: bool) {
        self.rescans.clear();
        self.go_on(None, sweeps_registry);
    }

    /// Leaves the repository that it is in.
    pub fn pass_by_repository(&mut self) {
        if let Place::Images(here) = &self.place {
            self.place = Place::Heads(here.clone());
        }
        if let Place::Heads(_) = &self.place {
            self.go_on(None, false);
        }
    }

    /// When the next look again is to happen: not all in one moment.
    pub fn look_again_after(&self, now: Timestamp) -> SignedDuration {
        let turn = SignedDuration::from_secs(i64::try_from(self.found.looked_again / LOOKS_PER_SECOND).unwrap_or(i64::MAX));
        // A walk that takes its time spreads them by itself.
        turn.saturating_sub(now.duration_since(self.began_at)).clamp(SignedDuration::ZERO, LONGEST_DELAY)
    }

    /// Keeps those of the images in mind that were scanned longest ago. What comes back has to be scanned at once: the allowance
    /// is for more than can be kept in mind, and so no order but that of the ones met so far is to be had. An allowance of up to
    /// [`RESCANS_IN_MIND`] goes to the oldest scans of all.
    pub fn keep_in_mind(&mut self, met: Vec<Rescan>, allowance: u32) -> Vec<Rescan> {
        let left = usize::try_from(u64::from(allowance).saturating_sub(self.found.rescans)).unwrap_or(usize::MAX);
        self.rescans.extend(met);
        self.rescans.sort();
        self.rescans.dedup_by(|one, other| (&one.digest, &one.repository) == (&other.digest, &other.repository));
        let no_room = self.rescans.len().saturating_sub(RESCANS_IN_MIND);
        let at_once = no_room.min(left.saturating_sub(RESCANS_IN_MIND));
        let at_once = self.rescans.drain(..at_once).collect::<Vec<_>>();
        self.rescans.truncate(RESCANS_IN_MIND.min(left - at_once.len()));
        at_once
    }
}

fn first_of(mut repositories: Vec<Repository>, more: Option<String>) -> Place {
    if repositories.is_empty() {
        return Place::Over;
    }
    let repository = repositories.remove(0);
    Place::Images(Here { repository, page: None, then: repositories, more })
}

/// A walk as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub walk: Walk,
    /// Until then somebody may be walking.
    pub lease_until: Timestamp,
    /// How often somebody has set out from this very page.
    pub tries: u32,
    /// Counts the writes of the row: each expects the one before it.
    pub version: u64,
}

impl Kept {
    /// The walk that begins where `known` was, unless that one is still under way.
    pub fn begin(walker: Walker, known: Option<&Self>, now: Timestamp) -> Option<Self> {
        let is_under_way = |known: &&Self| !known.walk.is_over() && now.duration_since(known.walk.began_at) < ENDLESS;
        if known.filter(is_under_way).is_some() {
            return None;
        }
        let version = known.map_or(0, |known| known.version) + 1;
        Some(Self { walk: Walk::begin(walker, now), lease_until: Timestamp::UNIX_EPOCH, tries: 0, version })
    }

    /// Takes the walk upon oneself, unless it is over or somebody else may be at it. A page that was tried too often is passed over.
    pub fn set_out(&self, sweeps_registry: bool, now: Timestamp) -> Option<Self> {
        if self.walk.is_over() || self.lease_until > now {
            return None;
        }
        let mut next =
            Self { lease_until: now.saturating_add(LEASE).unwrap_or(now), tries: self.tries + 1, version: self.version + 1, walk: self.walk.clone() };
        if next.tries > TRIES {
            next.walk.found.errors += 1;
            next.walk.pass_over(sweeps_registry);
            next.tries = 1;
        }
        Some(next)
    }

    /// A page is done.
    pub fn is_further(&mut self) {
        self.tries = 0;
        self.version += 1;
    }

    /// The time is up; whoever comes next goes on.
    pub fn rest(&mut self) {
        self.lease_until = Timestamp::UNIX_EPOCH;
        self.version += 1;
    }
}

/// What CloudFormation says of a resource that is recorded as deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Lives,
    Gone,
    /// Nobody could ask. That is never "gone".
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForDeployment {
    LookAgain,
    /// Nothing that was asked before this moment is deployed there any more.
    Close {
        asked_before: Timestamp,
    },
}

/// Whether CloudFormation is worth asking: of a younger row its stack may be in the middle of making it.
pub fn is_settled(asked_at: Option<Timestamp>, now: Timestamp) -> bool {
    asked_at.is_some_and(|asked_at| now.duration_since(asked_at) >= LATELY)
}

pub fn for_deployment(asked_at: Option<Timestamp>, said: Said, now: Timestamp) -> ForDeployment {
    if said == Said::Gone && is_settled(asked_at, now) {
        // Not what has been asked since: should there be any, the resource has been made anew.
        ForDeployment::Close { asked_before: now.saturating_sub(LATELY).unwrap_or(now) }
    } else {
        ForDeployment::LookAgain
    }
}

/// A live image whose basic scan is to be renewed, if the allowance reaches so far.
pub fn is_to_rescan(head: Option<&Head>, now: Timestamp) -> Option<Option<Timestamp>> {
    let Some(head) = head else { return Some(None) };
    // An index is not scanned; and of these the scanner will say the same again.
    if matches!(head.kind, Kind::Index(_)) || matches!(head.state(), ScanState::Unsupported | ScanState::Archived | ScanState::Deleted) {
        return None;
    }
    let scanned_at = head.valid_result().map(|result| result.completed_at);
    scanned_at.is_none_or(|at| now.duration_since(at) >= TODAYS).then_some(scanned_at)
}

/// An entry of a repository's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub digest: ImageDigest,
    pub tags: Vec<String>,
    pub pushed_at: Option<Timestamp>,
    pub media_type: Option<String>,
    pub artifact_type: Option<String>,
}

impl Listed {
    /// Nobody has to read its manifest.
    pub fn is_plainly_an_image(&self) -> bool {
        manifest::is_plainly_an_image(&self.tags, self.media_type.as_deref(), self.artifact_type.as_deref())
    }

    /// As many of its tags as are worth a write.
    pub fn some_tags(&self) -> Vec<String> {
        self.tags.iter().take(TAGS).cloned().collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForImage {
    Nothing,
    /// As a push that nobody has told of.
    Remember,
    /// It is known, and has never been judged; or it was away.
    LookAgain,
}

/// What to do about an image of the registry. What was pushed a moment ago is left to its own event.
pub fn for_image(image: &Listed, head: Option<&Head>, now: Timestamp) -> ForImage {
    let is_old = |pushed_at: Option<Timestamp>| pushed_at.is_none_or(|at| now.duration_since(at) >= LATELY);
    match head {
        _ if !manifest::may_be_an_image(&image.tags, image.media_type.as_deref(), image.artifact_type.as_deref()) => ForImage::Nothing,
        None => ForImage::Remember,
        Some(head) if head.kind == Kind::Unknown => ForImage::Remember,
        Some(head) => {
            let is_open = head.kind == Kind::Image && head.valid_result().is_none() && head.state().standing() == Standing::Pending;
            // It is listed, so it is back.
            let was_away = matches!(head.state(), ScanState::Archived | ScanState::Deleted);
            let is_news = was_away || is_open && is_old(image.pushed_at.or(head.pushed_at));
            if is_news { ForImage::LookAgain } else { ForImage::Nothing }
        }
    }
}

/// Whether a record says that its image is there. (What is archived is not listed, so its list says nothing of it.)
pub fn is_said_to_be_there(head: &Head) -> bool {
    !matches!(head.state(), ScanState::Archived | ScanState::Deleted)
}

impl fmt::Display for Walker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Daily => "daily",
            Self::Backfill => "backfill",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployed { .. } => f.write_str("the live deployments"),
            Self::Rescans => f.write_str("the new scans"),
            Self::Repositories { .. } => f.write_str("the list of repositories"),
            Self::Images(here) => write!(f, "the images of {}", here.repository.name),
            Self::Heads(here) => write!(f, "what is recorded of {}", here.repository.name),
            Self::Over => f.write_str("the end"),
        }
    }
}
