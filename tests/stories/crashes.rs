//! Functions that are killed, process and all, before and after each of their effects, in turn: what they held comes again, and
//! everything ends as if nothing had happened.
//!
//! Many deployments go the same way at once. The first is left alone, and shows which effects there are. Each of the others dies before
//! one of them, or after the last, in every kind of run that it needs; and when it has come again, it dies after that effect. Where there
//! are more deployments than points, the work panics there and the process lives. `src/handlers/faults.rs` has the points.
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::local::answers::Asked;
use crate::local::events::Event;
use crate::local::faults::Fault;
use crate::local::images::{Image, Manifest};
use crate::local::pipeline::{Gate, Pipeline};
use crate::local::scan_plane::Registry;
use crate::local::scans::{Finding, Findings, Scan, finding};
use crate::local::story::Story;
use crate::sweep;

/// How long a phase may take on a busy machine. Nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(240);
const ROUND: Duration = Duration::from_millis(500);
/// After so many rounds in which nothing was to do nobody comes any more.
const QUIET_ROUNDS: u32 = 5;
/// After so many, whoever looks after what others have left comes round.
const SWEPT_AFTER: u32 = 2;

/// One deployment's way, and the folder in which it says where it dies.
struct Way {
    name: String,
    image: Image,
    folder: PathBuf,
    asked: Vec<Asked>,
}

impl Way {
    /// Its runs are known by this text as well.
    fn is_known_by(&self, text: &str) {
        symlink(&self.folder, self.folder.with_file_name(text)).expect("a link");
    }

    /// The points that were passed, and by which run each.
    fn passed(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.folder.join("passed")).unwrap_or_default();
        text.lines().filter_map(|line| line.split_once('\t')).map(|(run, point)| (run.to_owned(), point.to_owned())).collect()
    }

    fn deaths(&self) -> usize {
        self.passed().iter().filter(|(_, what)| what == "died").count()
    }

    /// It dies at this point, and over the same effect when it has come again.
    fn dies(&self, point: &str, how: &str) {
        fs::write(self.folder.join(point), format!("{how}{}", if point.contains(", before ") { ", again" } else { "" })).expect("a point");
    }

    /// Where it is still to die.
    fn armed(&self) -> Vec<String> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten().filter_map(|file| file.file_name().into_string().ok());
        files.filter(|name| name != "passed").collect()
    }

    fn id(&self, asked: usize) -> &str {
        self.asked[asked].request["RequestId"].as_str().expect("a RequestId")
    }

    fn has_asked(&self, row: &Value) -> bool {
        self.asked.iter().any(|asked| row["request_id"] == asked.request["RequestId"])
    }
}

/// What stands in the tables about one way.
struct Seen<'a> {
    story: &'a Story,
    pipeline: &'a Pipeline,
}

impl Seen<'_> {
    async fn request(&self, way: &Way, asked: usize) -> Value {
        self.story.item(&self.pipeline.table("requests"), [("key", &format!("request#{}", way.id(asked))), ("sort", "request")]).await
    }

    async fn is(&self, way: &Way, asked: usize, state: &str) -> bool {
        self.request(way, asked).await["state"] == state
    }

    /// Answered; nobody is to be told of the decision any more, and nothing to be written.
    async fn is_settled(&self, way: &Way, asked: usize, outputs: &[&str]) -> bool {
        let row = self.request(way, asked).await;
        let progress: Value = row["outputs"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        row["state"] == "answered"
            && row["notice"].is_null()
            && row["outputs_until"].is_null()
            && outputs.iter().all(|name| progress[*name]["is_written"] == true)
    }

    async fn verdicts(&self, way: &Way) -> Vec<Value> {
        self.story.items(&self.pipeline.table("verdicts"), ("digest", way.image.digest())).await
    }

    /// What is deployed by a request.
    async fn deployed(&self, way: &Way, asked: usize) -> Vec<Value> {
        let text = |name: &str| way.asked[asked].request[name].as_str().expect("text").to_owned();
        let rows = self.story.items(&self.pipeline.table("deployments"), ("stack", &format!("{}#{}", text("StackId"), text("LogicalResourceId")))).await;
        rows.into_iter().filter(|row| row["row"].as_str().is_some_and(|row| row.starts_with("image#"))).collect()
    }
}

/// Whether everybody who is to be told of an image was told.
fn are_told(rows: &[Value]) -> bool {
    let state = |row: &Value| serde_json::from_str::<Value>(row["told"].as_str()?).ok();
    let mut told = rows.iter().filter_map(state).peekable();
    told.peek().is_some() && told.all(|told| told["outbox"] == json!([]))
}

