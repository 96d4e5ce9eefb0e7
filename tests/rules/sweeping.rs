//! The walk: what is done about what is met, who walks, where the way leads, and what is scanned again first.

use ecr_scan_verifier::domain::head::{Change, Child, Head, Kind, News, merge};
use ecr_scan_verifier::domain::image::Repository;
use ecr_scan_verifier::domain::scan::{Answer, Answered, Coverage, ScanSource, understand};
use ecr_scan_verifier::domain::walk::{
    ForDeployment, ForImage, Found, Here, Kept, Listed, Place, RESCANS_IN_MIND, Rescan, Said, Walk, Walker, for_deployment, for_image, is_said_to_be_there,
    is_to_rescan,
};
use ecr_scan_verifier::events::tick::{self, Tick};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::world::*;

const HOUR: i64 = 3600;
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const IMAGE: &str = "application/vnd.oci.image.config.v1+json";

fn head(kind: Kind, said: Option<Answered>) -> Head {
    let mut news = vec![News::Pushed { kind, tag: Some("1.4.2".into()), at: Some(at(0)) }];
    news.extend(said.map(|what| News::Scan(understand(Answer { source: ScanSource::Basic, what, coverage: None, pushed_at: Some(at(0)), read_at: at(60) }))));
    match merge(None, &digest("app"), &repository(), &news, &[]) {
        Change::Write(head) => *head,
        Change::Same => panic!("it is news"),
    }
}

fn listed(pushed_at: Option<i64>) -> Listed {
    let (media_type, artifact_type) = (Some(OCI.to_owned()), Some(IMAGE.to_owned()));
    Listed { digest: digest("app"), tags: vec!["1.4.2".into()], pushed_at: pushed_at.map(at), media_type, artifact_type }
}

#[test]
fn a_deployment_is_closed_only_when_cloudformation_says_that_it_is_gone_and_it_is_not_of_this_hour() {
    let now = at(10 * HOUR);
    let close = ForDeployment::Close { asked_before: at(9 * HOUR) };
    for (asked_at, said, expected) in [
        (Some(0), Said::Gone, close),
        (Some(9 * HOUR), Said::Gone, close),
        (Some(9 * HOUR + 1), Said::Gone, ForDeployment::LookAgain), // its stack may be in the middle of making it
        (None, Said::Gone, ForDeployment::LookAgain),
        (Some(0), Said::Lives, ForDeployment::LookAgain),
        (Some(0), Said::Nothing, ForDeployment::LookAgain), // not knowing is never "gone"
    ] {
        assert_eq!(for_deployment(asked_at.map(at), said, now), expected, "{asked_at:?} {said:?}");
    }
}

#[test]
fn an_image_of_the_registry_is_remembered_looked_at_or_left_alone() {
    let now = at(2 * HOUR);
    let found = || Some(complete(ScanSource::Basic, 50, &[]));
    let index = || Kind::Index(vec![Child { digest: digest("child"), platform: "linux/amd64".into() }]);
    for (why, head, pushed_at, expected) in [
        ("nobody has told of it", None, Some(0), ForImage::Remember),
        ("however young", None, Some(2 * HOUR - 1), ForImage::Remember),
        ("a scan was told of, its push was not", Some(head(Kind::Unknown, found())), Some(0), ForImage::Remember),
        ("it is judged", Some(head(Kind::Image, found())), Some(0), ForImage::Nothing),
        ("it was never judged", Some(head(Kind::Image, None)), Some(0), ForImage::LookAgain),
        ("its scan was still running", Some(head(Kind::Image, Some(status("IN_PROGRESS")))), Some(0), ForImage::LookAgain),
        ("its scan may be running", Some(head(Kind::Image, None)), Some(HOUR + 1), ForImage::Nothing),
        ("an hour is time enough", Some(head(Kind::Image, None)), Some(HOUR), ForImage::LookAgain),
        ("an index is not scanned", Some(head(index(), None)), Some(0), ForImage::Nothing),
        ("no scanner knows it", Some(head(Kind::Image, Some(status("UNSUPPORTED_IMAGE")))), Some(0), ForImage::Nothing),
        ("it is back", Some(head(Kind::Image, Some(Answered::NoImage))), Some(2 * HOUR - 1), ForImage::LookAgain),
    ] {
        assert_eq!(for_image(&listed(pushed_at), head.as_ref(), now), expected, "{why}");
    }
}

