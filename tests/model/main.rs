//! The parking protocol and the outboxes, checked in every order of events.
//!
//! The machines here are the ones that ship (`domain::protocol`), driven one effect at a time, several at once, in a world
//! whose tables have the conditions of the real ones. Messages are lost, doubled and late; functions die before and after
//! each effect and are delivered again; scans end, and change their mind, at any moment. The checker (stateright) walks
//! through all worlds that can come of a setting, and shows the way to the first one that breaks a promise.
//!
//! - [`setting`]: who asks for what, what the scanner will say, how much may go wrong.
//! - [`world`]: one state, and what an effect does to its tables.
//! - [`parking`]: the machines, and their effects in numbers ([`names`]).
//! - [`steps`]: which steps a world can take.
//! - [`properties`]: the promises.
//! - [`alerts`]: who is told of what: the outboxes, and what people hear.
//! - [`seeds`]: known ways to get it wrong. The checker has to find each.
//!
//! *What is not in it*: several messages about one image in one batch (they become one reading), an index `open-by-due` that
//! is behind its table (the sweep would come a minute later), findings of many pages, and more than [`setting::IMAGES`]
//! images and [`setting::REQUESTS`] requests.
//!
//! `make model-deep` (or `MODEL=deep` in the environment) lets more go wrong at once. Each setting then stops at
//! [`ENOUGH`] steps, and says so.
#![forbid(unsafe_code)]

mod alerts;
mod names;
mod parking;
mod properties;
mod seeds;
mod setting;
mod steps;
mod world;

use std::time::Instant;

use ecr_scan_verifier::domain::request::RequestKind::{Create, Delete, Update};
use ecr_scan_verifier::domain::scan::ScanSource;
use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use crate::parking::Parking;
use crate::properties::*;
use crate::seeds::Seed;
use crate::setting::*;
use crate::steps::Action;
use crate::world::{What, World};

/// The deep run gives each setting so many steps.
const ENOUGH: usize = 30_000_000;

fn is_deep() -> bool {
    std::env::var("MODEL").is_ok_and(|model| model == "deep")
}

/// What may go wrong in every run, and what in a deep one.
fn either(quick: Left, deep: Left) -> Setting {
    Setting { left: if is_deep() { deep } else { quick }, at_once: if is_deep() { 3 } else { 2 }, ..Setting::default() }
}

/// The same; in every run, whoever fails dies.
fn dying(quick: Left, deep: Left) -> Setting {
    Setting { only_dies: !is_deep(), ..either(quick, deep) }
}

const fn left(faults: u8, lost: u8, doubled: u8, slow: u8) -> Left {
    Left { faults, lost, doubled, slow }
}

/// All promises hold in every world of this setting, and what has to happen somewhere does.
fn holds(setting: Setting) {
    let began = Instant::now();
    let checker = Parking::new(setting).checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = if is_deep() { checker.target_state_count(ENOUGH) } else { checker };
    let checker = checker.spawn_bfs().join();
    let is_whole = checker.state_count() < ENOUGH;
    println!(
        "{}: {} worlds by {} steps, at most {} deep, in {:.1} s{}",
        name(),
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f32(),
        if is_whole { "" } else { ": not all there are" }
    );
    let found = checker.discoveries();
    for promise in checker.model().properties() {
        match (promise.expectation, found.get(promise.name)) {
            (Expectation::Sometimes, None) => assert!(!is_whole, "it never happens here that {}", promise.name),
            (Expectation::Sometimes, Some(_)) | (_, None) => {}
            (_, Some(path)) => panic!("not true: {}\n{}", promise.name, told(checker.model(), path)),
        }
    }
}

/// The checker finds a world that breaks this promise.
fn breaks(setting: Setting, promise: &'static str) {
    let began = Instant::now();
    // One thread, so that the shortest way is found, or nearly.
    let checker = Parking::new(setting).checker().finish_when(HasDiscoveries::AllOf([promise].into())).spawn_bfs().join();
    let path = checker.discovery(promise).unwrap_or_else(|| panic!("not found in {} worlds: {promise}", checker.unique_state_count()));
    let (worlds, steps, took_s) = (checker.unique_state_count(), path.clone().into_actions().len(), began.elapsed().as_secs_f32());
    println!("{}: found after {worlds} worlds, in {steps} steps, in {took_s:.1} s: {promise}\n{}", name(), told(checker.model(), &path));
}

fn name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// The way to a world, step by step.
fn told(parking: &Parking, path: &Path<World, Action>) -> String {
    let steps = path.clone().into_vec().into_iter();
    steps.filter_map(|(world, action)| action.map(|action| parking.tell(&world, &action))).collect::<Vec<_>>().join("\n")
}