/// Where one can die who goes that way: before each effect, and after the last one of each run.
fn points(passed: &[(String, String)]) -> Vec<String> {
    let is_last = |n: usize| passed[n + 1..].iter().all(|(run, _)| *run != passed[n].0);
    let mut points = Vec::new();
    for (n, (_, point)) in passed.iter().enumerate() {
        if (point.contains(", before ") || is_last(n)) && !points.contains(point) {
            points.push(point.clone());
        }
    }
    points
}

struct Ways<'a> {
    story: &'a Story,
    pipeline: &'a Pipeline,
    ways: Vec<Way>,
    /// The dead whose leases have ended.
    buried: HashSet<String>,
}

impl<'a> Ways<'a> {
    async fn new(story: &'a Story, pipeline: &'a Pipeline, folder: &Path, how_many: usize) -> Self {
        let mut ways = Vec::new();
        for n in 0..how_many {
            let name = format!("way{n:02}");
            let image = story.put(&name, Some(&name), &Manifest::image(&format!("{} {name}", story.account))).await;
            let way = Way { folder: folder.join(image.digest().trim_start_matches("sha256:")), name, image, asked: Vec::new() };
            fs::create_dir_all(&way.folder).expect("a folder of its own");
            ways.push(way);
        }
        Self { story, pipeline, ways, buried: HashSet::new() }
    }

    /// Something happens to every one of them: first to the one that is left alone, then to the others, which die over it in runs of
    /// these kinds.
    async fn go<B: AsyncFn(&mut Way)>(&mut self, what: &str, runs: &[&str], begin: B, is_done: impl AsyncFn(&Seen, &Way) -> bool) {
        let began = Instant::now();
        let before = self.ways[0].passed().len();
        begin(&mut self.ways[0]).await;
        let _ = self.settle(what, 0..1, &is_done).await;
        let passed = self.ways[0].passed().split_off(before);
        let others = &self.ways[1..];
        let mut many = Vec::new();
        for kind in runs {
            let of_kind: Vec<_> = passed.iter().filter(|(_, point)| point.starts_with(kind)).cloned().collect();
            let points = points(&of_kind);
            assert!(!points.is_empty(), "{what}: no such run: {kind}");
            assert!(points.len() <= others.len(), "{what}: {kind} has {} points, and there are {} ways to die at them", points.len(), others.len());
            for (n, way) in others.iter().enumerate().take(2 * points.len()) {
                way.dies(&points[n % points.len()], if n < points.len() { "abort" } else { "panic" });
            }
            many.push(format!("{kind}: {}", points.len()));
        }
        let deaths = self.deaths();
        for way in &mut self.ways[1..] {
            begin(way).await;
        }
        let unreached = self.settle(what, 1..self.ways.len(), &is_done).await;
        let deaths = self.deaths() - deaths;
        println!("{what}: {} points; {deaths} deaths, in {:.1} s; not at {unreached:?}", many.join(", "), began.elapsed().as_secs_f64());
        assert!(unreached.len() * 10 <= deaths, "{what}: nobody came to {unreached:#?}");
    }

    fn deaths(&self) -> usize {
        self.ways.iter().map(Way::deaths).sum()
    }

    /// Time passes until all of them have died where they are to die, and are done all the same. Those points come back to which nobody
    /// has come: what several do at once on one image takes one way or the other.
    async fn settle(&mut self, what: &str, which: Range<usize>, is_done: impl AsyncFn(&Seen, &Way) -> bool) -> Vec<String> {
        let (until, seen) = (Instant::now() + PATIENCE, Seen { story: self.story, pipeline: self.pipeline });
        let (mut next, mut quiet) = (which.start, 0);
        loop {
            self.bury().await;
            let armed: Vec<String> =
                self.ways[which.clone()].iter().flat_map(|way| way.armed().into_iter().map(|point| format!("{}: {point}", way.name))).collect();
            // The minute comes round where it is to be killed, and where nobody else comes. A sweep that is killed over it fails, and the
            // next minute comes.
            let mut is_killed = false;
            if armed.iter().any(|point| point.contains(": on-sweep")) || (quiet > 0 && quiet % SWEPT_AFTER == 0) {
                is_killed = sweep::minute(self.story, self.pipeline).await.is_err();
            }
            while next < which.end && is_done(&seen, &self.ways[next]).await {
                next += 1;
            }
            quiet = if self.is_quiet().await { quiet + 1 } else { 0 };
            if next == which.end && quiet > 0 && (armed.is_empty() || quiet >= QUIET_ROUNDS) {
                for way in &self.ways[which.clone()] {
                    way.armed().iter().for_each(|point| fs::remove_file(way.folder.join(point)).expect("it is there"));
                }
                return armed;
            }
            let wrong = self.story.scans.take_violations();
            assert!(wrong.is_empty(), "{what}: a wrong answer to CloudFormation:\n{}", wrong.join("\n"));
            if Instant::now() > until {
                let left = self.ways[which].get(next).map(|way| (&way.name, way.passed()));
                panic!("{what}: after {PATIENCE:?} nobody has come to {armed:#?}, and not all are done: {left:#?}");
            }
            if !is_killed {
                tokio::time::sleep(ROUND).await;
            }
        }
    }