#[test]
fn what_is_no_image_is_passed_by() {
    let signature = format!("sha256-{}.sig", "a".repeat(64));
    let referrers = format!("sha256-{}", "a".repeat(64));
    for (tag, media_type, artifact_type, is_image) in [
        ("1.4.2", Some(OCI), Some(IMAGE), true),
        ("1.4.2", Some("Application/vnd.OCI.image.manifest.v1+json; charset=utf-8"), None, true),
        ("1.4.2", Some(OCI_INDEX), None, true),
        ("1.4.2", None, None, true), // what nobody says, the manifest will
        ("1.4.2", Some(OCI), Some("application/vnd.cncf.helm.config.v1+json"), false),
        (signature.as_str(), Some(OCI), Some(IMAGE), false),
        (referrers.as_str(), Some(OCI_INDEX), None, false),
        (referrers.as_str(), Some(OCI), Some(IMAGE), true),
        ("1.4.2", Some("application/vnd.oci.artifact.manifest.v1+json"), None, false),
    ] {
        let [media_type, artifact_type] = [media_type, artifact_type].map(|text| text.map(str::to_owned));
        let image = Listed { tags: vec![tag.to_owned()], media_type, artifact_type, ..listed(Some(0)) };
        assert_eq!(for_image(&image, None, at(0)) == ForImage::Remember, is_image, "{image:?}");
    }
}

#[test]
fn only_what_the_list_leaves_open_is_read() {
    for (media_type, artifact_type, is_plain) in
        [(Some(OCI), Some(IMAGE), true), (Some(OCI), None, false), (Some(OCI_INDEX), None, false), (None, Some(IMAGE), false), (None, None, false)]
    {
        let [media_type, artifact_type] = [media_type, artifact_type].map(|text| text.map(str::to_owned));
        let image = Listed { media_type, artifact_type, ..listed(Some(0)) };
        assert_eq!(image.is_plainly_an_image(), is_plain, "{image:?}");
    }
}

#[test]
fn what_is_recorded_as_deleted_or_archived_is_not_missed() {
    for (said, is_there) in [(Some(complete(ScanSource::Basic, 50, &[])), true), (None, true), (Some(Answered::NoImage), false)] {
        assert_eq!(is_said_to_be_there(&head(Kind::Image, said.clone())), is_there, "{said:?}");
    }
    let coverage = Some(Coverage { code: "INACTIVE".into(), reason: "IMAGE_ARCHIVED".into(), last_scanned_at: None });
    let archived = understand(Answer { source: ScanSource::Enhanced, what: Answered::NoScan, coverage, pushed_at: None, read_at: at(60) });
    let Change::Write(archived) = merge(None, &digest("app"), &repository(), &[News::Scan(archived)], &[]) else { panic!("it is news") };
    assert!(!is_said_to_be_there(&archived), "{:?}", archived.state());
}

#[test]
fn a_scan_is_renewed_when_it_is_not_of_today() {
    let scanned = |second| Some(head(Kind::Image, Some(complete(ScanSource::Basic, second, &[]))));
    let now = at(20 * HOUR + 50);
    for (why, head, expected) in [
        ("twenty hours old", scanned(50), Some(Some(at(50)))),
        ("of today", scanned(51), None),
        ("never scanned, as far as is known", Some(head(Kind::Image, None)), Some(None)),
        ("not even known", None, Some(None)),
        ("an index", Some(head(Kind::Index(vec![]), None)), None),
        ("no scanner knows it", Some(head(Kind::Image, Some(status("UNSUPPORTED_IMAGE")))), None),
        ("deleted", Some(head(Kind::Image, Some(Answered::NoImage))), None),
        ("its scan has failed", Some(head(Kind::Image, Some(status("FAILED")))), Some(None)),
    ] {
        assert_eq!(is_to_rescan(head.as_ref(), now), expected, "{why}");
    }
}

fn rescan(name: &str, scanned_at: Option<i64>) -> Rescan {
    Rescan { scanned_at: scanned_at.map(at), digest: digest(name), repository: repository() }
}

fn scanned_at(images: &[Rescan]) -> Vec<Option<Timestamp>> {
    images.iter().map(|image| image.scanned_at).collect()
}

#[test]
fn the_allowance_goes_to_the_oldest_scans_of_all_pages() {
    let mut walk = Walk::begin(Walker::Daily, at(0));
    assert_eq!(walk.keep_in_mind(vec![rescan("a", Some(7)), rescan("b", Some(3))], 3), []);
    assert_eq!(walk.keep_in_mind(vec![rescan("c", None), rescan("d", Some(5)), rescan("b", Some(3))], 3), []);
    assert_eq!(scanned_at(&walk.rescans), [None, Some(at(3)), Some(at(5))], "the youngest makes way, and nothing is there twice");
    walk.found.rescans = 2;
    assert_eq!(walk.keep_in_mind(vec![], 3), []);
    assert_eq!(scanned_at(&walk.rescans), [None], "what is spent is spent");
    assert_eq!(walk.keep_in_mind(vec![rescan("e", Some(1))], 0), []);
    assert_eq!(walk.rescans, []);
}

