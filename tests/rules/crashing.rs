//! Whatever runs can be killed before or after each thing that it does. What was delivered comes again, timers ring, the sweep
//! comes by: in the end everybody is answered, with the same bytes, as if nothing had happened.

use ecr_scan_verifier::domain::outputs::{Log, LogsTo, Outputs};
use ecr_scan_verifier::domain::protocol::Outcome;
use ecr_scan_verifier::domain::protocol::wake::By;
use ecr_scan_verifier::domain::request::{OnBlock, Request, RequestKind, Stage};
use ecr_scan_verifier::domain::scan::ScanSource;

use crate::world::*;

/// One thing that is delivered, and comes again when whoever works on it dies.
type Delivery = Box<dyn Fn(&mut World) -> Outcome>;

struct Story {
    name: &'static str,
    before: fn(&mut World),
    deliveries: Vec<Delivery>,
}

fn deliver(what: impl Fn(&mut World) -> Outcome + 'static) -> Delivery {
    Box::new(what)
}

fn stories() -> Vec<Story> {
    let clean = || complete(ScanSource::Basic, 110, &[]);
    let running = |world: &mut World| {
        world.scans("app", [status("IN_PROGRESS")]);
    };
    let scanned = |world: &mut World| {
        world.scans("app", [complete(ScanSource::Basic, 90, &[])]);
        world.scan_ends("app");
        world.is_image("app");
    };
    let ends = move |world: &mut World| {
        world.now = world.now.max(120);
        world.scans("app", [clean()]);
        world.scan_ends("app")
    };
    let newer = || Request { asked_at: at(150), ..update("other") };
    let delete = || Request { kind: RequestKind::Delete, request_id: "delete".into(), asked_at: at(150), ..create("app") };
    vec![
        Story { name: "a known verdict", before: scanned, deliveries: vec![deliver(|world| world.deploys(create("app")))] },
        Story {
            name: "a known verdict, and something to be written",
            before: bad,
            deliveries: vec![deliver(|world| world.deploys(wants_outputs(false))), deliver(writes)],
        },
        Story {
            name: "something to be written before the answer",
            before: bad,
            deliveries: vec![deliver(|world| world.deploys(wants_outputs(true))), deliver(writes)],
        },
        Story {
            name: "a finished scan that nobody has told of",
            before: |world| {
                world.scans("app", [complete(ScanSource::Basic, 90, &[finding("CVE-1", "HIGH")])]);
            },
            deliveries: vec![deliver(|world| world.deploys(create("app")))],
        },
        Story { name: "deploy first, scan later", before: running, deliveries: vec![deliver(|world| world.deploys(create("app"))), deliver(ends)] },
        Story {
            name: "its event is lost",
            before: running,
            deliveries: vec![
                deliver(|world| world.deploys(create("app"))),
                deliver(|world| {
                    world.scans("app", [complete(ScanSource::Basic, 104, &[])]);
                    world.now = world.now.max(105);
                    world.wakes("request-1", By::Timer(1))
                }),
            ],
        },
        Story { name: "no scan ever ends", before: running, deliveries: vec![deliver(|world| world.deploys(create("app")))] },
        Story {
            name: "a newer update",
            before: |world| {
                world.scans("app", [status("IN_PROGRESS")]).scans("other", [complete(ScanSource::Basic, 90, &[])]);
            },
            deliveries: vec![
                deliver(|world| world.deploys(update("app"))),
                deliver(move |world| {
                    world.now = world.now.max(150);
                    world.deploys(newer())
                }),
            ],
        },
        Story {
            name: "a delete",
            before: running,
            deliveries: vec![
                deliver(|world| world.deploys(create("app"))),
                deliver(move |world| {
                    world.now = world.now.max(150);
                    world.deploys(delete())
                }),
            ],
        },
    ]
}

fn bad(world: &mut World) {
    world.scans("app", [complete(ScanSource::Basic, 90, &[finding("CVE-1", "HIGH")])]);
    world.scan_ends("app");
    world.is_image("app");
}

