//! Who is told, and of what: the records and their outboxes (`domain::protocol::announce`), what has been heard, and what must
//! be true of it.
//!
//! A record is one image's, so these settings have one image. What people hear is kept beside the tables: a message that was
//! sent cannot be taken back.

use std::sync::Arc;

use ecr_scan_verifier::domain::alert::{AlertOptions, Alerting, Announced};
use ecr_scan_verifier::domain::request::RequestKind::Create;
use stateright::Property;

use crate::parking::{Parking, at_least};
use crate::properties::PASSES;
use crate::seeds::Seed;
use crate::setting::*;
use crate::world::{Effect, Seen, World};
use crate::{BAD, CLEAN, breaks, dying, either, holds, left};

/// The pipeline, with the bus beside it, and a gate's own topic.
pub const AUDIENCES: usize = 2;

/// The findings that anybody objects to here, a bit each; and one for the verdict on the bus.
const OBJECTED: [(&str, &str); 2] = [CRITICAL, CRITICAL_TOO];
const BLOCKED: u8 = 1 << 7;

pub const TOLD: &str = "every objection to a deployed image is told in a quiet world";
/// Not where one dies over an outbox and the next one cannot send the first of what is in it: that one comes after the others then,
/// since it stands in no other's way.
pub const LAST_WORD: &str = "what was heard last is true in a quiet world";
pub const EMPTY: &str = "no outbox holds anything in a quiet world";
pub const ONCE: &str = "nothing is told twice where nobody failed";
pub const HEARD_FIRST: &str = "nothing is crossed out that nobody has heard";
pub const ARISEN: &str = "nothing is told that has not arisen";
pub const NOT_AGAIN: &str = "what was crossed out under a lease is not sent again";
pub const LAST_LIST: &str = "the row has the last findings in a quiet world";

// What has to happen in some world.
pub const IS_TOLD: &str = "somebody hears of a finding";
pub const IS_TOLD_TWICE: &str = "somebody hears the same twice";
pub const IS_CLEARED: &str = "somebody hears that nothing blocks any more";

/// The notices in an outbox: by their ids, with their messages.
pub type Outbox = Vec<(String, u32)>;

/// Words, and how they fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Heard {
    audience: usize,
    message: u32,
    /// How many notices of these words were put into an outbox, and crossed out.
    came: u8,
    crossed_out: u8,
    /// How often they arrived.
    heard: u8,
}

/// By audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Telling {
    pub records: [Option<u32>; AUDIENCES],
    heard: Vec<Heard>,
    /// What whoever has heard everything takes for true: which findings block, and what the bus has said last.
    believed: [u8; AUDIENCES],
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Findings(u8),
    Cleared,
    Verdict { blocked: bool },
}

impl Telling {
    pub fn sort(&mut self) {
        self.heard.sort_unstable();
    }

    fn of(&mut self, audience: usize, message: u32) -> &mut Heard {
        let place = self.heard.iter().position(|heard| (heard.audience, heard.message) == (audience, message));
        let place = place.unwrap_or_else(|| {
            self.heard.push(Heard { audience, message, came: 0, crossed_out: 0, heard: 0 });
            self.heard.len() - 1
        });
        &mut self.heard[place]
    }
}

impl World {
    pub fn write_told(&mut self, parking: &Parking, audience: usize, expect: u64, told: u32) -> Seen {
        let current = self.telling.records[audience];
        if current.map_or(0, |current| parking.told.of(current).version) != expect && parking.setting.seed != Some(Seed::Overwrites) {
            return Seen::Lost;
        }
        let before = current.map(|current| parking.outbox(current)).unwrap_or_default();
        let after = parking.outbox(told);
        self.telling.records[audience] = Some(told);
        let is_in = |outbox: &Outbox, id: &str| outbox.iter().any(|(known, _)| known == id);
        for (_, message) in after.iter().filter(|(id, _)| !is_in(&before, id)) {
            self.telling.of(audience, *message).came += 1;
        }
        for (_, message) in before.iter().filter(|(id, _)| !is_in(&after, id)) {
            let heard = self.telling.of(audience, *message);
            heard.crossed_out += 1;
            self.broken.unsent |= heard.heard < heard.crossed_out;
        }
        Seen::Done
    }