const CLEAN: Word = Word::Lists(&[LOW]);
const BAD: Word = Word::Lists(&[CRITICAL]);

// One request, one image.

#[test]
fn a_parked_request_is_answered_whatever_is_lost_doubled_or_killed() {
    let setting = either(left(1, 1, 1, 0), left(2, 1, 1, 0));
    holds(Setting { sometimes: vec![PASSES, TIMES_OUT], ..setting }.image("app", &[Word::Running, CLEAN]).asks(Create, 0, 0));
}

#[test]
fn a_parked_request_is_answered_once_although_findings_get_worse() {
    let setting = dying(left(1, 0, 0, 0), left(1, 1, 1, 0));
    holds(Setting { sometimes: vec![PASSES, BLOCKS, TIMES_OUT], ..setting }.image("app", &[Word::Running, CLEAN, BAD]).asks(Create, 0, 0));
}

#[test]
fn a_slow_function_and_a_late_message_change_nothing() {
    let setting = either(left(0, 0, 0, 1), left(1, 0, 0, 1));
    holds(Setting { sometimes: vec![PASSES, TIMES_OUT], ..setting }.image("app", &[Word::Running, CLEAN]).asks(Create, 0, 0));
}

// Two requests, one image.

#[test]
fn two_stacks_that_wait_for_one_image_are_each_judged_by_their_own_policy() {
    let setting = dying(left(1, 0, 0, 0), left(1, 1, 0, 0));
    let setting = Setting { sometimes: vec![PASSES, BLOCKS, TIMES_OUT], ..setting }.image("app", &[Word::Running, BAD]);
    holds(setting.asks_for(Create, 0, 0, PATIENCE, strict(), 0).asks_for(Create, 0, 0, PATIENCE, ignoring(CRITICAL), 1));
}

// An index.

#[test]
fn two_images_of_an_index_that_end_in_one_moment_make_one_answer() {
    let setting = either(left(0, 1, 0, 0), left(1, 1, 0, 0));
    let setting = Setting { sometimes: vec![PASSES, TIMES_OUT], ..setting };
    holds(setting.image("amd", &[Word::Running, CLEAN]).image("arm", &[Word::Running, CLEAN]).index().asks(Create, 2, 0));
}

#[test]
fn a_bad_image_of_an_index_blocks_it() {
    let setting = either(left(0, 0, 0, 0), left(1, 0, 0, 0));
    let setting = Setting { sometimes: vec![BLOCKS, TIMES_OUT], ..setting };
    holds(setting.image("amd", &[Word::Running, CLEAN]).image("arm", &[Word::Running, BAD]).index().asks(Create, 2, 0));
}

// A newer request of the same resource.

fn two_updates(setting: Setting, of_the_newer: &[Word]) -> Setting {
    setting.image("old", &[Word::Running, CLEAN]).image("new", of_the_newer).asks(Update, 0, 0).asks(Update, 1, 3)
}

#[test]
fn an_update_replaces_the_one_that_waits() {
    let setting = either(left(0, 1, 1, 0), left(0, 1, 1, 0));
    let doubles: fn(&What) -> bool = if is_deep() { |_| true } else { |what| matches!(what, What::Request(_) | What::Timer(..)) };
    holds(two_updates(Setting { sometimes: vec![PASSES, SUPERSEDED], overlaps: false, doubles, ..setting }, &[CLEAN]));
}

#[test]
fn two_updates_that_are_at_work_at_once_are_each_answered() {
    for (of_the_newer, also, faults) in [(CLEAN, PASSES, 1), (Word::Running, TIMES_OUT, 0)] {
        let setting = dying(left(faults, 0, 0, 0), left(1, 0, 0, 0));
        holds(two_updates(Setting { sometimes: vec![PASSES, SUPERSEDED, also], ..setting }, &[of_the_newer]));
    }
}

#[test]
fn a_rollback_replaces_what_waits_and_does_not_wait_itself() {
    let setting = dying(left(1, 0, 0, 0), left(1, 0, 0, 0));
    let setting = Setting { sometimes: vec![PASSES, SUPERSEDED], ..setting };
    holds(setting.image("old", &[CLEAN]).image("new", &[Word::Running]).asks(Create, 0, 0).asks(Update, 1, 3).asks(Update, 0, 6).rolls_back());
}

