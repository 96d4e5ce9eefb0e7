//! The scan protocol: what an event makes of the row, what it costs, and when it looks again.

use ecr_scan_verifier::domain::head::EventCounts;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::scan::{Hints, Scan};
use ecr_scan_verifier::domain::protocol::{Do, Outcome, Protocol, Saw};
use ecr_scan_verifier::domain::scan::{Answered, Report, ScanSource};

use crate::world::*;

fn looks(world: &World) -> usize {
    world.did.iter().filter(|name| *name == "Look").count()
}

#[test]
fn a_finished_basic_scan_is_read_once_and_judged() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "CRITICAL")])]);
    assert_eq!(world.scan_ends("app"), Outcome::Done("BLOCK (1 of CRITICAL: 1)".into()));
    assert_eq!(
        world.did,
        ["ReadHeads", "Look", "ReadDeployed", "PutFacts", "WriteHead", "ReadWaiting", "Index"],
        "findings before the row that refers to them"
    );
}

#[test]
fn an_event_older_than_the_last_reading_costs_no_call_of_the_scanner() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Enhanced, 50, &[])]);
    world.registry = ScanSource::Enhanced;
    world.now = 200;
    world.scan_ends("app");
    for (second, expected) in [(139, 1), (141, 2), (300, 3)] {
        world.scan_with("app", Hints { newest: Some(at(second)), ..Hints::default() });
        assert_eq!(looks(&world), expected, "event of {second}, last reading of 200");
    }
    // Its counts are evidence all the same.
    world.scan_with(
        "app",
        Hints { newest: Some(at(60)), counts: Some(EventCounts { at: at(60), critical: 0, high: 0, medium: 0, total: 0 }), ..Hints::default() },
    );
    assert_eq!(looks(&world), 3);
    assert_eq!(world.heads[&digest("app")].verdict, "PASS");
}

#[test]
fn what_is_not_final_is_looked_at_again_three_times_and_no_more() {
    let unsure = complete(ScanSource::Enhanced, 50, &[]);
    let disagree = Answered::Findings(Report {
        status: Some("COMPLETE".into()),
        completed_at: Some(at(50)),
        listed: true,
        stated_counts: Some(std::collections::BTreeMap::from([("HIGH".to_owned(), 1)]).into()),
        ..Report::default()
    });
    for (registry, answer, waits) in [
        (ScanSource::Enhanced, unsure, [Some(22), Some(30), Some(60), None]),
        (ScanSource::Basic, status("PENDING"), [Some(15), Some(30), Some(60), None]),
        (ScanSource::Basic, Answered::NoScan, [Some(15), Some(30), Some(60), None]),
        (ScanSource::Basic, disagree, [Some(15), Some(30), None, None]), // the third reading settles it, 45 s after the first
        (ScanSource::Basic, status("FAILED"), [None, None, None, None]),
        (ScanSource::Basic, complete(ScanSource::Basic, 50, &[]), [None, None, None, None]),
    ] {
        let mut world = World { registry, ..World::default() };
        world.scans("app", [answer.clone()]);
        for (n, wait) in waits.iter().enumerate() {
            world.look_again.clear();
            world.now += if registry == ScanSource::Basic { [1, 15, 30, 60][n] } else { 1 };
            world.scan_with("app", Hints { looked_again: n as u32, must_look: true, ..Hints::default() });
            let expected: Vec<_> = wait.iter().map(|seconds| (n as u32 + 1, *seconds)).collect();
            let asked: Vec<_> = world.look_again.iter().map(|(n, after)| (*n, after.as_secs())).collect();
            assert_eq!(asked, expected, "{answer:?} after {n} looks");
        }
    }
}

#[test]
fn a_reading_that_runs_out_of_time_goes_on_in_the_next_message() {
    let mut world = World { pages_left: 2, ..World::default() };
    world.scans("app", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "CRITICAL")])]);
    world.scan_ends("app");
    for _ in 0..2 {
        assert!(world.heads.is_empty(), "half a list is none");
        let from = world.read_on.pop();
        assert!(from.is_some());
        world.scan_with("app", Hints { from, must_look: true, ..Hints::default() });
    }
    assert_eq!(world.heads[&digest("app")].verdict, "BLOCK (1 of CRITICAL: 1)");
    assert!(world.read_on.is_empty());
}