    pub fn publish(&mut self, parking: &Parking, audience: usize, message: u32) {
        let heard = self.telling.of(audience, message);
        heard.heard += 1;
        let Heard { came, crossed_out, heard, .. } = *heard;
        self.broken.made_up |= came == 0;
        // Where a lease ran out, whoever had it may still send.
        self.broken.told_again |= crossed_out >= came && self.left.slow == parking.setting.left.slow;
        self.broken.told_twice |= parking.has_gone_well(self) && (heard > came || parking.names_too_often(self, audience));
        match parking.what_it_says(message) {
            Says::Findings(named) => {
                self.telling.believed[audience] |= named;
                self.broken.made_up |= named & !parking.listed_so_far(self) != 0;
            }
            Says::Cleared => {
                self.telling.believed[audience] &= BLOCKED;
                let heard: u8 = parking.heard(self, audience).filter(|(says, _)| *says == Says::Cleared).map(|(_, heard)| heard.heard).sum();
                let went = parking.went(self);
                self.broken.made_up |= went == 0;
                self.broken.told_twice |= parking.has_gone_well(self) && heard > went;
            }
            Says::Verdict { blocked: true } => self.telling.believed[audience] |= BLOCKED,
            Says::Verdict { blocked: false } => self.telling.believed[audience] &= !BLOCKED,
        }
    }
}

/// Which findings of a list are objected to.
fn objected(word: Word) -> u8 {
    let Word::Lists(listed) = word else { return 0 };
    OBJECTED.iter().enumerate().filter(|(_, finding)| listed.contains(finding)).map(|(n, _)| 1 << n).sum()
}

impl Parking {
    pub fn outbox(&self, told: u32) -> Arc<Outbox> {
        let outbox = self.outbox_of.recall(told, |told| {
            let named = self.told.of(*told).outbox.iter().map(|notice| (notice.id.clone(), self.messages.name(notice.message.clone()))).collect();
            self.outboxes.name(named)
        });
        self.outboxes.of(outbox)
    }

    /// The record as a reader finds it.
    pub fn told_as_read(&self, told: Option<u32>) -> Announced {
        let mut announced = told.map(|told| (*self.told.of(told)).clone()).unwrap_or_default();
        match self.setting.seed {
            Some(Seed::NoLease) => announced.lease_until = None,
            Some(Seed::DropsOutbox) => announced.outbox.clear(),
            Some(Seed::OlderRow) => announced.head_version = 0,
            _ => {}
        }
        announced
    }

    /// When somebody else may send what is in an outbox.
    pub fn leases_of_outboxes(&self, world: &World) -> impl Iterator<Item = Second> {
        let records = world.telling.records.iter().flatten();
        records.filter_map(|told| self.lease_of.recall(*told, |told| self.told.of(*told).lease_until.map(|until| at_least(until.duration_since(at(0))))))
    }