#[test]
fn a_delete_ends_what_waits_and_what_is_deployed() {
    let setting = dying(left(1, 0, 0, 0), left(1, 1, 0, 0));
    let setting = Setting { sometimes: vec![PASSES, SUPERSEDED, DELETED, TIMES_OUT], ..setting };
    holds(setting.image("app", &[Word::Running, CLEAN]).asks(Create, 0, 0).asks(Delete, 0, 3));
}

fn made_again(setting: Setting) -> Setting {
    setting.image("app", &[Word::Running, CLEAN]).asks(Create, 0, 0).asks(Delete, 0, 3).asks(Create, 0, 6).in_turn()
}

#[test]
fn what_is_made_again_after_its_delete_is_deployed() {
    let setting = either(left(0, 1, 1, 0), left(0, 2, 2, 0));
    let setting = Setting { sometimes: vec![PASSES, SUPERSEDED, DELETED, TIMES_OUT], overlaps: false, ..setting };
    holds(made_again(setting));
}

#[test]
fn what_is_made_again_while_its_delete_is_at_work_is_answered() {
    let setting = either(left(0, 0, 0, 0), left(1, 0, 0, 0));
    let setting = Setting { sometimes: vec![PASSES, SUPERSEDED, DELETED, TIMES_OUT], ..setting };
    holds(made_again(setting));
}

// It has to be signed.

#[test]
fn a_signature_and_a_scan_come_when_they_like() {
    let setting = dying(left(1, 1, 0, 0), left(1, 1, 1, 0));
    let setting = Setting { sometimes: vec![PASSES, UNSIGNED, TIMES_OUT], loses: |what| matches!(what, What::Event { .. } | What::Signed(_)), ..setting };
    holds(setting.image("app", &[Word::Running, CLEAN]).may_be_signed(0).asks(Create, 0, 0).wants_signatures(false));
}

#[test]
fn what_is_asked_for_a_signature_alone_waits_for_nothing_else() {
    let setting = either(left(1, 1, 1, 0), left(2, 1, 1, 1));
    let setting = Setting { sometimes: vec![PASSES, UNSIGNED], loses: |what| matches!(what, What::Signed(_)), ..setting };
    holds(setting.image("app", &[Word::NoScan]).may_be_signed(0).asks(Create, 0, 0).wants_signatures(true));
}

#[test]
fn a_signature_that_comes_while_its_request_is_registered_is_not_forgotten() {
    let setting = Setting { own_messages: false, sweep: None, sometimes: vec![PASSES], ..Setting::default() };
    holds(setting.image("app", &[Word::NoScan]).may_be_signed(0).asks(Create, 0, 0).wants_signatures(true));
}

#[test]
fn a_finding_is_no_matter_of_the_signature() {
    let setting = either(left(0, 0, 0, 0), left(1, 0, 0, 0));
    let setting = Setting { sometimes: vec![BLOCKS, UNSIGNED, TIMES_OUT], ..setting };
    holds(setting.image("app", &[Word::Running, BAD]).may_be_signed(0).asks(Create, 0, 0).wants_signatures(false));
}

#[test]
fn an_index_or_all_of_its_images_are_signed() {
    let setting = either(left(0, 1, 0, 0), left(1, 1, 0, 0));
    let setting = Setting { sometimes: vec![PASSES, UNSIGNED], loses: |what| matches!(what, What::Signed(_)), ..setting };
    let setting = setting.image("amd", &[Word::NoScan]).image("arm", &[Word::NoScan]).index();
    holds(setting.may_be_signed(0).may_be_signed(1).may_be_signed(2).asks(Create, 2, 0).wants_signatures(true));
}

#[test]
fn an_update_that_waits_for_its_signature_is_replaced_by_a_newer_one() {
    let setting = dying(left(1, 0, 0, 0), left(1, 1, 0, 0));
    let setting = Setting { sometimes: vec![PASSES, SUPERSEDED, UNSIGNED], ..setting };
    let setting = setting.image("old", &[Word::NoScan]).image("new", &[Word::NoScan]).may_be_signed(0).may_be_signed(1);
    holds(setting.asks(Update, 0, 0).asks(Update, 1, 3).wants_signatures(true));
}

// Its time is up.

#[test]
fn what_is_never_scanned_is_refused_in_time() {
    let setting = either(left(1, 0, 0, 0), left(2, 1, 1, 0));
    holds(Setting { sometimes: vec![TIMES_OUT], ..setting }.image("app", &[Word::NoScan, Word::Running]).asks(Create, 0, 0));
}

