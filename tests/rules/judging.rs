//! Laws of judging, and of what a row makes of news that come doubled, late and in any order.

use ecr_scan_verifier::domain::finding::{Counts, Epss, Finding, FindingStatus, Fix, Rating, Severity};
use ecr_scan_verifier::domain::head::{Change, EventCounts, Head, News, merge};
use ecr_scan_verifier::domain::judge::{self, Judgement};
use ecr_scan_verifier::domain::policy::{Exemption, Policy};
use ecr_scan_verifier::domain::scan::{Answer, Answered, Reading, Report, ScanSource, ScanState, understand};
use proptest::prelude::*;

use crate::world::{at, complete, digest, finding, in_package, repository};

const WORDS: [&str; 8] = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED", "UNTRIAGED", "SEVERE"];

/// Everything is judged on day 100, in one repository.
fn judge<'a>(findings: &'a [Finding], policy: &'a Policy) -> Judgement<'a> {
    judge::judge(findings, policy, "payments-api", day(100))
}

fn day(n: i64) -> jiff::Timestamp {
    "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_hours(24 * n)
}

fn date(n: i64) -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(day(n)).date()
}

fn any_finding() -> impl Strategy<Value = Finding> {
    let status = prop_oneof![3 => Just(FindingStatus::Active), 1 => Just(FindingStatus::Suppressed), 1 => Just(FindingStatus::Closed)];
    let fix = prop::option::of(prop::sample::select(&[Fix::No, Fix::Partial, Fix::Yes][..]));
    let more = (fix, any::<Option<bool>>(), prop::option::of(50..110_i64), prop::option::of(any_epss()));
    (0..6_u8, prop::sample::select(&WORDS[..]), status, any::<bool>(), more).prop_map(|(id, word, status, has_arn, (fix, exploit, seen, epss))| Finding {
        arn: has_arn.then(|| format!("arn:{id}")),
        status,
        fix,
        exploit,
        epss,
        first_seen: seen.map(day),
        ..Finding::new(format!("CVE-{id}"), Rating::parse(Some(word)))
    })
}

fn any_epss() -> impl Strategy<Value = Epss> {
    prop::sample::select(&["0", "0.02", "0.1", "0.5", "1"][..]).prop_map(|text| Epss::parse(text).unwrap())
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let ignores = prop::collection::vec((0..6_u8, any::<bool>()).prop_map(|(id, arn)| if arn { format!("arn:{id}") } else { format!("CVE-{id}") }), 0..3);
    let threshold = prop::sample::select(&WORDS[..5]).prop_map(|word| (None, Some(word)));
    let members = prop::sample::subsequence(&WORDS[..7], 1..4).prop_map(|words| (Some(words.into_iter().map(str::to_owned).collect::<Vec<_>>()), None));
    let exemption = (0..6_u8, 90..110_i64, any::<bool>(), any::<bool>()).prop_map(|(id, until, here, until_fixed)| Exemption {
        id: format!("CVE-{id}"),
        reason: "because".into(),
        until: date(until),
        package: None,
        repository: (!here).then(|| "elsewhere".to_owned()),
        until_fixed,
    });
    let most = prop::collection::btree_map(prop::sample::select(&Severity::ALL[..]), 0..3_u64, 0..3);
    let beyond = (prop::collection::btree_set(exemption, 0..3), most, any::<bool>(), any::<bool>(), prop::option::of(1..30_u16), prop::option::of(any_epss()));
    (prop_oneof![threshold, members], ignores, beyond).prop_map(
        |((severity, threshold), ignore, (exemptions, max_findings, ignore_unfixed, only_exploited, grace_days, epss_from))| Policy {
            exemptions,
            max_findings,
            ignore_unfixed,
            only_exploited,
            grace_days,
            epss_from,
            ..Policy::from_words(severity.as_deref(), threshold, ignore).unwrap()
        },
    )
}

