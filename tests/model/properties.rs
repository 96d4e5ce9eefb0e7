//! What must be true in every world, by name.

use ecr_scan_verifier::domain::request::RequestKind;
use stateright::Property;

use crate::alerts::{IS_CLEARED, IS_TOLD, IS_TOLD_TWICE};
use crate::parking::Parking;
use crate::setting::{Asked, RESOURCES};
use crate::steps::THE_END;
use crate::world::{Item, Stage, What, World};

pub const ANSWERED: &str = "every request is answered";
pub const ONE_ANSWER: &str = "never two different answers for one request";
pub const COMPLETE: &str = "no Pass without complete facts of exactly the image";
pub const SIGNED: &str = "no Pass without a signature where one is asked for";
pub const IN_TIME: &str = "no answer later than due plus grace and one sweep";
pub const NOT_FORGOTTEN: &str = "nothing parked is forgotten in a quiet world";
pub const RECORDED: &str = "what the newest request deploys is recorded";
pub const NEWEST: &str = "the deployments are those of the newest request alone";
pub const BY_A_LATER: &str = "only a later request supersedes one";
pub const FACTS_KEPT: &str = "a row refers to findings that are kept";
pub const NO_SURPRISE: &str = "no machine sees what it does not expect";

// What has to happen in some world: a setting in which nobody is ever blocked says nothing about blocking.
pub const PASSES: &str = "a request is let through";
pub const BLOCKS: &str = "a request is blocked";
pub const TIMES_OUT: &str = "a request's time is up";
pub const SUPERSEDED: &str = "a request is superseded";
pub const UNSIGNED: &str = "a request is refused for its signature";
pub const GIVEN_UP: &str = "a request is given up";
pub const DELETED: &str = "a Delete is answered";

impl Parking {
    pub fn promises(&self) -> Vec<Property<Self>> {
        let always = Property::<Self>::always;
        let mut promises = vec![
            always(ANSWERED, |parking, world| !parking.is_quiet(world) || world.sent[..parking.setting.asked.len()].iter().all(Option::is_some)),
            always(NOT_FORGOTTEN, |parking, world| !parking.is_quiet(world) || parking.forgets_nobody(world)),
            always(ONE_ANSWER, |_, world| !world.broken.two_answers),
            always(COMPLETE, |_, world| !world.broken.too_early),
            always(SIGNED, |_, world| !world.broken.unsigned),
            always(IN_TIME, |parking, world| !world.broken.too_late || !parking.setting.own_messages),
            always(RECORDED, |parking, world| (0..RESOURCES).all(|resource| parking.records_the_newest(world, resource))),
            always(NEWEST, |parking, world| (0..RESOURCES).all(|resource| parking.records_nothing_older(world, resource))),
            always(BY_A_LATER, |parking, world| parking.supersedes_only_the_older(world)),
            always(FACTS_KEPT, |parking, world| parking.keeps_facts(world)),
            always(NO_SURPRISE, |_, world| !world.broken.surprised),
        ];
        promises.extend(self.promises_to_tell());
        promises.extend(self.setting.sometimes.iter().map(|kind| match *kind {
            PASSES => Property::sometimes(PASSES, |parking: &Self, world| parking.has_answered(world, PASSES)),
            BLOCKS => Property::sometimes(BLOCKS, |parking: &Self, world| parking.has_answered(world, BLOCKS)),
            TIMES_OUT => Property::sometimes(TIMES_OUT, |parking: &Self, world| parking.has_answered(world, TIMES_OUT)),
            SUPERSEDED => Property::sometimes(SUPERSEDED, |parking: &Self, world| parking.has_answered(world, SUPERSEDED)),
            UNSIGNED => Property::sometimes(UNSIGNED, |parking: &Self, world| parking.has_answered(world, UNSIGNED)),
            GIVEN_UP => Property::sometimes(GIVEN_UP, |parking: &Self, world| parking.has_answered(world, GIVEN_UP)),
            DELETED => Property::sometimes(DELETED, |parking: &Self, world| parking.has_answered(world, DELETED)),
            IS_TOLD => Property::sometimes(IS_TOLD, |parking: &Self, world| parking.has_heard(world, IS_TOLD)),
            IS_TOLD_TWICE => Property::sometimes(IS_TOLD_TWICE, |parking: &Self, world| parking.has_heard(world, IS_TOLD_TWICE)),
            IS_CLEARED => Property::sometimes(IS_CLEARED, |parking: &Self, world| parking.has_heard(world, IS_CLEARED)),
            other => unreachable!("{other}"),
        }));
        promises
    }