#[test]
fn more_than_can_be_kept_in_mind_is_scanned_on_the_way_and_never_more_than_allowed() {
    let allowance = RESCANS_IN_MIND + 30;
    let mut walk = Walk::begin(Walker::Daily, at(0));
    let all: Vec<Rescan> = (0..RESCANS_IN_MIND + 100).map(|n| rescan(&n.to_string(), Some(n as i64))).collect();
    let mut scanned = Vec::new();
    for page in all.chunks(25) {
        let at_once = walk.keep_in_mind(page.to_vec(), u32::try_from(allowance).unwrap());
        walk.found.rescans += at_once.len() as u64;
        scanned.extend(at_once);
    }
    assert_eq!((scanned.len(), walk.rescans.len()), (30, RESCANS_IN_MIND));
    scanned.extend(walk.rescans);
    assert_eq!(scanned, all[..allowance], "met in their order, the oldest ones");
}

#[test]
fn a_second_walk_does_not_begin_while_one_is_under_way() {
    let first = Kept::begin(Walker::Daily, None, at(0)).expect("there is none");
    assert_eq!((first.version, &first.walk.place), (1, &Place::Deployed { page: None }));
    assert_eq!(Kept::begin(Walker::Backfill, None, at(0)).unwrap().walk.place, Place::Repositories { page: None });
    for (after_s, begins) in [(0, false), (24 * HOUR, false), (7 * 24 * HOUR - 1, false), (7 * 24 * HOUR, true)] {
        assert_eq!(Kept::begin(Walker::Daily, Some(&first), at(after_s)).is_some(), begins, "{after_s} s after it began");
    }
    let over = Kept { walk: Walk::ended(Walker::Daily), version: 7, ..first };
    let next = Kept::begin(Walker::Daily, Some(&over), at(1)).expect("that one is over");
    assert_eq!((next.version, next.walk.began_at), (8, at(1)), "it takes the place of the row as it was read");
}

#[test]
fn one_walks_at_a_time_and_whoever_is_killed_is_followed() {
    let kept = Kept::begin(Walker::Daily, None, at(0)).unwrap();
    let walking = kept.set_out(true, at(0)).expect("nobody walks");
    assert_eq!((walking.version, walking.tries), (2, 1));
    for (second, is_free) in [(1, false), (60, false), (74, false), (75, true)] {
        assert_eq!(walking.set_out(true, at(second)).is_some(), is_free, "{second} s later");
    }
    let mut rested = walking;
    rested.rest();
    assert!(rested.set_out(true, at(1)).is_some_and(|next| next.version == 4));
    assert_eq!(Kept { walk: Walk::ended(Walker::Daily), ..rested }.set_out(true, at(1)), None, "it is over");
}

#[test]
fn a_page_that_nobody_comes_through_is_passed_over_at_the_sixth_try() {
    let mut kept = Kept::begin(Walker::Daily, None, at(0)).unwrap();
    for tries in 1..=5 {
        kept = kept.set_out(true, at(tries * 100)).unwrap();
        assert_eq!((i64::from(kept.tries), &kept.walk.place), (tries, &Place::Deployed { page: None }));
    }
    let sixth = kept.set_out(true, at(600)).unwrap();
    assert_eq!((sixth.tries, &sixth.walk.place, sixth.walk.found.errors), (1, &Place::Repositories { page: None }, 1));
    kept.is_further();
    assert_eq!(kept.set_out(true, at(600)).unwrap().walk.place, Place::Deployed { page: None }, "a page that is done takes the tries along");
}

fn named(name: &str) -> Repository {
    repository().named(name)
}

