//! The walk, carried out: a page is looked at, what is found is seen to, and where the walk is gets noted; then the next page,
//! until the time is up. The next minute goes on.
//!
//! Whoever walks may be killed anywhere. Then the page is looked at once more: all that is done for it may be done twice.
//!
//! What is recorded of a repository that has been deleted whole is found by nobody here (its heads could only be found by a scan
//! of the table): what of it is deployed is looked at with the deployments, the rest stays as it was.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::drive::drive;
use super::error::HandlerError;
use super::faults::{Run, die_at_page};
use super::metrics::{self, Unit};
use super::push;
use crate::aws::Aws;
use crate::aws::deployments::LiveRow;
use crate::domain::head::{Head, News};
use crate::domain::image::{ImageDigest, ImageRef, Repository};
use crate::domain::plan::{self, Pushed, Started, Step};
use crate::domain::protocol::remember::Remember;
use crate::domain::protocol::{Resolved, Why};
use crate::domain::scan::ScanSource;
use crate::domain::walk::{self, ForDeployment, ForImage, Here, Kept, Listed, Place, Rescan, Said, Walk, Walker};
use crate::events::ours::Ours;

/// So many live rows are read at once. For each of them CloudFormation may have to be asked, which takes its time.
const LIVE_PAGE: i32 = 25;
/// New scans are asked for so many at a time.
const RESCANS: usize = 25;
/// After so many failures in a row it is not one image that is at fault.
const FAILURES: u32 = 5;

/// Begins a walk. `false`: one is under way.
pub async fn begin(walker: Walker, aws: &Aws) -> Result<bool, Why> {
    let mut run = Run::named("begin a walk");
    let known = run.around("read where the walk is", &walker, aws.walks.find(walker)).await?;
    match Kept::begin(walker, known.as_ref(), Timestamp::now()) {
        Some(kept) => run.around("note where the walk is", &walker, aws.walks.keep(&kept)).await,
        None => Ok(false),
    }
}

/// Goes on with the walks that are under way, until the time is up.
pub async fn go_on(aws: &Aws, until: Instant) {
    for walker in [Walker::Daily, Walker::Backfill] {
        if Instant::now() < until
            && let Err(why) = go_on_with(walker, aws, until).await
        {
            // The next minute tries again.
            error!(walk = %walker, "{}", why.text);
        }
    }
}

async fn go_on_with(walker: Walker, aws: &Aws, until: Instant) -> Result<(), Why> {
    let sweeps_registry = aws.settings.sweeps_registry;
    let mut run = Run::named("walk");
    let Some(known) = run.around("read where the walk is", &walker, aws.walks.find(walker)).await? else { return Ok(()) };
    let Some(mut kept) = known.set_out(sweeps_registry, Timestamp::now()) else { return Ok(()) };
    if !run.around("note where the walk is", &walker, aws.walks.keep(&kept)).await? {
        return Ok(());
    }
    if kept.walk.place != known.walk.place {
        error!(walk = %walker, "passed over {}: nobody has come through it in {} minutes", known.walk.place, known.tries);
        report(&known.walk, &kept.walk, aws);
    }
    let mut pace = Pace::new(aws, until);
    while !kept.walk.is_over() && Instant::now() < until {
        let mut walk = kept.walk.clone();
        if let Err(why) = Box::pin(pace.page(&mut walk)).await {
            warn!(walk = %walker, tries = kept.tries, "could not get through {}: {}", kept.walk.place, why.text);
            kept.walk.found.errors += 1;
            break;
        }
        die_at_page(&kept);
        let before = std::mem::replace(&mut kept.walk, walk);
        kept.is_further();
        if !run.around("note where the walk is", &walker, aws.walks.keep(&kept)).await? {
            warn!(walk = %walker, "somebody else has taken the walk over");
            return Ok(());
        }
        report(&before, &kept.walk, aws);
    }
    kept.rest();
    run.around("note where the walk is", &walker, aws.walks.keep(&kept)).await?;
    Ok(())
}

/// One line when a part of the walk is done, and one at its end.
fn report(before: &Walk, after: &Walk, aws: &Aws) {
    let part = |walk: &Walk| match walk.place {
        Place::Deployed { .. } | Place::Rescans => "deployed",
        Place::Repositories { .. } | Place::Images(_) | Place::Heads(_) => "registry",
        Place::Over => "over",
    };
    if part(before) == part(after) {
        return;
    }
    let found = &after.found;
    let line = |text: &str| {
        info!(
            walk = %after.walker,
            phase = part(before),
            took_s = Timestamp::now().duration_since(after.began_at).as_secs(),
            repositories = found.repositories,
            images = found.images,
            looked_again = found.looked_again,
            remembered = found.remembered,
            never_judged = found.never_judged,
            rescans = found.rescans,
            closed = found.closed,
            forgotten = found.forgotten,
            errors = found.errors,
            "{text}"
        );
    };
    if !after.is_over() {
        return line("a part of the walk is done");
    }
    line("the walk is over");
    // What a backfill meets nobody was to tell of.
    if after.walker == Walker::Daily {
        metrics::count(&aws.settings.pipeline, "SweepRepaired", i64::try_from(found.repaired()).unwrap_or(i64::MAX), Unit::Count);
    }
}