    /// Nothing is under way, nobody is at work, and nothing will start by itself.
    pub fn is_quiet(&self, world: &World) -> bool {
        let has_said_all = || self.setting.images.iter().zip(&world.scanner).all(|(image, scanner)| usize::from(scanner.stage) + 1 == image.script.len());
        let is_all_signed = || self.setting.images.iter().enumerate().all(|(n, image)| !image.is_to_be_signed || world.is_signed(n));
        let is_over = world.now >= THE_END;
        let is_at_rest = world.running.is_empty()
            && world.messages.is_empty()
            && (0..self.setting.asked.len()).all(|request| world.next_sweep(self, request).is_none())
            // Without messages of our own, all that may still come is the scanner's word, or a signature.
            && (self.setting.own_messages || has_said_all() && is_all_signed());
        is_over || is_at_rest
    }

    /// An item whose answer has arrived, but was never marked, harms nobody: it goes with its `ttl`.
    fn forgets_nobody(&self, world: &World) -> bool {
        let is_settled = |(request, item): (usize, &Option<Item>)| match item.map(|item| item.stage) {
            None | Some(Stage::Answered) => true,
            Some(Stage::Claimed { .. }) => world.sent[request].is_some(),
            Some(Stage::Open) => false,
        };
        world.items.iter().enumerate().all(is_settled)
    }

    fn records_the_newest(&self, world: &World, resource: usize) -> bool {
        let admits = |image: &usize| world.rows[resource][*image].is_some_and(|row| row.is_admitted);
        world.stands[resource].is_none_or(|request| {
            let asked = &self.setting.asked[usize::from(request)];
            admits(&asked.root) && asked.images.iter().all(admits)
        })
    }

    /// While a Delete is at work, its rows may still be there.
    fn records_nothing_older(&self, world: &World, resource: usize) -> bool {
        let deletes = |what: &What| match what {
            What::Request(request) | What::GivenUp(request) => {
                let asked = &self.setting.asked[*request];
                asked.resource == resource && asked.request.kind == RequestKind::Delete
            }
            _ => false,
        };
        let is_being_deleted = || world.running.iter().map(|process| &process.of).chain(world.messages.iter().map(|message| &message.what)).any(deletes);
        world.rows[resource].iter().flatten().all(|row| !row.is_admitted || Some(row.by) == world.stands[resource]) || is_being_deleted()
    }

    fn supersedes_only_the_older(&self, world: &World) -> bool {
        let asked = &self.setting.asked;
        let has_a_later_one = |one: &Asked| asked.iter().any(|other| other.resource == one.resource && other.at > one.at);
        asked.iter().zip(&world.sent).all(|(one, sent)| sent.is_none_or(|answer| self.kind_of(answer) != SUPERSEDED || has_a_later_one(one)))
    }

    fn keeps_facts(&self, world: &World) -> bool {
        let is_kept = |(image, head): (usize, &Option<u32>)| {
            let Some(facts) = head.and_then(|head| self.refers_to(head)) else { return true };
            world.facts.iter().any(|kept| (kept.image, kept.facts, kept.goes) == (image, facts, false))
        };
        world.heads.iter().enumerate().all(is_kept)
    }

    fn has_answered(&self, world: &World, kind: &str) -> bool {
        world.sent.iter().flatten().any(|answer| self.kind_of(*answer) == kind)
    }

    /// What an answer says, in a word.
    pub fn kind_of(&self, answer: u32) -> &'static str {
        self.kinds.recall(answer, |answer| kind(self.answers.of(*answer).as_str()))
    }
}

fn kind(answer: &str) -> &'static str {
    let kinds = [
        ("\"Data\"", PASSES),
        ("\"SUCCESS\"", DELETED),
        ("superseded by a later request", SUPERSEDED),
        ("found vulnerabilities", BLOCKS),
        ("Signature verification failed", UNSIGNED),
        ("timed out", TIMES_OUT),
        ("No scan results", TIMES_OUT),
        ("could not be judged", GIVEN_UP),
    ];
    kinds.iter().find(|(part, _)| answer.contains(part)).unwrap_or_else(|| panic!("an answer that no setting expects: {answer}")).1
}