    /// Whether nothing is left in the queues but what is to come later.
    async fn is_quiet(&self) -> bool {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        for queue in [self.pipeline.queue("Push"), self.pipeline.queue("Scan"), self.pipeline.failures()] {
            let read = self.story.sqs().get_queue_attributes().queue_url(queue).attribute_names(Name::ApproximateNumberOfMessages);
            let read = read.attribute_names(Name::ApproximateNumberOfMessagesNotVisible).send().await.expect("GetQueueAttributes");
            if read.attributes.unwrap_or_default().values().any(|count| count != "0") {
                return false;
            }
        }
        true
    }

    /// What the dead have taken upon themselves is theirs for a minute or two yet. That time is over: nobody else has it, since nobody
    /// else gets it before.
    async fn bury(&mut self) {
        let (requests, verdicts) = (self.pipeline.table("requests"), self.pipeline.table("verdicts"));
        for way in &self.ways {
            let passed = way.passed();
            for (dead, _) in passed.iter().filter(|(_, what)| what == "died") {
                if !self.buried.insert(dead.clone()) {
                    continue;
                }
                let has = |effect: &str| passed.iter().any(|(run, point)| run == dead && point.contains(effect));
                // Whoever gets a request again sends its answer, whatever the lease.
                let is_sent_again = has(", Deploy, ");
                for asked in 0..way.asked.len() {
                    for (effect, lease, if_it_is) in [
                        ("after record the decision", "lease_until", "claimed"),
                        ("after take the answer over", "lease_until", "claimed"),
                        ("after take the telling over", "notice_until", ""),
                        ("after take the outputs over", "outputs_until", ""),
                    ] {
                        if !has(effect) {
                            continue;
                        }
                        let row = self.story.item(&requests, [("key", &format!("request#{}", way.id(asked))), ("sort", "request")]).await;
                        let is_held = row[lease].is_number() && (if_it_is.is_empty() || (row["state"] == if_it_is && !is_sent_again));
                        if is_held {
                            let key = format!("request#{}", way.id(asked));
                            let values = [(":over", AttributeValue::N("0".to_owned()))];
                            set(self.story, &requests, [("key", &key), ("sort", "request")], &format!("SET {lease} = :over"), "", &values).await;
                        }
                    }
                }
                if !has("after note what is told") {
                    continue;
                }
                let rows = self.story.items(&verdicts, ("digest", way.image.digest())).await;
                for row in rows.iter().filter(|row| row["told"].is_string()) {
                    let (item, told) = (row["item"].as_str().expect("a key"), row["told"].as_str().expect("text"));
                    let mut over: Value = serde_json::from_str(told).expect("JSON");
                    if over["lease_until"].is_null() {
                        continue;
                    }
                    over["lease_until"] = json!("2020-01-01T00:00:00Z");
                    let values = [(":over", AttributeValue::S(over.to_string())), (":told", AttributeValue::S(told.to_owned()))];
                    set(self.story, &verdicts, [("digest", way.image.digest()), ("item", item)], "SET told = :over", "told = :told", &values).await;
                }
            }
        }
    }

