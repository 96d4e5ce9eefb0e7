//! The model.
#![forbid(unsafe_code)]

mod gate;
mod names;
mod seeds;
mod setting;
mod world;

use std::time::Instant;

use ecr_scan_verifier::domain::request::RequestKind;
use stateright::{Checker, HasDiscoveries, Model};

use crate::gate::*;
use crate::setting::*;

use crate::world::What;
use RequestKind::{Create, Delete, Update};
use ecr_scan_verifier::domain::scan::ScanSource;

fn holds(name: &str, setting: Setting) {
    let began = Instant::now();
    let checker = Gate::new(setting).checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{name}: {} states, {} unique, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f32()
    );
    for (property, path) in checker.discoveries() {
        if checker.model().property(property).expectation == stateright::Expectation::Sometimes {
            continue;
        }
        println!("BROKEN {property}");
        for (world, action) in path.clone().into_vec() {
            match action {
                Some(action) => println!("  {}", checker.model().tell(&world, &action)),
                None => println!("  {world:?}"),
            }
        }
    }
    for property in checker.model().properties() {
        let found = checker.discovery(property.name).is_some();
        assert_eq!(found, property.expectation == stateright::Expectation::Sometimes, "{}", property.name);
    }
}

fn left() -> Left {
    let get = |name: &str| std::env::var(name).map_or(0, |v| v.parse().unwrap());
    Left { faults: get("F"), lost: get("L"), doubled: get("D"), slow: get("S") }
}

fn base() -> Setting {
    Setting { left: left(), ..Setting::default() }
}

#[test]
fn one() {
    holds("one", base().image("app", &[Word::Running, Word::Lists(&[LOW]), Word::Lists(&[CRITICAL])]).asks(Create, 0, 0));
}

#[test]
fn two() {
    holds(
        "two",
        base().image("app", &[Word::Running, Word::Lists(&[CRITICAL])]).asks_for(Create, 0, 0, PATIENCE, at_or_above("HIGH"), 0).asks_for(
            Create,
            0,
            0,
            PATIENCE,
            ignoring("HIGH", CRITICAL),
            1,
        ),
    );
}

#[test]
fn index() {
    holds("index", base().image("amd", &[Word::Running, Word::Lists(&[])]).image("arm", &[Word::Running, Word::Lists(&[LOW])]).index().asks(Create, 2, 0));
}

#[test]
fn update() {
    holds("update", base().image("old", &[Word::Running, Word::Lists(&[])]).image("new", &[Word::Lists(&[])]).asks(Update, 0, 0).asks(Update, 1, 3));
}

#[test]
fn update_waits() {
    holds(
        "update_waits",
        base().image("old", &[Word::Running, Word::Lists(&[])]).image("new", &[Word::Running, Word::Lists(&[])]).asks(Update, 0, 0).asks(Update, 1, 3),
    );
}

#[test]
fn rollback() {
    holds(
        "rollback",
        base().image("old", &[Word::Running, Word::Lists(&[])]).image("new", &[Word::Running]).asks(Update, 0, 0).asks(Update, 1, 3).rolls_back(),
    );
}

#[test]
fn delete() {
    holds("delete", base().image("old", &[Word::Running, Word::Lists(&[])]).asks(Create, 0, 0).asks(Delete, 0, 3));
}

#[test]
fn delete_create() {
    holds("delete_create", base().image("old", &[Word::Running, Word::Lists(&[])]).asks(Create, 0, 0).asks(Delete, 0, 3).asks(Create, 0, 6).in_turn());
}

#[test]
fn delete_create2() {
    holds("delete_create2", base().image("old", &[Word::Lists(&[])]).asks(Delete, 0, 3).asks(Create, 0, 6).in_turn());
}

#[test]
fn due() {
    holds("due", base().image("old", &[Word::NoScan, Word::Running, Word::Disagrees, Word::Lists(&[LOW]), Word::Lists(&[CRITICAL])]).asks(Create, 0, 0));
}

#[test]
fn filling() {
    let mut s = Setting { registry: ScanSource::Enhanced, ..base() }.image("old", &[Word::Running, Word::Filling(&[]), Word::Lists(&[CRITICAL])]).asks_for(
        Create,
        0,
        0,
        40,
        at_or_above("HIGH"),
        0,
    );
    s.images[0].script[1].tells = true;
    s.images[0].script[2].tells = false;
    holds("filling", s);
}

#[test]
fn filling_ok() {
    let mut s = Setting { registry: ScanSource::Enhanced, ..base() }.image("old", &[Word::Running, Word::Filling(&[]), Word::Lists(&[LOW])]).asks_for(
        Create,
        0,
        0,
        40,
        at_or_above("HIGH"),
        0,
    );
    s.images[0].script[1].tells = true;
    holds("filling_ok", s);
}

#[test]
fn timers_lost() {
    holds(
        "timers_lost",
        Setting { loses: |what| matches!(what, What::Timer(..) | What::Event { .. } | What::LookAgain { .. }), ..base() }
            .image("old", &[Word::Running, Word::Lists(&[LOW])])
            .asks(Create, 0, 0),
    );
}

#[test]
fn given_up() {
    holds(
        "given_up",
        Setting { fails: |what| matches!(what, What::Request(..)), ..base() }.image("old", &[Word::Running, Word::Lists(&[LOW])]).asks_for(
            Create,
            0,
            0,
            200,
            at_or_above("HIGH"),
            0,
        ),
    );
}

#[test]
fn no_sweep() {
    holds("no_sweep", Setting { sweep: None, ..base() }.image("app", &[Word::Running, Word::Lists(&[LOW]), Word::Lists(&[CRITICAL])]).asks(Create, 0, 0));
}
#[test]
fn no_timers() {
    holds("no_timers", Setting { sweep: None, own_messages: false, ..base() }.image("app", &[Word::Running, Word::Lists(&[LOW])]).asks(Create, 0, 0));
}