#[test]
fn an_index_is_not_looked_at_again() {
    let mut world = World::default();
    world.scans("index", [Answered::NoScan]);
    world.scan_ends("index");
    assert_eq!(world.look_again.len(), 1, "nobody knows yet what it is");
    world.look_again.clear();
    world.heads.get_mut(&digest("index")).unwrap().kind = ecr_scan_verifier::domain::head::Kind::Index(vec![child("amd", "linux/amd64")]);
    world.now += 100;
    world.scan_ends("index");
    assert!(world.look_again.is_empty());
}

#[test]
fn two_equal_readings_make_a_pass() {
    let mut world = World { registry: ScanSource::Enhanced, ..World::default() };
    world.scans("app", [complete(ScanSource::Enhanced, 50, &[])]);
    world.scan_ends("app");
    assert_eq!(world.heads[&digest("app")].verdict, "PENDING (not proven whole yet)");
    let (n, after) = world.look_again.pop().unwrap();
    world.now += after.as_secs();
    world.scan_with("app", Hints { looked_again: n, must_look: true, ..Hints::default() });
    assert_eq!(world.heads[&digest("app")].verdict, "PASS");
    assert!(world.look_again.is_empty());
}

#[test]
fn findings_that_nobody_refers_to_any_more_are_let_go() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[]), complete(ScanSource::Basic, 60, &[finding("CVE-1", "LOW")])]);
    world.scan_ends("app");
    let old = world.heads[&digest("app")].result.clone().unwrap().facts;
    assert!(world.expired.is_empty());
    world.now += 100;
    world.scan_ends("app");
    assert_eq!(world.expired, [old]);
    // The very same, found once more, are those that the row refers to.
    world.now += 100;
    world.scan_ends("app");
    assert_eq!(world.expired.len(), 1, "{:?}", world.expired);
}

#[test]
fn findings_are_stored_again_for_each_version_of_the_row_that_is_to_refer_to_them() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[])]);
    world.scan_ends("app");
    world.now += 100;
    world.scans("app", [complete(ScanSource::Basic, 160, &[finding("CVE-1", "LOW")])]);
    // Whoever has written the row in between may have let these very findings go.
    world.before.push(("WriteHead", |world| world.heads.get_mut(&digest("app")).unwrap().version += 1));
    world.did.clear();
    world.scan_ends("app");
    assert_eq!(world.did.iter().filter(|name| *name == "PutFacts").count(), 2, "{:?}", world.did);
}

#[test]
fn a_race_lost_six_times_goes_back_to_the_queue_and_one_lost_five_times_is_won() {
    for (lost, is_won) in [(5, true), (6, false)] {
        let mut world = World::default();
        world.scans("app", [complete(ScanSource::Basic, 50, &[])]);
        world.scan_ends("app");
        world.now += 100;
        for _ in 0..lost {
            world.before.push(("WriteHead", |world| world.heads.get_mut(&digest("app")).unwrap().version += 1));
        }
        let outcome = world.scan_ends("app");
        assert_eq!(matches!(&outcome, Outcome::Redeliver(why) if why.text.contains("5 times")), !is_won, "{lost}: {outcome:?}");
    }
}

#[test]
fn whatever_cannot_be_done_is_done_again_and_nothing_is_written() {
    for broken in ["ReadHeads", "Look", "ReadDeployed", "PutFacts"] {
        let mut world = World { broken: vec![(broken, false)], ..World::default() };
        world.scans("app", [complete(ScanSource::Basic, 50, &[])]);
        assert!(matches!(world.scan_ends("app"), Outcome::Redeliver(_)), "{broken}");
        assert!(world.heads.is_empty(), "{broken}");
    }
}

#[test]
fn live_deployments_are_judged_by_their_own_policies() {
    let mut world = World {
        policies: vec![at_or_above("LOW"), ecr_scan_verifier::domain::policy::Policy::from_words(None, Some("LOW"), ["CVE-1".to_owned()]).unwrap()],
        ..World::default()
    };
    world.scans("app", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "LOW")])]);
    world.scan_ends("app");
    let head = &world.heads[&digest("app")];
    assert_eq!(head.blocking_under(&world.policies[0], at(0)), Some(1));
    assert_eq!(head.blocking_under(&world.policies[1], at(0)), Some(0), "its ignore list needs the findings, so the row keeps the result");
    assert_eq!(head.verdicts.len(), 1);
}