    /// That all came to the same: each way as the one that was left alone.
    async fn all_are_alike(&self) {
        let (requests, deployments) = (self.story.rows(&self.pipeline.table("requests")).await, self.story.rows(&self.pipeline.table("deployments")).await);
        let answers = self.story.scans.answers();
        let of = |way: &Way| -> BTreeSet<String> {
            let plain = |text: &str| {
                let mut text = text.replace(way.image.digest(), "DIGEST").replace(&way.name, "NAME");
                for (n, asked) in way.asked.iter().enumerate() {
                    text = text.replace(asked.request["RequestId"].as_str().expect("a RequestId"), &format!("REQUEST-{n}"));
                }
                text
            };
            let text = |value: &Value| plain(value.as_str().unwrap_or_default());
            let answered = way.asked.iter().enumerate().map(|(n, asked)| {
                let mut theirs = answers.iter().filter(|answer| answer.asked.token == asked.token);
                let answer = theirs.next().unwrap_or_else(|| panic!("{}: no answer to {}", way.name, way.id(n)));
                assert!(theirs.next().is_none() && answer.times <= 3, "{}: {} times: {}", way.name, answer.times, answer.answer);
                let mut body = answer.answer.clone();
                if body["Data"]["ScannedAt"].is_string() {
                    body["Data"]["ScannedAt"] = json!("");
                }
                format!("answer {}", plain(&body.to_string()))
            });
            let asked = requests.iter().filter(|row| way.has_asked(row)).map(|row| {
                assert!(row["sort"] == "request" && row["response_url"].is_null() && row["notice"].is_null(), "{}: {row:#}", way.name);
                format!("request {} {} {}", text(&row["request_id"]), text(&row["state"]), text(&row["verdict"]))
            });
            let deployed = deployments.iter().filter(|row| text(&row["stack"]).ends_with("NAME")).map(|row| {
                let kind = text(&row["row"]).split('#').next().unwrap_or_default().to_owned();
                format!("{kind} {} {} {} {}", text(&row["stack"]), text(&row["state"]), text(&row["verdict"]), text(&row["why"]))
            });
            answered.chain(asked).chain(deployed).collect()
        };
        let left_alone = of(&self.ways[0]);
        for way in &self.ways[1..] {
            assert_eq!(of(way), left_alone, "{}, which passed {:#?}", way.name, way.passed());
        }
    }
}

async fn set(story: &Story, table: &str, key: [(&str, &str); 2], expression: &str, condition: &str, values: &[(&str, AttributeValue)]) {
    let mut update = story.dynamodb().update_item().table_name(table).update_expression(expression);
    for (name, value) in key {
        update = update.key(name, AttributeValue::S(value.to_owned()));
    }
    for (name, value) in values {
        update = update.expression_attribute_values(*name, value.clone());
    }
    let _ = update.set_condition_expression(Some(condition.to_owned()).filter(|text| !text.is_empty())).send().await;
}