    fn what_it_says(&self, message: u32) -> Says {
        self.says.recall(message, |message| {
            let message = self.messages.of(*message);
            let kind = message.attributes.iter().find(|(name, _)| name == "kind").map(|(_, kind)| kind.as_str());
            let named = OBJECTED.iter().enumerate().filter(|(_, (id, _))| message.body.contains(id)).map(|(n, _)| 1 << n).sum();
            match kind {
                Some("new-findings" | "blocked-now") => Says::Findings(named),
                Some("cleared") => Says::Cleared,
                Some(other) => unreachable!("nobody expects {other} here"),
                None => Says::Verdict { blocked: message.body.contains(r#""verdict":"BLOCK""#) },
            }
        })
    }

    /// A message in words, for a person who reads a counterexample.
    pub fn message_of(&self, message: u32) -> String {
        let subject = self.messages.of(message).subject.clone().unwrap_or_default();
        format!("{:?} {subject}", self.what_it_says(message))
    }

    pub fn told_in_words(&self, told: u32) -> String {
        let announced = self.told.of(told);
        let outbox: Vec<String> = self.outbox(told).iter().map(|(id, message)| format!("{id:.4} {:?}", self.what_it_says(*message))).collect();
        format!("v{} told {:?}, outbox {outbox:?}, lease {:?}", announced.version, announced.told, announced.lease_until.map(second))
    }

    fn lists(&self, world: &World) -> impl Iterator<Item = u8> {
        self.setting.images[0].script[..=usize::from(world.scanner[0].stage)].iter().map(|says| objected(says.word))
    }

    fn listed_so_far(&self, world: &World) -> u8 {
        self.lists(world).fold(0, |all, listed| all | listed)
    }

    /// How often this finding was new.
    fn came(&self, world: &World, finding: u8) -> u8 {
        let listed: Vec<bool> = std::iter::once(false).chain(self.lists(world).map(|listed| listed & finding != 0)).collect();
        listed.windows(2).map(|pair| u8::from(pair == [false, true])).sum()
    }

    /// How often everything that blocked was gone.
    fn went(&self, world: &World) -> u8 {
        self.lists(world).zip(self.lists(world).skip(1)).map(|pair| u8::from(pair.0 != 0 && pair.1 == 0)).sum()
    }

    fn is_deployed(&self, world: &World) -> bool {
        !self.setting.lives.is_empty() || world.rows.iter().any(|rows| rows[0].is_some_and(|row| row.is_admitted))
    }

    fn has_gone_well(&self, world: &World) -> bool {
        world.left.faults == self.setting.left.faults && world.left.slow == self.setting.left.slow
    }

    fn heard<'a>(&'a self, world: &'a World, audience: usize) -> impl Iterator<Item = (Says, Heard)> + 'a {
        let heard = world.telling.heard.iter().filter(move |heard| heard.audience == audience && heard.heard > 0);
        heard.map(|heard| (self.what_it_says(heard.message), *heard))
    }

    fn named<'a>(&'a self, world: &'a World, audience: usize) -> impl Iterator<Item = (u8, Heard)> + 'a {
        self.heard(world, audience).filter_map(|(says, heard)| match says {
            Says::Findings(named) => Some((named, heard)),
            _ => None,
        })
    }

    fn all_is_told(&self, world: &World) -> bool {
        let listed = self.lists(world).last().unwrap_or_default();
        let is_told = |audience: usize| listed & !self.named(world, audience).fold(0, |all, (named, _)| all | named) == 0;
        !self.is_deployed(world) || (0..self.setting.audiences().len()).all(is_told)
    }

    fn last_word_is_true(&self, world: &World) -> bool {
        let listed = self.lists(world).last().unwrap_or_default();
        let alerting = self.setting.alerting.as_ref();
        (0..self.setting.audiences().len()).filter(|_| self.is_deployed(world)).all(|audience| {
            let believed = world.telling.believed[audience];
            let is_bus_right = audience > 0 || !alerting.is_some_and(|alerting| alerting.bus) || (believed & BLOCKED != 0) == (listed != 0);
            // That fewer block than before nobody is told, as long as any does; and a gate's topic not that none does.
            let is_cleared = audience > 0 || listed != 0 || believed & !BLOCKED == 0;
            is_bus_right && is_cleared && listed & !believed == 0
        })
    }

    fn names_too_often(&self, world: &World, audience: usize) -> bool {
        (0..OBJECTED.len()).map(|n| 1 << n).any(|finding| {
            let named: u8 = self.named(world, audience).filter(|(named, _)| named & finding != 0).map(|(_, heard)| heard.heard).sum();
            named > self.came(world, finding)
        })
    }

    fn has_the_last_list(&self, world: &World) -> bool {
        let result = world.heads[0].and_then(|head| self.heads.of(head).valid_result().map(|result| result.facts.clone()));
        match (self.setting.images[0].script[usize::from(world.scanner[0].stage)].word, result) {
            (Word::Lists(listed), Some(facts)) => facts == self.setting.facts(listed),
            // The first word was told to nobody.
            (_, None) => true,
            (_, Some(_)) => false,
        }
    }

    /// The promises about those who are told.
    pub fn promises_to_tell(&self) -> Vec<Property<Self>> {
        let always = Property::<Self>::always;
        if self.setting.alerting.is_none() {
            return Vec::new();
        }
        vec![
            always(TOLD, |parking, world| !parking.is_quiet(world) || parking.all_is_told(world)),
            always(LAST_WORD, |parking, world| !parking.is_quiet(world) || parking.last_word_is_true(world)),
            always(EMPTY, |parking, world| !parking.is_quiet(world) || world.telling.records.iter().flatten().all(|told| parking.outbox(*told).is_empty())),
            always(ONCE, |_, world| !world.broken.told_twice),
            always(HEARD_FIRST, |_, world| !world.broken.unsent),
            always(ARISEN, |_, world| !world.broken.made_up),
            always(NOT_AGAIN, |_, world| !world.broken.told_again),
            always(LAST_LIST, |parking, world| !parking.is_quiet(world) || parking.has_the_last_list(world)),
        ]
    }

    pub fn has_heard(&self, world: &World, kind: &str) -> bool {
        world.telling.heard.iter().filter(|heard| heard.heard > 0).any(|heard| match kind {
            IS_TOLD_TWICE => heard.heard > heard.came,
            IS_CLEARED => self.what_it_says(heard.message) == Says::Cleared,
            _ => matches!(self.what_it_says(heard.message), Says::Findings(_)),
        })
    }
}

/// Whether a lease may be taken as soon as this has been done.
pub fn is_about_telling(effect: &Effect) -> bool {
    use Effect::{AnnounceAgain, Publish, ReadFacts, ReadHeads, ReadTold, WriteTold};
    matches!(effect, ReadTold(_) | WriteTold { .. } | Publish { .. } | AnnounceAgain { .. } | ReadFacts { .. } | ReadHeads(_))
}

const WORSE: Word = Word::Lists(&[CRITICAL, CRITICAL_TOO]);
const GATES: &str = "arn:aws:sns:eu-west-1:123456789012:gate";

fn tells(setting: Setting, words: &[Word]) -> Setting {
    let alerting = Alerting { topic_arn: Some("arn:aws:sns:eu-west-1:123456789012:alerts".into()), bus: false, options: AlertOptions::default() };
    Setting { alerting: Some(alerting), sweep: None, ..setting }.image("app", words)
}

fn sometimes(setting: Setting, sometimes: &[&'static str]) -> Setting {
    Setting { sometimes: sometimes.to_vec(), ..setting }
}

/// The pipeline hears of it beside the bus.
fn on_a_bus(mut setting: Setting) -> Setting {
    setting.alerting.as_mut().expect("somebody is told").bus = true;
    setting
}

#[test]
fn news_that_come_twice_late_or_not_at_all_are_told_once() {
    let setting = sometimes(either(left(0, 1, 1, 0), left(0, 2, 2, 0)), &[IS_TOLD]);
    holds(tells(setting, &[CLEAN, BAD, WORSE]).lives(None));
}

#[test]
fn what_comes_and_goes_is_told_and_cleared_as_often() {
    let setting = sometimes(either(left(0, 1, 0, 0), left(1, 0, 1, 0)), &[IS_TOLD, IS_CLEARED]);
    holds(tells(setting, &[CLEAN, BAD, CLEAN, BAD]).lives(None));
}

#[test]
fn whoever_fails_or_dies_over_an_outbox_is_followed_by_another() {
    let setting = sometimes(either(left(1, 0, 0, 0), left(2, 1, 1, 0)), &[IS_TOLD, IS_TOLD_TWICE]);
    holds(tells(setting, &[CLEAN, BAD, WORSE]).lives(None));
}

#[test]
fn what_blocks_and_is_cleared_is_told_whoever_dies() {
    let setting = sometimes(dying(left(2, 0, 0, 0), left(1, 1, 1, 0)), &[IS_TOLD, IS_CLEARED]);
    holds(tells(setting, &[CLEAN, BAD, CLEAN]).lives(None));
}

#[test]
fn a_lease_that_runs_out_loses_nothing() {
    let setting = sometimes(dying(left(0, 0, 0, 1), left(1, 0, 0, 1)), &[IS_TOLD, IS_TOLD_TWICE]);
    holds(tells(setting, &[CLEAN, BAD, WORSE]).lives(None));
}

#[test]
fn the_bus_hears_of_it_although_the_topic_does_not() {
    let setting = sometimes(either(left(1, 0, 0, 0), left(2, 0, 0, 0)), &[IS_TOLD]);
    holds(on_a_bus(tells(setting, &[CLEAN, BAD, WORSE]).lives(None)));
}

#[test]
fn a_gates_own_topic_hears_of_it_although_the_pipelines_does_not() {
    let setting = sometimes(dying(left(1, 0, 0, 0), left(1, 0, 0, 0)), &[IS_TOLD]);
    holds(tells(setting, &[CLEAN, BAD, WORSE]).lives(Some(GATES)));
}

#[test]
fn a_deployment_that_meets_a_new_finding_is_told_of() {
    let setting = sometimes(either(left(0, 0, 0, 0), left(1, 0, 0, 0)), &[IS_TOLD, PASSES]);
    holds(Setting { sweep: Some(SWEEP), ..tells(setting, &[Word::Running, CLEAN, BAD]) }.asks(Create, 0, 5));
}

// The seeds. Without them the settings above hold.

fn wrong(seed: Seed, left: Left, words: &[Word]) -> Setting {
    tells(Setting { seed: Some(seed), left, ..Setting::default() }, words).lives(None)
}

#[test]
fn what_is_crossed_out_first_is_not_told() {
    breaks(wrong(Seed::CrossesOutFirst, left(1, 0, 0, 0), &[CLEAN, BAD]), TOLD);
    breaks(wrong(Seed::CrossesOutFirst, left(0, 0, 0, 0), &[CLEAN, BAD]), HEARD_FIRST);
}

#[test]
fn two_who_send_without_a_lease_tell_the_same() {
    breaks(wrong(Seed::NoLease, left(0, 0, 0, 0), &[CLEAN, BAD, WORSE]), ONCE);
}

#[test]
fn what_is_crossed_out_by_its_place_may_be_something_else() {
    breaks(wrong(Seed::ByPosition, left(0, 0, 0, 1), &[CLEAN, BAD, WORSE]), HEARD_FIRST);
}

#[test]
fn an_outbox_that_is_not_taken_over_is_lost() {
    breaks(wrong(Seed::DropsOutbox, left(0, 0, 0, 0), &[CLEAN, BAD, WORSE]), HEARD_FIRST);
    breaks(wrong(Seed::DropsOutbox, left(1, 0, 0, 0), &[CLEAN, BAD]), EMPTY);
    breaks(wrong(Seed::DropsOutbox, left(1, 0, 0, 0), &[CLEAN, BAD]), TOLD);
}

#[test]
fn a_record_that_is_written_over_another_loses_it() {
    breaks(wrong(Seed::Overwrites, left(0, 0, 0, 0), &[CLEAN, BAD, WORSE]), HEARD_FIRST);
    breaks(wrong(Seed::Overwrites, left(0, 0, 0, 0), &[CLEAN, BAD, WORSE]), ONCE);
}

#[test]
fn who_compares_with_an_older_row_tells_it_again_or_takes_it_back() {
    breaks(wrong(Seed::OlderRow, left(0, 0, 0, 0), &[CLEAN, BAD, WORSE]), ONCE);
    breaks(wrong(Seed::OlderRow, left(0, 0, 0, 0), &[Word::Running, CLEAN, BAD]), ARISEN);
}

#[test]
fn nobody_is_told_of_a_deployment_that_meets_a_new_finding_unless_somebody_comes() {
    let setting = tells(Setting { seed: Some(Seed::NobodyComes), ..Setting::default() }, &[Word::Running, CLEAN, BAD]);
    breaks(Setting { sweep: Some(SWEEP), ..setting }.asks(Create, 0, 5), TOLD);
}

#[test]
fn what_is_lost_is_told_by_the_walk_alone() {
    let setting = Setting { left: left(0, 1, 0, 0), walks: false, ..Setting::default() };
    breaks(tells(setting, &[CLEAN, BAD]).lives(None), TOLD);
}
