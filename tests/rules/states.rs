//! Every state of a scan, under both scanners, for each kind of request: what the gate answers. `docs/states.md` is written from
//! here (`INSTA_UPDATE=always`), so that it says what the code does.

use std::fmt::Write as _;
use std::path::Path;

use ecr_scan_verifier::domain::protocol::Resolved;
use ecr_scan_verifier::domain::request::{AskedScan, Request, RequestKind};
use ecr_scan_verifier::domain::scan::{Answered, Coverage, Report, ScanSource};

use crate::world::*;

struct State {
    name: &'static str,
    answer: fn(ScanSource) -> Answered,
    coverage: Option<(&'static str, &'static str)>,
}

fn states() -> Vec<State> {
    let plain = |name, answer| State { name, answer, coverage: None };
    let no_scan = |name, code, reason| State { name, answer: |_| Answered::NoScan, coverage: Some((code, reason)) };
    vec![
        plain("complete, nothing blocks", |source| complete(source, 50, &[finding("CVE-1", "LOW")])),
        plain("complete, a finding blocks", |source| complete(source, 50, &[finding("CVE-1", "CRITICAL")])),
        plain("complete, more counted than listed", |source| {
            let Answered::Findings(report) = complete(source, 50, &[]) else { unreachable!() };
            let counts = std::collections::BTreeMap::from([("HIGH".to_owned(), 1)]);
            Answered::Findings(Report { stated_counts: Some(counts.into()), ..report })
        }),
        plain("ACTIVE or COMPLETE without a completed time", |source| {
            let word = if source == ScanSource::Basic { "COMPLETE" } else { "ACTIVE" };
            Answered::Findings(Report { status: Some(word.into()), listed: true, ..Report::default() })
        }),
        plain("PENDING", |_| status("PENDING")),
        plain("IN_PROGRESS", |_| status("IN_PROGRESS")),
        plain("never scanned", |_| Answered::NoScan),
        no_scan("never scanned, coverage pending", "ACTIVE", "PENDING_INITIAL_SCAN"),
        no_scan("never scanned, coverage says unsupported", "INACTIVE", "UNSUPPORTED_OS"),
        plain("LIMIT_EXCEEDED", |_| status("LIMIT_EXCEEDED")),
        plain("FINDINGS_UNAVAILABLE", |_| status("FINDINGS_UNAVAILABLE")),
        plain("FAILED", |_| status("FAILED")),
        plain("UNSUPPORTED_IMAGE", |_| status("UNSUPPORTED_IMAGE")),
        plain("SCAN_ELIGIBILITY_EXPIRED", |_| status("SCAN_ELIGIBILITY_EXPIRED")),
        plain("IMAGE_ARCHIVED", |_| status("IMAGE_ARCHIVED")),
        plain("deleted", |_| Answered::NoImage),
        plain("a word of a future API", |_| status("SOMETHING_NEW")),
    ]
}

#[derive(Clone, Copy)]
enum Asks {
    Create,
    Update,
    Rollback,
    Delete,
}

/// What the gate says at first and, where it waits, when nothing changes until its time is up.
fn answer(state: &State, source: ScanSource, asks: Asks) -> String {
    let coverage = state.coverage.map(|(code, reason)| Coverage { code: code.into(), reason: reason.into(), last_scanned_at: None });
    let mut world = World { registry: source, coverage, ..World::default() };
    world.scans("app", [(state.answer)(source)]);
    world.tags.insert(digest("app").to_string(), Resolved::Image(digest("app")));
    world.rolling_back = matches!(asks, Asks::Rollback);
    let scan = match source {
        ScanSource::Basic => AskedScan::Basic { start_scan: false },
        ScanSource::Enhanced => AskedScan::Enhanced,
    };
    let kind = match asks {
        Asks::Create => RequestKind::Create,
        Asks::Update | Asks::Rollback => RequestKind::Update,
        Asks::Delete => RequestKind::Delete,
    };
    let request = Request { kind, ..asking(create("app"), |gate| gate.scan = scan) };
    world.deploys(request.clone());
    let waited = world.waits(&request);
    while world.waits(&request) {
        world.timer_rings();
    }
    let verdict = world.verdict().replace(&format!("payments-api:{}", digest("app")), "IMAGE");
    let sentence = verdict.split_inclusive(". ").next().unwrap_or_default().trim();
    // What is known of the scan stands further down in the answer.
    let (_, reason) = world.answered();
    let word =
        reason.as_str().and_then(|reason| reason.split_once("no complete scan result ")).and_then(|(_, rest)| rest.split_once('.')).map(|(word, _)| word);
    let verdict = word.map_or_else(|| sentence.to_owned(), |word| format!("{sentence} {word}"));
    match (waited, verdict.starts_with("SUCCESS")) {
        (true, true) => format!("waits, then {verdict}, after {} s", world.now - 100),
        (true, false) => format!("waits, then {verdict}"),
        (false, _) => verdict,
    }
}

#[test]
fn the_page_of_states_says_what_the_code_does() {
    let mut page = String::from(
        "# What the gate answers\n\n\
         Written by a test from the running code (`tests/rules/states.rs`): every state of a scan, under basic scanning and Amazon\n\
         Inspector, for each kind of request. The gate here blocks at HIGH, starts no scan, and waits for 840 s; nothing changes\n\
         while it waits. `onUnscanned`, `failOnVulnerability: false` and `suppressErrorOnRollback: false` are left at their defaults.\n",
    );
    for source in [ScanSource::Basic, ScanSource::Enhanced] {
        let _ = write!(page, "\n## {source}\n\n| the scan | Create | Update | rollback | Delete |\n| --- | --- | --- | --- | --- |\n");
        for state in states().iter().filter(|state| source == ScanSource::Enhanced || state.coverage.is_none()) {
            let cells = [Asks::Create, Asks::Update, Asks::Rollback, Asks::Delete].map(|asks| answer(state, source, asks));
            let _ = writeln!(page, "| {} | {} |", state.name, cells.join(" | "));
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/states.md");
    if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(written, page, "docs/states.md is not what the code does: write it with INSTA_UPDATE=always, and read the difference");
    assert!(!page.contains("| SUCCESS PASS | FAILED"), "an Update is judged as a Create is");
}

/// Each test that the page of compatibility names is there: a claim whose test was renamed or taken out is no claim any more.
#[test]
fn the_page_of_compatibility_names_tests_that_there_are() {
    fn sources(folder: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            if entry.is_dir() {
                sources(&entry, text);
            } else if entry.extension().is_some_and(|kind| kind == "rs") {
                text.push_str(&std::fs::read_to_string(entry).unwrap());
            }
        }
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    sources(&root.join("src"), &mut code);
    sources(&root.join("tests"), &mut code);
    let page = std::fs::read_to_string(root.join("docs/compatibility.md")).unwrap();
    let is_name = |word: &&str| word.matches('_').count() >= 3 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let proof = page.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.trim_end_matches(" |").rsplit(" | ").next());
    let named: Vec<&str> = proof.flat_map(|cell| cell.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))).filter(is_name).collect();
    assert!(named.len() > 100, "{} tests are named", named.len());
    let missing: Vec<&&str> = named.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