/// Of what on-deploy and timers send nothing arrives.
fn lose(story: &Story, kind: &'static str) {
    story.scans.on("SendMessage").with(kind).always().meets(Fault::Says(r#"{"MessageId":"lost"}"#.to_owned()));
}

fn ask_for(story: &Story, way: &mut Way, request: Value) -> Value {
    let asked = story.expect_answer(request);
    way.is_known_by(asked.request["RequestId"].as_str().expect("a RequestId"));
    way.asked.push(asked.clone());
    asked.request
}

fn xz() -> Finding {
    finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0").fixed_in("5.6.1")
}

/// How often each of these ways is told of each of the things that a message is about.
async fn counted(story: &Story, queue: &str, ways: &[Way], what: impl Fn(&Value) -> Vec<String>) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for text in story.take_messages(queue).await {
        let message: Value = serde_json::from_str(&text).expect("JSON");
        if let Some(way) = ways.iter().find(|way| text.contains(way.image.digest()) || text.contains(&format!("{0}:{0}", way.name))) {
            for what in what(&message) {
                *counts.entry((what, way.name.clone())).or_default() += 1;
            }
        }
    }
    counts
}

/// A refusal is told by itself; a finding by whatever alert lists it first.
fn told_by_the_pipeline(message: &Value) -> Vec<String> {
    match message["MessageAttributes"]["kind"]["Value"].as_str() {
        Some("deployment-blocked") => vec!["the refusal".to_owned()],
        _ => ["CVE-2024-3094", "CVE-2024-9999"]
            .into_iter()
            .filter(|id| message["Message"].as_str().is_some_and(|text| text.contains(id)))
            .map(str::to_owned)
            .collect(),
    }
}

/// Of what one hears once about the one that was left alone, one hears once or twice about each of the others.
fn each_once_or_twice(what: &str, counts: &BTreeMap<(String, String), usize>, ways: &[Way]) {
    let alone: BTreeSet<&String> = counts.keys().filter(|(_, name)| *name == ways[0].name).map(|(kind, _)| kind).collect();
    assert!(!alone.is_empty(), "{what}: nobody was told anything: {counts:?}");
    for way in ways {
        for kind in &alone {
            let times = counts.get(&((*kind).clone(), way.name.clone())).copied().unwrap_or_default();
            let most = if way.name == ways[0].name { 1 } else { 2 };
            assert!((1..=most).contains(&times), "{what}: {kind} {times} times of {}: {:#?}", way.name, way.passed());
        }
    }
    assert!(counts.values().all(|times| *times <= 2), "{what}: {counts:?}");
}

#[tokio::test]
async fn from_a_push_to_the_end_of_what_was_deployed_anybody_may_die_anywhere() {
    let story = Story::new().await;
    let folder = story.file("ways");
    let pipeline = story.pipeline_of_mortals(&folder).await;
    story.scans.hurry();
    let topic = story.listen_to_topic(&pipeline.stack.outputs["AlertTopicArn"]).await;
    let bus = story.listen_to_bus("ecr-scan-verifier").await;
    let mut ways = Ways::new(&story, &pipeline, &folder, WAYS).await;
    for way in &ways.ways {
        story.scans.frequency(&way.name, "MANUAL");
        story.scans.say_after_start(&way.image.scanned, [Scan::InProgress]);
    }
    let push = async |way: &mut Way| story.tell(&Event::pushed(&way.image)).await;
    ways.go("a push", &["on-push, push", "on-push, Remember"], push, async |seen, way| {
        seen.verdicts(way).await.iter().any(|row| row["tags"][0] == way.name.as_str())
    })
    .await;
    assert!(story.scans.calls("StartImageScan").len() >= WAYS);

    ways.ways.iter().for_each(|way| story.scans.frequency(&way.name, "CONTINUOUS_SCAN"));
    story.scans.registry(Registry::Enhanced);
    // Whose role writes the outputs, and where they go.
    let first = story.push("payments-api", "1.4.1").await;
    story.scans.say(&first.scanned, [Scan::Active(Findings::none())]);
    story.tell(&Event::inspected(&first, &Findings::none())).await;
    story.verdict(&pipeline, &first, "PASS").await;
    let stack = story.deploy_with_outputs("payments", &Gate::on(&first)).await;
    let asked_by_stack = story.scans.requests();
    let properties = asked_by_stack.iter().map(|asked| &asked.request["ResourceProperties"]).find(|properties| properties["sbom"].is_object());
    let lenient = properties.expect("a gate with outputs").clone();
    story.drained(pipeline.queue("Scan")).await;

    lose(&story, "timer");
    lose(&story, "look-again");
    let gate = |way: &Way, name: &str| {
        let mut request = Gate::by_digest(&way.image).enhanced().request(&pipeline);
        (request["StackId"], request["LogicalResourceId"]) = (json!(stack.id), json!(format!("{name}{}", way.name)));
        if name == "Lenient" {
            request["ResourceProperties"] = lenient.clone();
            request["ResourceProperties"]["repositoryName"] = json!(way.name);
            request["ResourceProperties"]["repositoryArn"] = json!(way.image.scanned.repository_arn());
            request["ResourceProperties"]["imageTag"] = json!(way.image.digest());
        }
        request
    };
    let strict = async |way: &mut Way| {
        let request = ask_for(&story, way, gate(way, "Strict"));
        story.invoke_later(&pipeline.function("on-deploy"), &request).await;
    };
    ways.go("a deployment that waits", &["on-deploy, Deploy"], strict, async |seen, way| seen.is(way, 0, "open").await).await;
    let lenient_too = async |way: &mut Way| {
        let request = ask_for(&story, way, gate(way, "Lenient"));
        story.invoke_later(&pipeline.function("on-deploy"), &request).await;
    };
    ways.go("another one that waits for the same image", &[], lenient_too, async |seen, way| seen.is(way, 1, "open").await).await;

    let ends = async |way: &mut Way| {
        let found = Findings::of([xz()]);
        story.scans.say(&way.image.scanned, [Scan::Active(found.clone())]);
        story.tell(&Event::inspected(&way.image, &found)).await;
    };
    ways.go("the end of a scan", &["on-scan, Scan", "on-scan, Notice", "on-scan, Outputs"], ends, async |seen, way| {
        seen.is_settled(way, 0, &[]).await && seen.is_settled(way, 1, &["logs", "sbom", "message"]).await
    })
    .await;
    let alone = &ways.ways[0];
    let statuses: Vec<_> = story
        .scans
        .answers()
        .iter()
        .filter(|answer| alone.asked.iter().any(|asked| asked.token == answer.asked.token))
        .map(|answer| answer.is_success())
        .collect();
    assert_eq!(statuses.len(), 2, "{statuses:?}");
    let written = story.s3().list_objects_v2().bucket(format!("logs-{}", story.account)).max_keys(1000).send().await.expect("ListObjectsV2");
    for way in &ways.ways {
        let mut names: Vec<&str> =
            written.contents().iter().filter_map(|object| object.key()).filter(|key| key.contains(way.image.digest().trim_start_matches("sha256:"))).collect();
        names.sort_unstable();
        let files: Vec<&str> = names.iter().filter_map(|key| key.rsplit('/').next()).collect();
        assert_eq!(files, ["findings.json", "sbom.cyclonedx.json", "summary.txt"], "{}: each once: {names:?}", way.name);
    }

    // Seconds tell the requests of one resource apart.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let update = async |way: &mut Way| {
        let mut request = gate(way, "Lenient");
        (request["RequestType"], request["PhysicalResourceId"]) = (json!("Update"), lenient["addr"].clone());
        request["OldResourceProperties"] = request["ResourceProperties"].clone();
        for output in ["output", "sbom"] {
            request["ResourceProperties"].as_object_mut().expect("properties").remove(output);
        }
        let request = ask_for(&story, way, request);
        story.invoke_later(&pipeline.function("on-deploy"), &request).await;
    };
    ways.go("an update by a known verdict", &["on-deploy, Deploy"], update, async |seen, way| seen.is_settled(way, 2, &["message"]).await).await;

    let news = async |way: &mut Way| {
        let found = Findings::of([xz(), finding("CVE-2024-9999", "CRITICAL").package("zlib", "1.3")]);
        story.scans.say(&way.image.scanned, [Scan::Active(found.clone())]);
        story.tell(&Event::inspected(&way.image, &found).at(Timestamp::now() + SignedDuration::from_secs(61))).await;
    };
    ways.go("a new finding on what is deployed", &["on-scan, Scan"], news, async |seen, way| {
        let rows = seen.verdicts(way).await;
        rows.iter().any(|row| row["verdict"].as_str().is_some_and(|verdict| verdict.contains("CRITICAL: 2"))) && are_told(&rows)
    })
    .await;
    let told = counted(&story, &topic, &ways.ways, told_by_the_pipeline).await;
    each_once_or_twice("the pipeline's topic", &told, &ways.ways);
    assert_eq!(told.keys().map(|(what, _)| what).collect::<BTreeSet<_>>().len(), 3, "the refusal, and both findings: {told:?}");
    let told = counted(&story, &bus, &ways.ways, |event| vec![format!("{} {}", event["detail-type"], event["detail"]["verdict"])]).await;
    each_once_or_twice("the event bus", &told, &ways.ways);
    // The message in the original's form, for the deployment and for its update; and the new finding.
    let heard = counted(&story, &stack.outputs["HeardUrl"], &ways.ways, |_| vec!["messages".to_owned()]).await;
    let alone = heard.get(&("messages".to_owned(), ways.ways[0].name.clone())).copied().unwrap_or_default();
    assert!(alone >= 3 && heard.len() == WAYS && heard.values().all(|times| (alone..=2 * alone).contains(times)), "the gate's own topic: {heard:?}");

    tokio::time::sleep(Duration::from_millis(1100)).await;
    let delete = async |way: &mut Way| {
        let mut request = gate(way, "Lenient");
        (request["RequestType"], request["PhysicalResourceId"]) = (json!("Delete"), lenient["addr"].clone());
        let request = ask_for(&story, way, request);
        story.invoke_later(&pipeline.function("on-deploy"), &request).await;
    };
    ways.go("a delete", &["on-deploy, Deploy"], delete, async |seen, way| {
        let rows = seen.deployed(way, 1).await;
        !rows.is_empty() && rows.iter().all(|row| row["state"] == "removed")
    })
    .await;

    ways.all_are_alike().await;
    for lane in ["Push", "Scan", "Findings"] {
        assert!(story.take_messages(pipeline.dead_letters(lane)).await.is_empty(), "no dead letters in {lane}");
    }
    println!("{} deaths", ways.deaths());
}