#[test]
fn a_list_that_is_shorter_than_its_count_lets_nothing_through() {
    let setting = either(left(1, 0, 0, 0), left(2, 0, 0, 0));
    holds(Setting { sometimes: vec![PASSES, TIMES_OUT], ..setting }.image("app", &[Word::Disagrees, CLEAN]).asks(Create, 0, 0));
}

fn inspected(setting: Setting, words: &[Word], counts: bool) -> Setting {
    let mut setting = Setting { registry: ScanSource::Enhanced, ..setting }.image("app", words).asks_for(Create, 0, 0, 40, strict(), 0);
    let filling = &mut setting.images[0].script[1];
    (filling.tells, filling.counts) = (true, counts);
    setting
}

#[test]
fn inspectors_list_is_not_believed_while_it_fills() {
    let setting = either(left(0, 0, 0, 0), left(1, 0, 0, 0));
    holds(inspected(Setting { sometimes: vec![BLOCKS, TIMES_OUT], ..setting }, &[Word::Running, Word::Filling(&[]), BAD], false));
}

#[test]
fn inspectors_counts_settle_what_its_list_leaves_open() {
    for (filled, kind) in [(BAD, BLOCKS), (CLEAN, PASSES)] {
        let setting = either(left(0, 0, 0, 0), left(1, 0, 0, 0));
        holds(inspected(Setting { sometimes: vec![kind, TIMES_OUT], ..setting }, &[Word::Running, Word::Filling(&[]), filled], true));
    }
}

// Nobody comes.

#[test]
fn the_sweep_answers_whose_timers_are_lost() {
    let setting = dying(left(1, 2, 0, 0), left(2, 2, 0, 0));
    let setting = Setting { loses: |what| !matches!(what, What::Request(_) | What::GivenUp(_)), sometimes: vec![PASSES, TIMES_OUT], ..setting };
    holds(setting.image("app", &[Word::Running, CLEAN]).asks(Create, 0, 0));
}

#[test]
fn what_on_deploy_fails_on_every_time_is_answered() {
    let setting = dying(left(3, 0, 0, 0), left(4, 0, 0, 0));
    // Patience for all three deliveries: after one and three minutes.
    let setting = Setting { fails: |what| matches!(what, What::Request(_)), sometimes: vec![PASSES, GIVEN_UP, TIMES_OUT], ..setting };
    holds(setting.image("app", &[Word::Running, CLEAN]).asks_for(Create, 0, 0, 200, strict(), 0));
}

// The seeds. Each setting holds without its seed.

fn without_messages(seed: Option<Seed>) -> Setting {
    Setting { own_messages: false, sweep: None, seed, ..Setting::default() }.image("app", &[Word::Running, CLEAN]).asks(Create, 0, 0)
}

#[test]
fn to_look_before_registering_forgets_a_request() {
    holds(without_messages(None));
    breaks(without_messages(Some(Seed::LooksFirst)), NOT_FORGOTTEN);
}

#[test]
fn an_answer_that_is_not_stored_becomes_two() {
    let setting = Setting { left: left(1, 0, 0, 0), seed: Some(Seed::AnswerNotStored), ..Setting::default() };
    breaks(setting.image("app", &[Word::Running, CLEAN, BAD]).asks(Create, 0, 0), ONE_ANSWER);
}

fn without_sweep(seed: Option<Seed>) -> Setting {
    // A lease that begins within the first 35 seconds has ended when the last timer rings.
    let setting = Setting { left: left(1, 0, 0, 0), fails_until: 35, sweep: None, seed, ..Setting::default() };
    setting.image("app", &[Word::Running, CLEAN]).asks_for(Create, 0, 0, 100, strict(), 0)
}

#[test]
fn a_timer_that_is_sent_last_is_not_sent() {
    holds(without_sweep(None));
    breaks(without_sweep(Some(Seed::TimerLast)), ANSWERED);
}

#[test]
fn a_lease_that_never_ends_leaves_an_answer_unsent() {
    let setting = Setting { left: left(1, 0, 0, 0), seed: Some(Seed::EndlessLease), ..Setting::default() };
    breaks(setting.image("app", &[Word::Running, CLEAN]).asks(Create, 0, 0), ANSWERED);
}

#[test]
fn an_update_that_does_not_see_the_one_before_it_leaves_both_deployed() {
    breaks(two_updates(Setting { seed: Some(Seed::RowsOfThen), ..Setting::default() }, &[CLEAN]), NEWEST);
}

#[test]
fn a_delete_that_closes_all_it_finds_takes_along_what_was_made_again() {
    breaks(made_again(Setting { seed: Some(Seed::ClosesAll), ..Setting::default() }), RECORDED);
}