proptest! {
    #[test]
    fn every_finding_is_in_exactly_one_place(findings in prop::collection::vec(any_finding(), 0..12), policy in any_policy()) {
        let judgement = judge(&findings, &policy);
        let places = judgement.blocking.len() + judgement.tolerated.len() + judgement.ignored.len() + judgement.exempt.len() + judgement.suppressed.len();
        prop_assert_eq!(places, findings.len());
        prop_assert_eq!(judgement.counts.total() as usize, judgement.blocking.len() + judgement.tolerated.len());
    }

    #[test]
    fn the_order_of_findings_does_not_matter(findings in prop::collection::vec(any_finding(), 0..12), policy in any_policy()) {
        let backwards: Vec<Finding> = findings.iter().rev().cloned().collect();
        let (one, other) = (judge(&findings, &policy), judge(&backwards, &policy));
        prop_assert_eq!(one.blocks(), other.blocks());
        prop_assert_eq!((one.counts, one.unused_ignores), (other.counts, other.unused_ignores));
    }

    #[test]
    fn taking_a_finding_away_never_blocks(findings in prop::collection::vec(any_finding(), 1..12), policy in any_policy(), without in any::<prop::sample::Index>()) {
        let mut fewer = findings.clone();
        fewer.remove(without.index(findings.len()));
        prop_assert!(judge(&fewer, &policy).blocking.len() <= judge(&findings, &policy).blocking.len());
    }

    #[test]
    fn raising_the_threshold_never_blocks_more(findings in prop::collection::vec(any_finding(), 0..12), low in 0..5_usize, high in 0..5_usize) {
        let under = |word: &str| judge(&findings, &Policy::from_words(None, Some(word), []).unwrap()).blocking.len();
        let (strict, lax) = (low.max(high), low.min(high)); // WORDS begins with the worst
        prop_assert!(under(WORDS[lax]) <= under(WORDS[strict]));
    }

    #[test]
    fn ignoring_more_never_blocks_more_and_an_unused_ignore_changes_nothing(findings in prop::collection::vec(any_finding(), 0..12), policy in any_policy()) {
        let mut more = policy.clone();
        more.ignore_findings.insert("CVE-3".into());
        let (before, after) = (judge(&findings, &policy), judge(&findings, &more));
        prop_assert!(after.blocking.len() <= before.blocking.len());
        let mut useless = policy.clone();
        useless.ignore_findings.insert("CVE-none".into());
        let useless = judge(&findings, &useless);
        prop_assert_eq!(&useless.blocking, &before.blocking);
        prop_assert!(useless.unused_ignores.contains(&"CVE-none"));
    }

    #[test]
    fn counts_alone_judge_as_the_findings_do_where_nothing_is_ignored(findings in prop::collection::vec(any_finding(), 0..12), policy in any_policy()) {
        let policy = Policy { severity: policy.severity, ..Policy::default() };
        let counts = Counts::of(findings.iter().filter(|finding| finding.counts()));
        prop_assert_eq!(policy.blocking_in(&counts), judge(&findings, &policy).blocking.len() as u64);
    }

    /// Each of these lets something through: taking it out never blocks less.
    #[test]
    fn what_excuses_never_blocks_more(findings in prop::collection::vec(any_finding(), 0..12), policy in any_policy()) {
        let with = judge(&findings, &policy).blocking.len();
        for without in [
            Policy { exemptions: Default::default(), ..policy.clone() },
            Policy { ignore_unfixed: false, ..policy.clone() },
            // Of two limits both have to hold for an excuse, so only without either there is none.
            Policy { only_exploited: false, epss_from: None, ..policy.clone() },
            Policy { epss_from: policy.epss_from.and(Epss::parse("0")), ..policy.clone() },
            Policy { grace_days: None, ..policy.clone() },
        ] {
            prop_assert!(judge(&findings, &without).blocking.len() >= with, "{:?}", without);
        }
    }

    #[test]
    fn an_ended_exemption_excuses_nothing(findings in prop::collection::vec(any_finding(), 0..12), policy in any_policy()) {
        let ended = policy.exemptions.iter().map(|exemption| Exemption { until: date(99), ..exemption.clone() }).collect();
        let none = Policy { exemptions: Default::default(), ..policy.clone() };
        let ended = Policy { exemptions: ended, ..policy };
        prop_assert_eq!(judge(&findings, &ended).blocking, judge(&findings, &none).blocking);
    }

    #[test]
    fn what_is_always_blocked_is_blocked_whatever_else_is_said(findings in prop::collection::vec(any_finding(), 0..12), policy in any_policy()) {
        let policy = Policy { block_always: ["CVE-1".to_owned()].into(), ..policy };
        let judgement = judge(&findings, &policy);
        let always = findings.iter().filter(|finding| finding.id == "CVE-1" && finding.counts()).count();
        prop_assert_eq!(judgement.blocking.iter().filter(|finding| finding.id == "CVE-1").count(), always);
    }

    #[test]
    fn a_judgement_holds_until_it_says(findings in prop::collection::vec(any_finding(), 0..12), policy in any_policy(), later in 0..60_i64) {
        let judgement = judge(&findings, &policy);
        let then = day(100 + later);
        if judgement.holds_until.is_none_or(|until| then < until) {
            prop_assert_eq!(judge::judge(&findings, &policy, "payments-api", then).blocking, judgement.blocking);
        }
    }

    #[test]
    fn a_policy_survives_its_text(policy in any_policy()) {
        prop_assert_eq!(Policy::parse(&policy.canonical()).unwrap(), policy);
    }
}