/// More than there are points in any one kind of run.
const WAYS: usize = 30;

#[tokio::test]
async fn whoever_looks_after_those_who_wait_may_die_anywhere() {
    let story = Story::new().await;
    let folder = story.file("ways");
    let pipeline = story.pipeline_of_mortals(&folder).await;
    story.scans.hurry();
    // Timers ring when the story says so.
    lose(&story, "look-again");
    lose(&story, "timer");
    let mut ways = Ways::new(&story, &pipeline, &folder, 14).await;
    for way in &ways.ways {
        story.scans.say(&way.image.scanned, [Scan::InProgress]);
    }
    let gate = |way: &Way, name: &str| {
        let mut request = Gate::by_digest(&way.image).with("StartScan", "false").request(&pipeline);
        (request["StackId"], request["LogicalResourceId"]) = (json!(pipeline.stack.id), json!(format!("{name}{}", way.name)));
        request
    };
    let overdue = async |way: &mut Way| {
        let request = ask_for(&story, way, gate(way, "Overdue"));
        story.invoke_later(&pipeline.function("on-deploy"), &request).await;
    };
    ways.go("deployments whose timers are lost", &[], overdue, async |seen, way| seen.is(way, 0, "open").await).await;
    // Their time is over, and nobody has answered them.
    let time_is_up = async |way: &mut Way| {
        let (table, key) = (pipeline.table("requests"), format!("request#{}", way.id(0)));
        let long_ago = AttributeValue::N((Timestamp::now() - SignedDuration::from_mins(10)).as_millisecond().to_string());
        set(&story, &table, [("key", &key), ("sort", "request")], "SET due = :due", "", &[(":due", long_ago)]).await;
    };
    ways.go("the sweep", &["on-sweep, Wake", "on-scan, Notice"], time_is_up, async |seen, way| seen.is_settled(way, 0, &[]).await).await;

    let waits = async |way: &mut Way| {
        let request = ask_for(&story, way, gate(way, "Waits"));
        story.invoke_later(&pipeline.function("on-deploy"), &request).await;
    };
    ways.go("others that wait", &[], waits, async |seen, way| seen.is(way, 1, "open").await).await;
    let rings = async |way: &Way, n: u32| story.send(pipeline.queue("Scan"), json!({ "v": 1, "kind": "timer", "requestId": way.id(1), "n": n })).await;
    let first = async |way: &mut Way| rings(way, 1).await;
    ways.go("their timers", &["on-scan, Wake"], first, async |seen, way| seen.request(way, 1).await["timer_seq"].as_u64() == Some(2)).await;
    let sent: Vec<Value> = story.scans.calls("SendMessage").iter().filter_map(|call| serde_json::from_str(call.json()["MessageBody"].as_str()?).ok()).collect();
    for way in &ways.ways {
        let next = sent.iter().filter(|sent| sent["kind"] == "timer" && sent["requestId"] == way.id(1) && sent["n"] == 2);
        assert!(next.count() > 0, "{}: the next timer is set: {:#?}", way.name, way.passed());
    }
    let ends = async |way: &mut Way| {
        story.scans.say(&way.image.scanned, [Scan::Complete(Findings::none())]);
        rings(way, 2).await;
    };
    ways.go("the timer that finds a scan whose end nobody told of", &["on-scan, Wake"], ends, async |seen, way| seen.is_settled(way, 1, &[]).await).await;

    // on-deploy has failed on it three times.
    let given_up = async |way: &mut Way| {
        let request = ask_for(&story, way, gate(way, "GivenUp"));
        let record = json!({
            "version": "1.0", "requestContext": { "condition": "RetriesExhausted", "approximateInvokeCount": 3 }, "requestPayload": request,
            "responseContext": { "functionError": "Unhandled" }, "responsePayload": { "errorMessage": "killed" },
        });
        story.send(pipeline.failures(), record).await;
    };
    ways.go("a request that was given up", &["on-scan, Deploy"], given_up, async |seen, way| seen.is_settled(way, 2, &[]).await).await;
    ways.all_are_alike().await;
    println!("{} deaths", ways.deaths());
}