/// What is known for the minute that one walks.
struct Pace<'a> {
    aws: &'a Aws,
    stacks: HashMap<String, Said>,
    /// The resources whose deployments were closed: an index shows them a little longer.
    closed: HashSet<String>,
    /// The images of the page before. Where a list turns its page in the middle of one, it need not be looked at twice.
    before: BTreeSet<(ImageDigest, Repository)>,
    stacks_failed: u32,
    until: Instant,
    on_demand_only: Option<(Repository, bool)>,
    run: Run,
}

impl<'a> Pace<'a> {
    fn new(aws: &'a Aws, until: Instant) -> Self {
        Self {
            aws,
            until,
            stacks: HashMap::new(),
            closed: HashSet::new(),
            before: BTreeSet::new(),
            stacks_failed: 0,
            on_demand_only: None,
            run: Run::named("page"),
        }
    }

    async fn page(&mut self, walk: &mut Walk) -> Result<(), Why> {
        match walk.place.clone() {
            Place::Deployed { page } => self.deployed(walk, page.as_deref()).await,
            Place::Rescans => {
                let some = walk.rescans.drain(..walk.rescans.len().min(RESCANS)).collect();
                self.scan_again(walk, some).await?;
                walk.go_on(None, self.aws.settings.sweeps_registry);
                Ok(())
            }
            Place::Repositories { page } => {
                let (repositories, more) = self.run.around("list repositories", &walk.walker, self.aws.ecr.repositories(page.as_deref())).await?;
                walk.go_through(repositories, more);
                Ok(())
            }
            Place::Images(here) => {
                let done = self.images(walk, &here).await;
                Self::unless_denied(walk, &here, done)
            }
            Place::Heads(here) => {
                let done = self.heads(walk, &here).await;
                Self::unless_denied(walk, &here, done)
            }
            Place::Over => Ok(()),
        }
    }

    /// A pipeline may be allowed to read the repositories of its gates alone; the others are none of its business.
    fn unless_denied(walk: &mut Walk, here: &Here, done: Result<(), Why>) -> Result<(), Why> {
        let Err(why) = done.as_ref() else { return done };
        if !why.denied {
            return done;
        }
        if !walk.repositories_are_denied {
            warn!(walk = %walk.walker, repository = here.repository.name, "passed by, as is every repository that may not be read: {}", why.text);
            walk.repositories_are_denied = true;
        }
        walk.pass_by_repository();
        Ok(())
    }

    async fn deployed(&mut self, walk: &mut Walk, page: Option<&str>) -> Result<(), Why> {
        let (rows, unreadable, next) = self.run.around("list what is deployed", &walk.walker, self.aws.deployments.live(page, LIVE_PAGE)).await?;
        if unreadable > 0 {
            walk.found.errors += unreadable;
            error!(walk = %walk.walker, "{unreadable} rows of what is deployed cannot be read, and are left out");
        }
        // First, since whoever asks CloudFormation may have to wait.
        let live: BTreeSet<_> = rows.iter().map(|row| (row.digest.clone(), row.repository.clone())).collect();
        let images: Vec<_> = live.difference(&self.before).cloned().collect();
        walk.found.images += images.len() as u64;
        self.look_again(walk, images.iter().map(|(digest, repository)| (digest, repository))).await?;
        for row in rows {
            let said = if walk::is_settled(row.asked_at, Timestamp::now()) { self.cloudformation(walk, &row).await } else { Said::Nothing };
            let now = Timestamp::now();
            match walk::for_deployment(row.asked_at, said, now) {
                ForDeployment::Close { asked_before } => {
                    if self.closed.insert(row.stack_key.clone()) {
                        let closed = self.aws.deployments.close(&row.stack_key, asked_before, now);
                        self.run.around("close the deployments", &walk.walker, closed).await?;
                        walk.found.closed += 1;
                        info!(walk = %walk.walker, stack = row.stack_key, digest = %row.digest, "closed: CloudFormation does not know it any more");
                    }
                }
                ForDeployment::LookAgain => {}
            }
        }
        if self.aws.settings.daily_rescans > 0 && self.aws.ecr.registry(false).await? == ScanSource::Basic {
            let met = self.old_scans(&images).await?;
            let at_once = walk.keep_in_mind(met, self.aws.settings.daily_rescans);
            self.scan_again(walk, at_once).await?;
        }
        self.before = live;
        walk.go_on(next, self.aws.settings.sweeps_registry);
        Ok(())
    }