fn wants_outputs(strict: bool) -> Request {
    let outputs = Outputs {
        role_arn: "role".into(),
        logs: Some(LogsTo::S3 { bucket: "logs".into(), prefix: String::new() }),
        topic_arn: Some("topic".into()),
        strict,
        ..Outputs::default()
    };
    asking(create("app"), |gate| (gate.outputs, gate.on_block) = (Some(outputs), OnBlock::Warn))
}

/// The message that asks for it, if there is one, is delivered.
fn writes(world: &mut World) -> Outcome {
    match world.to_write.first().map(|(id, _)| id.clone()) {
        Some(id) => world.writes(&id),
        None => Outcome::Done("nobody has asked".into()),
    }
}

/// Where something was written, each place once, and how many messages were sent.
fn written(world: &World) -> (std::collections::BTreeSet<String>, bool) {
    let place = |log: &Log| match log {
        Log::Object { key, body, .. } => format!("{}: {body}", key.rsplit('/').next().unwrap_or_default()),
        Log::Stream { stream, .. } => stream.clone(),
    };
    (world.logs.iter().map(place).collect(), !world.published.is_empty())
}

/// Lets time pass until nobody waits any more.
fn settle(world: &mut World) {
    for _ in 0..60 {
        while let Some((id, _)) = world.to_write.pop() {
            // Whoever was killed over it holds it for two minutes.
            while matches!(world.writes(&id), Outcome::Redeliver(_)) {
                world.now += 60;
            }
        }
        let open: Vec<String> = world.requests.iter().filter(|(_, stored)| stored.stage != Stage::Answered).map(|(id, _)| id.clone()).collect();
        if open.is_empty() {
            return;
        }
        world.now += 60;
        while world.timers.iter().any(|(_, _, at)| *at <= world.now) {
            world.timer_rings();
        }
        for id in open {
            world.wakes(&id, By::Sweep);
        }
    }
    panic!("somebody still waits: {:?}", world.requests);
}

/// The story, with the worker killed at its `kill`-th point, if it comes that far.
fn told(story: &Story, kill: Option<usize>) -> (World, bool) {
    let mut world = World::default();
    (story.before)(&mut world);
    world.did.clear();
    world.kill_at = kill;
    for delivery in &story.deliveries {
        // Lambda and the queues deliver again what was not worked off.
        for _ in 0..3 {
            if delivery(&mut world) != killed() {
                break;
            }
        }
    }
    let was_killed = kill.is_some() && world.kill_at.is_none();
    world.kill_at = None;
    settle(&mut world);
    (world, was_killed)
}

fn answers(world: &World) -> Vec<(String, String)> {
    let mut answers: Vec<(String, String)> = world
        .sent
        .iter()
        .map(|answer| {
            let body: serde_json::Value = serde_json::from_str(answer.as_str()).unwrap();
            let first_line = body["Reason"].as_str().and_then(|reason| reason.lines().next()).unwrap_or_default();
            (body["RequestId"].as_str().unwrap().to_owned(), format!("{} {} {first_line}", body["Status"], body["Data"]["Verdict"]))
        })
        .collect();
    answers.sort();
    answers.dedup();
    answers
}

#[test]
fn whoever_is_killed_wherever_everybody_is_answered_as_if_nothing_had_happened() {
    let mut points = 0;
    for story in stories() {
        let (undisturbed, _) = told(&story, None);
        let expected = answers(&undisturbed);
        let admitted = |world: &World| world.rows.values().filter(|row| row.is_admitted).map(|row| row.digest.clone()).collect::<Vec<_>>();
        for kill in 0.. {
            let (world, was_killed) = told(&story, Some(kill));
            if !was_killed {
                break;
            }
            points += 1;
            let at = format!("{}, killed at point {kill}: {:?}", story.name, world.did);
            assert_eq!(answers(&world), expected, "{at}");
            assert_eq!(admitted(&world), admitted(&undisturbed), "{at}");
            assert_eq!(written(&world), written(&undisturbed), "{at}");
            let distinct: std::collections::BTreeSet<_> = world.sent.iter().map(|answer| answer.as_str()).collect();
            assert_eq!(distinct.len(), expected.len(), "the same bytes each time; {at}");
        }
    }
    println!("{points} fault points survived");
    assert!(points > 100, "{points} fault points: the stories do less than they did");
}