#[test]
fn the_way_leads_through_what_is_deployed_then_through_each_repository() {
    let mut walk = Walk::begin(Walker::Daily, at(0));
    let mut way = vec![walk.place.to_string()];
    let mut go = |walk: &mut Walk, next: Option<&str>| {
        walk.go_on(next.map(str::to_owned), true);
        way.push(walk.place.to_string());
    };
    go(&mut walk, Some("2"));
    assert_eq!(walk.place, Place::Deployed { page: Some("2".into()) });
    walk.rescans = vec![rescan("a", None)];
    go(&mut walk, None);
    walk.rescans.clear();
    go(&mut walk, None);
    walk.go_through(vec![named("a"), named("b")], Some("more".into()));
    go(&mut walk, Some("3"));
    assert!(matches!(&walk.place, Place::Images(Here { page: Some(page), .. }) if page == "3"));
    go(&mut walk, None);
    go(&mut walk, None);
    assert!(matches!(&walk.place, Place::Images(Here { page: None, .. })), "each list from its beginning");
    walk.pass_by_repository();
    assert_eq!(walk.place, Place::Repositories { page: Some("more".into()) });
    walk.go_through(vec![named("c")], None);
    go(&mut walk, None);
    go(&mut walk, None);
    assert_eq!(
        way,
        [
            "the live deployments",
            "the live deployments",
            "the new scans",
            "the list of repositories",
            "the images of a",
            "what is recorded of a",
            "the images of b",
            "what is recorded of c",
            "the end",
        ]
    );
}

#[test]
fn where_the_registry_is_not_swept_the_walk_is_over_after_what_is_deployed() {
    let mut walk = Walk::begin(Walker::Daily, at(0));
    walk.go_on(None, false);
    assert!(walk.is_over());
    let mut backfill = Walk::begin(Walker::Backfill, at(0));
    backfill.go_through(vec![], Some("2".into()));
    assert_eq!(backfill.place, Place::Repositories { page: Some("2".into()) });
    backfill.go_through(vec![], None);
    assert!(backfill.is_over(), "a registry without a repository");
}

#[test]
fn a_thousand_images_do_not_come_in_one_moment() {
    let mut walk = Walk::begin(Walker::Daily, at(0));
    for (sent, after_s, delay_s) in [(0, 0, 0), (9, 0, 0), (10, 0, 1), (1_000, 0, 100), (1_000, 60, 40), (1_000, 120, 0), (1_000_000, 0, 900)] {
        walk.found.looked_again = sent;
        assert_eq!(walk.look_again_after(at(after_s)), SignedDuration::from_secs(delay_s), "the {sent}th, {after_s} s after the beginning");
    }
}

#[test]
fn a_walk_survives_the_table_and_a_version_that_knows_less() {
    let mut walk = Walk::begin(Walker::Daily, at(0));
    walk.go_on(None, true);
    walk.go_through(vec![named("a"), named("b")], Some("more".into()));
    walk.rescans.push(rescan("a", Some(7)));
    walk.found = Found { images: 7, ..Found::default() };
    let text = serde_json::to_string(&walk).unwrap();
    assert_eq!(serde_json::from_str::<Walk>(&text).unwrap(), walk);
    let younger: Walk = serde_json::from_value(
        json!({ "walker": "daily", "began_at": at(0), "place": { "deployed": { "page": null } }, "found": { "images": 7 }, "later": 1 }),
    )
    .unwrap();
    assert_eq!((younger.place, younger.found.images), (Place::Deployed { page: None }, 7));
}

#[test]
fn a_tick_is_a_minute_unless_it_says_otherwise() {
    for (event, tick) in [
        (json!({ "v": 1, "kind": "sweep" }), Tick::Minute),
        (json!({ "v": 1, "kind": "daily" }), Tick::Day),
        (json!({ "v": 2, "kind": "daily" }), Tick::Minute),
        (json!({}), Tick::Minute),
        (json!("tick"), Tick::Minute),
        (json!({ "detail-type": "Scheduled Event", "source": "aws.events" }), Tick::Minute),
    ] {
        assert_eq!(tick::read(&event), Ok(tick), "{event}");
    }
}

#[test]
fn only_a_request_for_a_backfill_is_answered_by_the_sweep() {
    let request = |kind: &str| {
        json!({
            "RequestType": "Create", "RequestId": "3a1f8a10-0000-4000-8000-000000000000", "LogicalResourceId": "Backfill", "ResourceType": kind,
            "StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/scans/8f9a1c20", "ResponseURL": "https://example.com/",
        })
    };
    let Ok(Tick::Backfill(asked)) = tick::read(&request("Custom::EcrScanVerifierBackfill")) else { panic!("it is one") };
    assert_eq!(asked.logical_id, "Backfill");
    // A gate that was answered here would be open.
    let refused = tick::read(&request("Custom::EcrScanVerifier")).unwrap_err().to_string();
    assert!(refused.contains("`ResourceType` is `Custom::EcrScanVerifier`"), "{refused}");
}