    /// What CloudFormation says of a resource. Who may not ask says so once; when it fails again and again, nobody asks until the
    /// next minute.
    async fn cloudformation(&mut self, walk: &mut Walk, row: &LiveRow) -> Said {
        let Some((stack, logical_id)) = row.resource() else { return Said::Nothing };
        let stacks = &self.aws.stacks;
        // Whoever lives on unknown today is asked about tomorrow.
        if walk.stacks_are_denied || self.stacks_failed >= FAILURES || Instant::now() >= self.until {
            return Said::Nothing;
        }
        let asked = match self.stacks.get(stack) {
            Some(Said::Gone) => return Said::Gone,
            Some(_) => stacks.has(stack, logical_id).await,
            None => match stacks.exists(stack).await {
                Ok(true) => stacks.has(stack, logical_id).await.inspect(|_| {
                    self.stacks.insert(stack.to_owned(), Said::Lives);
                }),
                Ok(false) => {
                    self.stacks.insert(stack.to_owned(), Said::Gone);
                    Ok(false)
                }
                Err(why) => Err(why),
            },
        };
        match asked {
            Ok(true) => Said::Lives,
            Ok(false) => Said::Gone,
            Err(why) => {
                walk.found.errors += 1;
                warn!(walk = %walk.walker, stack, logical_id, "not known whether it is still deployed: {}", why.text);
                if why.denied {
                    walk.stacks_are_denied = true;
                } else {
                    self.stacks_failed += 1;
                }
                Said::Nothing
            }
        }
    }

    /// Those of the images whose scan is not of today.
    async fn old_scans(&self, images: &[(ImageDigest, Repository)]) -> Result<Vec<Rescan>, Why> {
        let mut by_repository: BTreeMap<&Repository, Vec<ImageDigest>> = BTreeMap::new();
        for (digest, repository) in images {
            by_repository.entry(repository).or_default().push(digest.clone());
        }
        let (mut old, now) = (Vec::new(), Timestamp::now());
        for (repository, digests) in by_repository {
            let heads = self.aws.verdicts.heads(repository, &digests).await?;
            old.extend(digests.into_iter().zip(heads).filter_map(|(digest, head)| {
                let scanned_at = walk::is_to_rescan(head.as_ref(), now)?;
                Some(Rescan { scanned_at, digest, repository: repository.clone() })
            }));
        }
        Ok(old)
    }