#[tokio::test]
async fn a_walk_may_die_anywhere_and_comes_to_its_end() {
    let story = Story::new().await;
    let folder = story.file("ways");
    let pipeline = story.pipeline_of_mortals(&folder).await;
    story.scans.hurry();
    let known = story.push("payments-api", "known").await;
    story.scans.say(&known.scanned, [Scan::Complete(Findings::none())]);
    story.tell(&Event::scanned(&known, &Findings::none())).await;
    story.verdict(&pipeline, &known, "PASS").await;
    let mut untold = Vec::new();
    let (mut failed, mut killed) = (0, 0);
    // Each walk meets an image of which nobody has told, and a deployment whose stack went without a word.
    let mut walked = async |n: usize, armed: Option<&String>| {
        let image = sweep::untold(&story, &format!("untold{n}")).await;
        // Of what was pushed a moment ago its own event is still to come.
        story.scans.pushed_at(&image.scanned, Timestamp::now() - SignedDuration::from_hours(2));
        let way = Way { name: format!("walk{n}"), folder: folder.join(format!("walk{n}")), image: image.clone(), asked: Vec::new() };
        fs::create_dir_all(&way.folder).expect("a folder");
        way.is_known_by(image.digest().trim_start_matches("sha256:"));
        let gone = story.ask(&pipeline.function("on-deploy"), Gate::by_digest(&known).request(&pipeline)).await;
        assert_eq!(gone.data("Verdict"), "PASS");
        let stack = gone.asked.request["StackId"].as_str().expect("a StackId").to_owned();
        story.row(&pipeline.table("deployments"), |row| row["stack"].as_str().is_some_and(|id| id.starts_with(&stack)) && row["live"] == "live").await;
        sweep::age(&story, &pipeline, &stack, false).await;
        let walker = folder.join("Daily");
        let _ = fs::remove_file(&walker);
        symlink(&way.folder, &walker).expect("a link");
        if let Some(point) = armed {
            way.dies(point, "abort");
        }
        let tick = json!({ "v": 1, "kind": "daily" });
        while story.invoke(&pipeline.function("on-sweep"), &tick).await.is_err() {
            failed += 1;
        }
        let walk = loop {
            failed += usize::from(sweep::minute(&story, &pipeline).await.is_err());
            let walk = sweep::walk(&story, &pipeline, "daily").await.expect("it has begun");
            if walk["place"] == "over" {
                break walk;
            }
            // Whoever is dead holds the walk for a minute yet.
            let values = [(":over", AttributeValue::N("0".to_owned()))];
            set(&story, &pipeline.table("requests"), [("key", "walk#daily"), ("sort", "walk")], "SET lease_until = :over", "", &values).await;
        };
        let found = ["remembered", "closed", "errors"].map(|what| walk["found"][what].as_u64().expect("a number"));
        assert!(found[2] == 0 && found[0] <= 1 && found[1] <= 1, "{armed:?}: {walk:#}");
        let rows = story.rows(&pipeline.table("deployments")).await;
        let mut deployed = rows
            .iter()
            .filter(|row| row["stack"].as_str().is_some_and(|id| id.starts_with(&stack)) && row["row"].as_str().is_some_and(|row| row.starts_with("image#")));
        assert!(deployed.all(|row| row["state"] == "removed"), "{armed:?}: {rows:#?}");
        untold.push(image);
        assert!(armed.is_none() || way.deaths() > 0, "nobody came to {armed:?}");
        // Minutes come by themselves as well, and nobody hears of it when one of those is killed.
        killed += way.deaths();
        assert!(failed <= killed, "{armed:?}: only they fail who are killed");
        way.passed()
    };
    let passed: Vec<_> = walked(0, None).await.into_iter().filter(|(_, point)| point.starts_with("on-sweep, ")).collect();
    let points = points(&passed);
    for (n, point) in points.iter().enumerate() {
        walked(n + 1, Some(point)).await;
    }
    for image in &untold {
        story.verdict(&pipeline, image, "PASS").await;
    }

    // CloudFormation, which asks for a backfill, has its answer.
    for point in ["before answer CloudFormation", "after answer CloudFormation"] {
        let asked = story.expect_answer(sweep::backfill("Create"));
        let way = folder.join(asked.request["RequestId"].as_str().expect("a RequestId"));
        fs::create_dir_all(&way).expect("a folder");
        fs::write(way.join(format!("on-sweep, backfill, {point}, 1")), "abort").expect("a point");
        story.invoke_later(&pipeline.function("on-sweep"), &asked.request).await;
        assert!(story.answer_to(&asked).await.is_success());
        let is_dead = || async { fs::read_to_string(way.join("passed")).is_ok_and(|passed| passed.matches("before answer").count() == 2).then_some(()) };
        story.until(Duration::from_secs(60), is_dead).await.expect("Lambda delivers it again");
    }
    println!("{} deaths: {points:#?}", killed + 2);
}