#[test]
fn of_two_events_of_one_second_in_one_batch_the_one_that_counts_more_is_kept() {
    let event = |total| Hints { counts: Some(EventCounts { at: at(60), critical: 0, high: 0, medium: 0, total }), ..Hints::default() };
    for (one, other) in [(0, 3), (3, 0)] {
        assert_eq!(event(one).and(event(other)).counts.map(|counts| counts.total), Some(3));
    }
}

#[test]
fn news_that_come_in_bursts_are_read_once_in_a_while_and_all_the_same() {
    let burst = |second: i64| Hints { newest: Some(at(second)), can_wait: true, ..Hints::default() };
    let mut world = World { registry: ScanSource::Enhanced, ..World::default() };
    world.scans("app", [complete(ScanSource::Enhanced, 50, &[finding("CVE-1", "CRITICAL")])]);
    world.scan_with("app", burst(100));
    assert_eq!((looks(&world), world.look_again.len()), (1, 1), "at once, and once more since nothing proves the list");
    for second in 101..120 {
        world.now = second;
        world.scan_with("app", burst(second));
    }
    assert_eq!((looks(&world), world.look_again.len()), (1, 1), "somebody is about to come anyway");
    world.now = 122;
    world.scan_with("app", Hints { looked_again: 1, must_look: true, ..Hints::default() });
    assert_eq!(looks(&world), 2);

    // It is proven, so nobody is about to come; and it was read a moment ago.
    world.look_again.clear();
    for second in 130..150 {
        world.now = second;
        world.scan_with("app", burst(second));
    }
    let asked: Vec<_> = world.look_again.iter().map(|(n, after)| (*n, after.as_secs())).collect();
    assert_eq!((looks(&world), asked), (2, vec![(0, 52)]), "once, a minute after the last reading");
    // It is late, or lost: the next event reads by itself.
    world.now = 183;
    world.scan_with("app", burst(183));
    assert_eq!(looks(&world), 3);
    // A scan that has ended does not wait.
    world.scan_with("app", Hints { newest: Some(at(183)), ..Hints::default() });
    assert_eq!(looks(&world), 4);
}

#[test]
fn findings_are_found_by_their_ids_and_those_of_a_deleted_image_by_none() {
    let mut world = World::default();
    let suppressed = finding("CVE-2", "LOW");
    world.scans("app", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "LOW"), suppressed])]);
    world.scan_ends("app");
    assert_eq!(world.index[&digest("app")].1, ["CVE-1", "CVE-2"]);
    world.now += 100;
    world.scans("app", [Answered::NoImage]);
    world.scan_ends("app");
    assert!(world.index[&digest("app")].1.is_empty());
}

#[test]
fn an_event_that_comes_while_somebody_reads_is_not_taken_for_known() {
    let mut world = World { registry: ScanSource::Enhanced, ..World::default() };
    world.now = 1000;
    world.scans("app", [complete(ScanSource::Enhanced, 990, &[])]);
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    world.now = 1030;
    world.scan_with("app", Hints { must_look: true, looked_again: 1, ..Hints::default() });
    world.now = 1035;
    world.scan_with("app", Hints { newest: Some(at(1035)), can_wait: true, ..Hints::default() });
    assert!(world.heads[&digest("app")].look_at.is_some(), "gathered");
    world.now = 1091;
    world.look_again.clear();
    // Its list is read, and before the row is written something new is found.
    world.before.push(("ReadDeployed", |world| {
        world.now += 3;
        world.scan_with("app", Hints { newest: Some(at(world.now)), can_wait: true, ..Hints::default() });
    }));
    let before = looks(&world);
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    assert!(looks(&world) > before + 1 || !world.look_again.is_empty(), "somebody reads it once more");
}

#[test]
fn whoever_reads_next_may_come_before_his_time_and_miss_what_is_new() {
    for (before_his_time, comes_again) in [(1, true), (2, true), (3, false), (30, false)] {
        let mut world = World { registry: ScanSource::Enhanced, ..World::default() };
        world.now = 1000;
        world.scans("app", [complete(ScanSource::Enhanced, 990, &[])]);
        world.scan_with("app", Hints { must_look: true, ..Hints::default() });
        let (n, after) = world.look_again.pop().expect("its list is not proven whole");
        assert_eq!((n, after.as_secs()), (1, 22));
        // He may be reading already, and have read before this was found.
        world.now = 1022 - before_his_time;
        world.look_again.clear();
        world.scan_with("app", Hints { newest: Some(at(world.now)), can_wait: true, ..Hints::default() });
        assert_eq!(!world.look_again.is_empty(), comes_again, "{before_his_time} s before");
    }
}