    /// Has images scanned once more. Their events tell of the ends; where ECR starts nothing, there is nothing to wait for.
    async fn scan_again(&mut self, walk: &mut Walk, images: Vec<Rescan>) -> Result<(), Why> {
        let mut failed = 0;
        for Rescan { digest, repository, .. } in images {
            match self.run.around("start a scan", &walk.walker, self.aws.ecr.start_scan(&repository, &digest)).await {
                Ok(Started::Yes) => walk.found.rescans += 1,
                Ok(Started::RegistryIsEnhanced) => {
                    walk.rescans.clear();
                    return Ok(());
                }
                // It has been looked at today in any case.
                Ok(Started::Already | Started::Unsupported | Started::NoImage | Started::Archived) => {}
                Err(why) => {
                    failed += 1;
                    walk.found.errors += 1;
                    warn!(walk = %walk.walker, digest = %digest, "{}", why.text);
                    if failed >= FAILURES {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn images(&mut self, walk: &mut Walk, here: &Here) -> Result<(), Why> {
        let (images, next) = self.run.around("list images", &walk.walker, self.aws.ecr.images(&here.repository, here.page.as_deref())).await?;
        if here.page.is_none() {
            walk.found.repositories += 1;
        }
        walk.found.images += images.len() as u64;
        let heads = self.heads_of(&here.repository, images.iter().map(|image| image.digest.clone()).collect()).await?;
        let (mut look, mut failed) = (Vec::new(), 0);
        for (image, head) in images.into_iter().zip(heads) {
            match walk::for_image(&image, head.as_ref(), Timestamp::now()) {
                ForImage::Nothing => {}
                ForImage::LookAgain => {
                    walk.found.never_judged += 1;
                    look.push(image.digest);
                }
                ForImage::Remember => match Box::pin(self.remember(&here.repository, &image)).await {
                    Ok(remembered) => {
                        failed = 0;
                        walk.found.remembered += u64::from(remembered != Remembered::Nothing);
                        look.extend((remembered == Remembered::Image).then_some(image.digest));
                    }
                    Err(why) if why.denied => return Err(why),
                    Err(why) => {
                        failed += 1;
                        walk.found.errors += 1;
                        warn!(walk = %walk.walker, repository = here.repository.name, digest = %image.digest, "{}", why.text);
                        if failed >= FAILURES {
                            return Err(why);
                        }
                    }
                },
            }
        }
        self.look_again(walk, look.iter().map(|digest| (digest, &here.repository))).await?;
        walk.go_on(next, self.aws.settings.sweeps_registry);
        Ok(())
    }

    /// As on-push does.
    async fn remember(&mut self, repository: &Repository, image: &Listed) -> Result<Remembered, Why> {
        let push = Pushed { repository: repository.clone(), digest: image.digest.clone(), tags: image.some_tags(), at: image.pushed_at };
        // Reading a manifest counts as a pull: lifecycle rules go by it, and how long Inspector watches an image. So only what the
        // list leaves open is read.
        let is = match image.is_plainly_an_image() {
            true => Resolved::Image(image.digest.clone()),
            false => self.aws.ecr.resolve(repository, &ImageRef::Digest(image.digest.clone()), None).await?,
        };
        let on_demand_only = matches!(is, Resolved::Image(_)) && self.is_scanned_on_demand_only(repository).await?;
        // One write for an image, however many tags it has.
        let mut together: Vec<(ImageDigest, Vec<News>)> = Vec::new();
        let mut then = Vec::new();
        for step in plan::for_push(&push, &is, on_demand_only) {
            match (step, together.last_mut()) {
                (Step::Remember(digest, news), Some((last, all))) if *last == digest => all.push(news),
                (Step::Remember(digest, news), _) => together.push((digest, vec![news])),
                (other, _) => then.push(other),
            }
        }
        for (digest, news) in together {
            let head = self.aws.verdicts.heads(repository, std::slice::from_ref(&digest)).await?.into_iter().next().flatten();
            let policies = vec![self.aws.settings.policy.clone()];
            Box::pin(drive(Remember::new(repository, &digest, head, news, policies), self.aws)).await.map_err(why)?;
        }
        for step in then {
            Box::pin(push::carry_out(step, repository, self.aws)).await.map_err(why)?;
        }
        Ok(match is {
            Resolved::Image(_) => Remembered::Image,
            // An index is not scanned. Its images are on the same list.
            Resolved::Index(..) => Remembered::Index,
            Resolved::NotAnImage(..) | Resolved::NotFound | Resolved::OtherDigest | Resolved::Unusable(_) => Remembered::Nothing,
        })
    }

    async fn is_scanned_on_demand_only(&mut self, repository: &Repository) -> Result<bool, Why> {
        match &self.on_demand_only {
            Some((of, answer)) if of == repository => Ok(*answer),
            _ => {
                let is_basic = self.aws.ecr.registry(false).await? == ScanSource::Basic;
                let answer = is_basic && self.aws.ecr.is_scanned_on_demand_only(repository).await?;
                self.on_demand_only = Some((repository.clone(), answer));
                Ok(answer)
            }
        }
    }

    async fn heads(&mut self, walk: &mut Walk, here: &Here) -> Result<(), Why> {
        let recorded = self.aws.verdicts.recorded(&here.repository, here.page.as_deref());
        let (recorded, next) = self.run.around("list what is recorded", &walk.walker, recorded).await?;
        let heads = self.heads_of(&here.repository, recorded).await?.into_iter().flatten();
        let said_to_be_there: Vec<ImageDigest> = heads.filter(walk::is_said_to_be_there).map(|head| head.digest).collect();
        let missing = self.run.around("look what is missing", &walk.walker, self.aws.ecr.missing_of(&here.repository, &said_to_be_there)).await?;
        walk.found.forgotten += missing.len() as u64;
        self.look_again(walk, missing.iter().map(|digest| (digest, &here.repository))).await?;
        walk.go_on(next, self.aws.settings.sweeps_registry);
        Ok(())
    }

    /// A page is never longer than what DynamoDB reads at once.
    async fn heads_of(&self, repository: &Repository, digests: Vec<ImageDigest>) -> Result<Vec<Option<Head>>, Why> {
        self.aws.verdicts.heads(repository, &digests).await
    }

    async fn look_again(&mut self, walk: &mut Walk, images: impl Iterator<Item = (&ImageDigest, &Repository)>) -> Result<(), Why> {
        let mut messages = Vec::new();
        for (digest, repository) in images {
            let message = Ours::LookAgain { digest: digest.clone(), repository: repository.clone(), n: 0, request_id: None };
            messages.push((message.to_json(), walk.look_again_after(Timestamp::now())));
            walk.found.looked_again += 1;
        }
        self.run.around("have images read", &walk.walker, self.aws.queue.send_all(messages)).await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remembered {
    Image,
    Index,
    Nothing,
}

fn why(error: HandlerError) -> Why {
    match error {
        HandlerError::TryAgain(why) => why,
        other => Why::new(other.chain()),
    }
}