fn parsed(policy: &str) -> Policy {
    Policy::parse(policy).unwrap()
}

#[test]
fn so_many_findings_do_not_block_and_one_more_does() {
    let policy = parsed(r#"{"severityThreshold":"HIGH","maxFindings":{"HIGH":2,"LOW":1}}"#);
    for (high, low, blocking) in [(2, 1, 0), (3, 0, 3), (2, 2, 2), (0, 0, 0)] {
        let mut findings: Vec<Finding> = (0..high).map(|n| finding(&format!("CVE-H{n}"), "HIGH")).collect();
        findings.extend((0..low).map(|n| finding(&format!("CVE-L{n}"), "LOW")));
        assert_eq!(judge(&findings, &policy).blocking.len(), blocking, "{high} HIGH, {low} LOW");
    }
    assert_eq!(judge(&[finding("CVE-1", "CRITICAL")], &policy).blocking.len(), 1, "a severity without a number is judged one by one");
}

#[test]
fn an_exemption_speaks_of_one_finding_in_one_place() {
    let in_xz = in_package(finding("CVE-1", "CRITICAL"), "xz-utils", "5.6.0", None);
    let in_two = in_package(in_xz.clone(), "liblzma", "5.6.0", None);
    let unfixed = Finding { fix: Some(Fix::No), ..in_xz.clone() };
    let exempting = |more: &str| parsed(&format!(r#"{{"exemptions":[{{"id":"CVE-1","reason":"because","until":"2026-12-31"{more}}}]}}"#));
    for (finding, more, excused) in [
        (&in_xz, "", true),
        (&in_xz, r#","package":"xz-utils""#, true),
        (&in_xz, r#","package":"openssl""#, false),
        (&in_two, r#","package":"xz-utils""#, false), // it is in the other package too
        (&in_xz, r#","repository":"payments-api""#, true),
        (&in_xz, r#","repository":"billing""#, false),
        (&in_xz, r#","untilFixed":true"#, false), // whether there is a fix nobody says
        (&unfixed, r#","untilFixed":true"#, true),
    ] {
        assert_eq!(!judge(std::slice::from_ref(finding), &exempting(more)).blocks(), excused, "{more}");
    }
    let other = finding("CVE-2", "LOW");
    let policy = exempting("");
    assert_eq!(judge(&[other], &policy).unused_exemptions.len(), 1);
}

#[test]
fn of_exemptions_that_excuse_nothing_those_are_named_whose_day_is_over_and_whose_finding_is_there() {
    let fixed = in_package(finding("CVE-1", "CRITICAL"), "xz-utils", "5.6.0", Some("5.6.1"));
    let until = |day: jiff::civil::Date, more: &str| parsed(&format!(r#"{{"exemptions":[{{"id":"CVE-1","reason":"because","until":"{day}"{more}}}]}}"#));
    for (policy, named) in [
        (until(date(99), ""), 1),
        (until(date(100), ""), 0),
        (until(date(200), r#","untilFixed":true"#), 0), // the fix has ended it, not the day
    ] {
        assert_eq!(judge(std::slice::from_ref(&fixed), &policy).ended_exemptions.len(), named, "{policy:?}");
        assert_eq!(judge(&[finding("CVE-2", "CRITICAL")], &policy).ended_exemptions.len(), 0, "{policy:?}, of something else");
    }
}

#[test]
fn grace_counts_from_the_day_on_which_it_was_first_seen() {
    let policy = parsed(r#"{"graceDays":14}"#);
    for (first_seen, blocks) in [(Some(day(90)), false), (Some(day(86)), true), (Some(day(87)), false), (None, true)] {
        let findings = [Finding { first_seen, ..finding("CVE-1", "CRITICAL") }];
        let judgement = judge(&findings, &policy);
        assert_eq!(judgement.blocks(), blocks, "{first_seen:?}");
        assert_eq!(judgement.holds_until, first_seen.filter(|_| !blocks).map(|seen| seen + jiff::SignedDuration::from_hours(24 * 14)));
    }
    // Time alone changes nothing about what is not objected to anyway, or is blocked at once.
    for (policy, word, blocks) in [(r#"{"graceDays":14}"#, "LOW", false), (r#"{"graceDays":14,"blockAlways":["CVE-1"]}"#, "CRITICAL", true)] {
        let findings = [Finding { first_seen: Some(day(90)), ..finding("CVE-1", word) }];
        let policy = parsed(policy);
        let judgement = judge(&findings, &policy);
        assert_eq!((judgement.blocks(), judgement.in_grace.len(), judgement.holds_until), (blocks, 0, None), "{policy:?}");
    }
    // One that counts among several may be the one too many when its grace has ended.
    let policy = parsed(r#"{"graceDays":14,"maxFindings":{"LOW":0}}"#);
    let findings = [Finding { first_seen: Some(day(90)), ..finding("CVE-1", "LOW") }];
    let judgement = judge(&findings, &policy);
    assert_eq!((judgement.blocks(), judgement.in_grace.len(), judgement.holds_until), (false, 1, Some(day(104))));
}

#[test]
fn what_nobody_says_counts_against_the_image() {
    let unknown = finding("CVE-1", "CRITICAL");
    let policies = [r#"{"ignoreUnfixed":true}"#, r#"{"exploit":{"exploitAvailable":true}}"#, r#"{"exploit":{"epss":"0.1"}}"#];
    for policy in policies {
        assert!(judge(std::slice::from_ref(&unknown), &parsed(policy)).blocks(), "{policy}");
    }
    let known = Finding { fix: Some(Fix::No), exploit: Some(false), epss: Epss::parse("0.099"), ..unknown };
    for policy in policies {
        assert!(!judge(std::slice::from_ref(&known), &parsed(policy)).blocks(), "{policy}");
    }
}

#[test]
fn what_is_exploited_or_likely_to_be_blocks_where_both_are_asked_for() {
    let policy = parsed(r#"{"exploit":{"exploitAvailable":true,"epss":0.1}}"#);
    for (exploit, epss, blocks) in [
        (Some(false), Some("0.099999"), false),
        (Some(false), Some("0.1"), true), // the limit itself is likely
        (Some(true), Some("0.01"), true),
        (None, Some("0.01"), true),
        (Some(false), None, true),
    ] {
        let findings = [Finding { exploit, epss: epss.and_then(Epss::parse), ..finding("CVE-1", "CRITICAL") }];
        assert_eq!(judge(&findings, &policy).blocks(), blocks, "{exploit:?} {epss:?}");
    }
}

// --- what a row makes of news ---

fn reading(source: ScanSource, read_at: i64, what: Answered) -> Reading {
    understand(Answer { source, what, coverage: None, pushed_at: None, read_at: at(read_at) })
}

fn apply(old: Option<&Head>, news: &News) -> Option<Head> {
    match merge(old, &digest("app"), &repository(), std::slice::from_ref(news), &[Policy::default()]) {
        Change::Same => old.cloned(),
        Change::Write(head) => Some(*head),
    }
}

fn after(news: &[News]) -> Head {
    let mut head = None;
    for item in news {
        head = apply(head.as_ref(), item);
    }
    head.expect("there was news")
}

/// One scanner's answers over a short life: complete ones with a few lists, waiting ones, and final refusals.
fn any_reading() -> impl Strategy<Value = Reading> {
    let lists = [vec![], vec![finding("CVE-1", "CRITICAL")], vec![finding("CVE-1", "CRITICAL"), finding("CVE-2", "LOW")]];
    let word = prop::sample::select(&["PENDING", "ACTIVE", "FAILED", "SCAN_ELIGIBILITY_EXPIRED", "IMAGE_ARCHIVED", "SOMETHING_NEW"][..]);
    let answer = prop_oneof![
        4 => (0..3_i64, 0..3_usize).prop_map(move |(completed, list)| complete(ScanSource::Enhanced, completed * 10, &lists[list])),
        3 => word.prop_map(|word| Answered::Findings(Report { status: Some(word.into()), ..Report::default() })),
        1 => Just(Answered::NoScan),
    ];
    (0..8_i64, answer).prop_map(|(read_at, what)| reading(ScanSource::Enhanced, 30 + read_at * 10, what))
}

/// Two readings of one moment that say different things cannot both be had from one scanner, and its scans end one after the
/// other.
fn life() -> impl Strategy<Value = Vec<News>> {
    prop::collection::vec(any_reading(), 1..7).prop_map(|mut readings| {
        readings.sort_by_key(|reading| reading.read_at);
        readings.dedup_by_key(|reading| reading.read_at);
        let mut ended: Vec<_> = readings.iter().filter_map(|reading| reading.completed_at).collect();
        ended.sort();
        let mut ended = ended.into_iter();
        for reading in readings.iter_mut().filter(|reading| reading.completed_at.is_some()) {
            reading.completed_at = ended.next();
        }
        readings.into_iter().map(News::Scan).collect()
    })
}

/// The same, with answers that come late: an older scan is read after a newer one.
fn odd_life() -> impl Strategy<Value = Vec<News>> {
    prop::collection::vec(any_reading(), 1..7).prop_map(|mut readings| {
        readings.sort_by_key(|reading| reading.read_at);
        readings.dedup_by_key(|reading| reading.read_at);
        readings.into_iter().map(News::Scan).collect()
    })
}

fn in_order(news: &[News]) -> Vec<News> {
    let mut sorted = news.to_vec();
    sorted.sort_by_key(|item| match item {
        News::Scan(reading) => reading.read_at,
        _ => unreachable!(),
    });
    sorted
}

/// The findings on which a Pass could rest.
fn proven(head: &Head) -> Option<String> {
    head.complete().filter(|(_, settled)| *settled).map(|(result, _)| result.facts.as_str().to_owned())
}

/// What a gate goes by.
fn essence(head: &Head) -> (ScanState, Option<(String, jiff::Timestamp)>) {
    (head.state(), head.valid_result().map(|result| (result.facts.as_str().to_owned(), result.completed_at)))
}

proptest! {
    #[test]
    fn what_was_merged_once_changes_nothing_the_second_time(news in life(), again in any::<prop::sample::Index>()) {
        let head = after(&news);
        let twice = apply(Some(&head), &news[again.index(news.len())]).unwrap();
        prop_assert_eq!(head, twice);
    }

    #[test]
    fn the_order_in_which_readings_arrive_does_not_matter(news in life().prop_shuffle()) {
        prop_assert_eq!(essence(&after(&in_order(&news))), essence(&after(&news)));
    }

    /// Losing leaves a trace: what was read in between, and differed, is not forgotten because it came late.
    #[test]
    fn no_order_of_arrival_proves_more_than_the_order_of_reading(news in life().prop_shuffle()) {
        if let Some(facts) = proven(&after(&news)) {
            prop_assert_eq!(Some(facts), proven(&after(&in_order(&news))));
        }
    }

    #[test]
    fn nothing_is_proven_that_the_last_complete_answer_contradicts(news in odd_life().prop_shuffle()) {
        let finished = |item: &News| match item {
            News::Scan(reading) if reading.state == ScanState::Complete => Some((reading.read_at, reading.facts.clone()?.hash().as_str().to_owned())),
            _ => None,
        };
        if let Some(facts) = proven(&after(&news)) {
            prop_assert_eq!(Some(facts), news.iter().filter_map(finished).max().map(|(_, facts)| facts));
        }
    }

    /// The law that keeps images out: whatever arrives in whatever order, a list is called whole only when it was read twice
    /// after the scan's end, 20 s apart. (That nothing else was read in between holds only where readings arrive in order.)
    #[test]
    fn a_list_is_never_called_whole_before_it_was_seen_twice(news in life().prop_shuffle()) {
        let head = after(&news);
        if let Some((result, true)) = head.complete() {
            let equal = |reading: &&Reading| reading.facts.as_ref().is_some_and(|facts| *facts.hash() == result.facts) && reading.state == ScanState::Complete;
            let readings: Vec<&Reading> = news.iter().map(|item| match item { News::Scan(reading) => reading, _ => unreachable!() }).collect();
            let first = readings.iter().copied().filter(equal).map(|reading| reading.read_at).filter(|read_at| *read_at >= result.completed_at).min().unwrap();
            prop_assert!(result.read_at.duration_since(first).as_secs() >= 20);
        }
    }
}

#[test]
fn a_list_that_grows_is_never_passed_early() {
    let enhanced = ScanSource::Enhanced;
    let one = [finding("CVE-1", "LOW")];
    let three = [finding("CVE-1", "LOW"), finding("CVE-2", "LOW"), finding("CVE-3", "CRITICAL")];
    let empty_and_active = Answered::Findings(Report { status: Some("ACTIVE".into()), listed: true, ..Report::default() });
    let mut head = None;
    for (read_at, what, settled) in [
        (0, empty_and_active.clone(), None),
        (30, empty_and_active, None), // the same for 30 s, and still nothing that is complete
        (40, complete(enhanced, 35, &one), Some(false)),
        (59, complete(enhanced, 35, &one), Some(false)),
        (100, complete(enhanced, 35, &three), Some(false)),
        (119, complete(enhanced, 35, &three), Some(false)),
        (120, complete(enhanced, 35, &three), Some(true)),
    ] {
        head = apply(head.as_ref(), &News::Scan(reading(enhanced, read_at, what)));
        assert_eq!(head.as_ref().unwrap().complete().map(|(_, settled)| settled), settled, "read at {read_at}");
    }
    assert_eq!(head.unwrap().verdict, "BLOCK (1 of CRITICAL: 1, LOW: 2)");
}

#[test]
fn the_counts_of_the_event_prove_a_list_only_when_they_agree() {
    let counts = |critical, total, event_at| News::ScanEnded(EventCounts { at: at(event_at), critical, high: 0, medium: 0, total });
    let list = [finding("CVE-1", "CRITICAL"), finding("CVE-2", "LOW")];
    let read = News::Scan(reading(ScanSource::Enhanced, 60, complete(ScanSource::Enhanced, 50, &list)));
    for (event, proven) in [
        (counts(1, 2, 55), true),
        (counts(1, 3, 55), false), // one is still missing
        (counts(0, 2, 55), false),
        (counts(1, 1, 55), false),
        (counts(1, 2, -100), false), // of an earlier scan
    ] {
        for order in [[&event, &read], [&read, &event]] {
            let head = after(&order.map(Clone::clone));
            assert_eq!(head.complete().map(|(_, settled)| settled), Some(proven), "{event:?}");
        }
    }
}

#[test]
fn two_equal_readings_prove_nothing_against_the_events_own_counts() {
    let event = News::ScanEnded(EventCounts { at: at(50), critical: 1, high: 0, medium: 0, total: 3 });
    let read = |read_at| News::Scan(reading(ScanSource::Enhanced, read_at, complete(ScanSource::Enhanced, 49, &[finding("CVE-1", "LOW")])));
    assert_eq!(after(&[event, read(51), read(100)]).complete().map(|(_, settled)| settled), Some(false));
}

#[test]
fn what_was_taken_back_proves_nothing_when_it_comes_again() {
    let clean = |read_at| News::Scan(reading(ScanSource::Enhanced, read_at, complete(ScanSource::Enhanced, 5, &[])));
    let event = News::ScanEnded(EventCounts { at: at(6), critical: 0, high: 0, medium: 0, total: 0 });
    for word in ["SCAN_ELIGIBILITY_EXPIRED", "FINDINGS_UNAVAILABLE", "SOMETHING_NEW"] {
        let taken_back = News::Scan(reading(ScanSource::Enhanced, 50, crate::world::status(word)));
        let mut news = vec![event.clone(), clean(10), clean(40), taken_back];
        assert!(after(&news).complete().is_none(), "{word}");
        news.push(clean(1000));
        assert_eq!(after(&news).complete().map(|(_, settled)| settled), Some(false), "{word}");
    }
}

#[test]
fn of_two_events_of_one_second_the_one_that_counts_more_stays() {
    let event = |total| News::ScanEnded(EventCounts { at: at(50), critical: 0, high: 0, medium: 0, total });
    for order in [[event(0), event(3)], [event(3), event(0)]] {
        assert_eq!(after(&order).event.map(|event| event.total), Some(3));
    }
}

#[test]
fn a_second_reading_proves_nothing_about_a_scan_that_ended_after_the_first() {
    let list = [finding("CVE-1", "LOW")];
    let read = |read_at, completed| News::Scan(reading(ScanSource::Enhanced, read_at, complete(ScanSource::Enhanced, completed, &list)));
    let head = after(&[read(10, 5), read(60, 50)]);
    assert_eq!(head.complete().map(|(_, settled)| settled), Some(false));
    let head = apply(Some(&head), &read(81, 50)).unwrap();
    assert_eq!(head.complete().map(|(_, settled)| settled), Some(true));
}

#[test]
fn a_count_above_the_list_is_running_twice_and_then_a_disagreement() {
    let above = |read_at| {
        let counts = Counts::from(std::collections::BTreeMap::from([("HIGH".to_owned(), 2)]));
        let report = Report { status: Some("COMPLETE".into()), completed_at: Some(at(5)), listed: true, stated_counts: Some(counts), ..Report::default() };
        News::Scan(reading(ScanSource::Basic, read_at, Answered::Findings(report)))
    };
    for (news, state) in [
        (vec![above(10)], ScanState::Running),
        (vec![above(10), above(25)], ScanState::Running),
        (vec![above(10), above(10), above(10)], ScanState::Running), // one reading, delivered three times
        (vec![above(10), above(25), above(55)], ScanState::CountsDisagree),
    ] {
        let head = after(&news);
        assert_eq!((head.state(), head.complete().is_none()), (state, true), "{} readings", news.len());
    }
}

#[test]
fn readings_within_seconds_do_not_make_a_disagreement() {
    let above = |read_at| {
        let counts = Counts::from(std::collections::BTreeMap::from([("HIGH".to_owned(), 2)]));
        let report = Report { status: Some("COMPLETE".into()), completed_at: Some(at(5)), listed: true, stated_counts: Some(counts), ..Report::default() };
        News::Scan(reading(ScanSource::Basic, read_at, Answered::Findings(report)))
    };
    assert_eq!(after(&[above(10), above(11), above(12), above(13)]).state(), ScanState::Running, "the list may still be filling up");
}

#[test]
fn a_reading_that_comes_late_and_differed_breaks_the_run() {
    let clean = |read_at| News::Scan(reading(ScanSource::Enhanced, read_at, complete(ScanSource::Enhanced, 5, &[])));
    let found = News::Scan(reading(ScanSource::Enhanced, 20, complete(ScanSource::Enhanced, 5, &[finding("CVE-1", "CRITICAL")])));
    assert!(matches!(after(&[clean(10), clean(35)]).complete(), Some((_, true))));
    let head = after(&[clean(10), clean(35), found]);
    assert!(matches!(head.complete(), Some((_, false))), "in between it was read with a finding");
    assert!(matches!(apply(Some(&head), &clean(55)).unwrap().complete(), Some((_, true))));
}

/// A replica that lags behind may answer with the scan before: that answer loses, and still nothing is certain.
#[test]
fn an_older_scan_that_is_read_later_puts_the_newer_one_in_doubt() {
    let scan = |read_at, completed, list: &[_]| News::Scan(reading(ScanSource::Basic, read_at, complete(ScanSource::Basic, completed, list)));
    let news = [scan(20, 10, &[]), scan(25, 5, &[finding("CVE-1", "CRITICAL")])];
    let head = after(&news);
    assert_eq!(head.complete().map(|(result, settled)| (result.completed_at, settled)), Some((at(10), false)));
    assert!(matches!(apply(Some(&head), &scan(30, 10, &[])).unwrap().complete(), Some((_, true))));
}

#[test]
fn what_the_scanner_takes_back_does_not_count_any_more() {
    let clean = |read_at| News::Scan(reading(ScanSource::Basic, read_at, complete(ScanSource::Basic, 5, &[])));
    let word = |read_at, word: &str| News::Scan(reading(ScanSource::Basic, read_at, crate::world::status(word)));
    for (news, state) in [
        (vec![clean(10), word(20, "PENDING")], ScanState::Complete), // a re-scan under way takes nothing away
        (vec![clean(10), word(20, "IMAGE_ARCHIVED")], ScanState::Archived),
        (vec![word(20, "IMAGE_ARCHIVED"), clean(10)], ScanState::Archived),
        (vec![clean(10), word(20, "IMAGE_ARCHIVED"), word(30, "PENDING")], ScanState::Running),
        (vec![clean(10), word(20, "IMAGE_ARCHIVED"), clean(30)], ScanState::Complete),
        (vec![clean(10), News::Scan(reading(ScanSource::Basic, 20, Answered::NoImage))], ScanState::Deleted),
    ] {
        assert_eq!(after(&news).state(), state, "{news:?}");
    }
}

#[test]
fn another_scanner_in_charge_makes_the_old_result_void() {
    let basic = News::Scan(reading(ScanSource::Basic, 10, complete(ScanSource::Basic, 5, &[])));
    let nothing_yet = News::Scan(reading(ScanSource::Enhanced, 20, Answered::NoScan));
    assert_eq!(after(&[basic.clone(), nothing_yet.clone()]).state(), ScanState::NotFound);
    let enhanced = News::Scan(reading(ScanSource::Enhanced, 30, complete(ScanSource::Enhanced, 4, &[finding("CVE-1", "LOW")])));
    let head = after(&[basic, nothing_yet, enhanced]);
    assert_eq!(head.complete().map(|(result, settled)| (result.source, settled)), Some((ScanSource::Enhanced, false)));
}

#[test]
fn a_late_reading_of_the_old_scanner_changes_nothing() {
    let basic = |read_at| News::Scan(reading(ScanSource::Basic, read_at, complete(ScanSource::Basic, 5, &[])));
    let enhanced = News::Scan(reading(ScanSource::Enhanced, 20, Answered::NoScan));
    for order in [[basic(10), enhanced.clone()], [enhanced.clone(), basic(10)]] {
        assert_eq!(after(&order).state(), ScanState::NotFound);
    }
    assert_eq!(after(&[enhanced, basic(30)]).state(), ScanState::Complete, "basic scanning is in charge again");
}

/// Inspector's coverage moves its time with each re-scan, ECR's completed time does not have to.
#[test]
fn the_clocks_of_two_services_are_not_compared() {
    let by_coverage = |read_at, scanned| {
        let coverage =
            Some(ecr_scan_verifier::domain::scan::Coverage { code: "ACTIVE".into(), reason: "SUCCESSFUL".into(), last_scanned_at: Some(at(scanned)) });
        let what = Answered::Findings(Report { status: Some("ACTIVE".into()), listed: true, ..Report::default() });
        News::Scan(understand(Answer { source: ScanSource::Enhanced, what, coverage, pushed_at: Some(at(0)), read_at: at(read_at) }))
    };
    let by_scan =
        |read_at, completed| News::Scan(reading(ScanSource::Enhanced, read_at, complete(ScanSource::Enhanced, completed, &[finding("CVE-1", "CRITICAL")])));
    for order in [[by_coverage(100, 90), by_scan(120, 50)], [by_scan(120, 50), by_coverage(100, 90)]] {
        let head = after(&order);
        assert_eq!(head.valid_result().map(|result| result.counts.total()), Some(1), "read later, whatever the clocks say");
        assert_eq!(head.complete().map(|(_, settled)| settled), Some(false));
    }
}

#[test]
fn the_pipelines_verdict_is_not_the_first_to_make_way() {
    let ignoring = |id: usize| Policy::from_words(None, Some("LOW"), [format!("CVE-{id}")]).unwrap();
    let list = [finding("CVE-1", "LOW")];
    let read = |read_at| vec![News::Scan(reading(ScanSource::Basic, read_at, complete(ScanSource::Basic, 5, &list)))];
    let merged = |old: Option<&Head>, read_at, policies: Vec<Policy>| match merge(old, &digest("app"), &repository(), &read(read_at), &policies) {
        Change::Write(head) => *head,
        Change::Same => old.cloned().unwrap(),
    };
    let head = merged(None, 10, (0..9).map(ignoring).collect());
    assert_eq!(head.verdicts.len(), 8);
    assert_eq!((head.blocking_under(&ignoring(0), at(0)), head.blocking_under(&ignoring(1), at(0))), (Some(1), Some(0)));
    let head = merged(Some(&head), 40, vec![ignoring(0), ignoring(20)]);
    assert_eq!(head.blocking_under(&ignoring(0), at(0)), Some(1), "who asks now stays");
    assert_eq!(head.blocking_under(&ignoring(20), at(0)), Some(1));
    assert_eq!(head.verdicts.len(), 8);
}

#[test]
fn an_image_of_very_many_indexes_stays_the_same_when_they_come_again() {
    let many: Vec<News> = (0..25).map(|n| News::PartOf(digest(&format!("index {n}")))).collect();
    let head = after(&many);
    assert_eq!((head.parents.len(), head.more_parents), (20, true));
    for again in &many {
        assert_eq!(apply(Some(&head), again), Some(head.clone()));
    }
}

#[test]
fn an_image_knows_its_tags_and_indexes_newest_first() {
    let pushed = |tag: &str, second| News::Pushed { kind: Default::default(), tag: Some(tag.into()), at: Some(at(second)) };
    let head = after(&[pushed("1.0", 10), pushed("2.0", 20), pushed("0.9", 5), pushed("2.0", 20), News::PartOf(digest("index"))]);
    assert_eq!(head.tags, ["2.0", "1.0", "0.9"]);
    assert_eq!((head.pushed_at, head.parents.as_slice()), (Some(at(20)), &[digest("index")][..]));
}

#[test]
fn what_is_ignored_is_named_exactly() {
    let policy = |entry: &str| Policy::from_words(Some(&["CRITICAL".to_owned()]), None, [entry.to_owned()]).unwrap();
    for (entry, blocks) in
        [("CVE-2024-3094", false), ("cve-2024-3094", true), ("CVE-2024-*", true), ("CVE-2024-309", true), (" CVE-2024-3094", true), ("*", true)]
    {
        assert_eq!(judge(&[finding("CVE-2024-3094", "CRITICAL")], &policy(entry)).blocks(), blocks, "{entry}");
    }
}