#[test]
fn what_others_have_read_in_passing_makes_no_event_old() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[])]);
    world.scan_ends("app");
    world.is_image("app");
    world.now = 300;
    // A deployment looks by itself, and tells nobody what it has seen.
    world.scans("app", [complete(ScanSource::Basic, 299, &[finding("CVE-1", "LOW")])]);
    world.deploys(asking(create("app"), |gate| gate.max_scan_age_s = Some(30)));
    let before = looks(&world);
    world.now = 400;
    world.scan_with("app", Hints { newest: Some(at(230)), ..Hints::default() });
    assert_eq!(looks(&world), before + 1);
}

#[test]
fn of_what_nobody_has_heard_of_and_nobody_looks_at_nothing_is_written() {
    let mut world = World::default();
    let outcome = world.scan_with("app", Hints { announce: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() });
    assert!(matches!(&outcome, Outcome::Done(what) if what == "nothing is recorded of it"), "{outcome:?}");
    assert_eq!((world.heads.len(), world.did), (0, vec!["ReadHeads".to_owned()]));
}

#[test]
fn how_likely_findings_are_exploited_is_asked_where_a_policy_or_the_row_wants_it() {
    let by_likelihood = || Policy::parse(r#"{"exploit":{"epss":"0.1"}}"#).unwrap();
    let row = |says_epss: bool| {
        let mut world = World { registry: ScanSource::Enhanced, ..World::default() };
        world.scans("app", [complete(ScanSource::Enhanced, 50, &[])]);
        world.scan_ends("app");
        let mut head = world.heads.remove(&digest("app")).unwrap();
        head.result.as_mut().unwrap().says_epss = says_epss;
        head
    };
    for (policy, says_epss, asked) in
        [(Policy::default(), false, false), (by_likelihood(), false, true), (Policy::default(), true, true), (by_likelihood(), true, true)]
    {
        let mut scan = Scan::new(repository(), digest("app"), Hints { must_look: true, ..Hints::default() }, policy, home());
        scan.next(Saw::Start, at(200));
        let looks = scan.next(Saw::Heads(vec![Some(row(says_epss))]), at(200));
        assert!(matches!(looks, Do::Look { epss, .. } if epss == asked), "{says_epss}: {looks:?}");
    }
}

#[test]
fn of_two_messages_about_one_image_neither_loses_what_it_asks_for() {
    type Asks = (&'static str, fn(&mut Hints), fn(&Hints) -> bool);
    let asks: [Asks; 4] = [
        ("to look", |hints| hints.must_look = true, |hints| hints.must_look),
        ("for a request", |hints| hints.for_a_request = true, |hints| hints.for_a_request),
        ("to announce", |hints| hints.announce = true, |hints| hints.announce),
        ("signed", |hints| hints.signed = true, |hints| hints.signed),
    ];
    for (name, ask, is_asked) in asks {
        let mut asking = Hints::default();
        ask(&mut asking);
        let other = Hints::default();
        assert!(is_asked(&asking.clone().and(other.clone())) && is_asked(&other.clone().and(asking)), "{name}");
        assert!(!is_asked(&other.clone().and(other)), "{name}");
    }
    let can_wait = |can_wait| Hints { can_wait, ..Hints::default() };
    for (one, other) in [(true, true), (true, false), (false, true), (false, false)] {
        assert_eq!(can_wait(one).and(can_wait(other)).can_wait, one && other, "waits only where both can");
    }
}

#[test]
fn a_word_to_tell_somebody_loses_nothing_else_that_is_said() {
    let mut world = World { registry: ScanSource::Enhanced, ..World::default() };
    world.now = 300;
    world.scans("app", [complete(ScanSource::Enhanced, 290, &[])]);
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    let counts = EventCounts { at: at(235), critical: 0, high: 0, medium: 0, total: 0 };
    let event = Hints { newest: Some(at(235)), counts: Some(counts), ..Hints::default() };
    let announce = Hints { announce: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() };
    world.did.clear();
    world.scan_with("app", event.and(announce));
    assert!(world.heads[&digest("app")].event.is_some());
    assert!(world.did.contains(&"ReadWaiting".to_owned()) && world.did.contains(&"ReadDeployed".to_owned()), "{:?}", world.did);
}
