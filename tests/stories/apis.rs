//! Every AWS operation that the functions call fails once in every way that it can, somewhere on the way from a push to an alert; pages
//! come in part, clocks differ, and what was given up is brought back.
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::local::answers::Asked;
use crate::local::events::Event;
use crate::local::faults::Fault;
use crate::local::images::{Image, Manifest};
use crate::local::pipeline::{Gate, PIPELINE, Pipeline};
use crate::local::profile;
use crate::local::scan_plane::Registry;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;
use crate::local::wire::{REGION, signed_as};

/// Longer than what somebody who seems to have died holds a lease for.
const PATIENCE: Duration = Duration::from_secs(240);

/// And how often in a row. Three times is more than a client tries by itself, so what called it has failed.
const WAYS_TO_FAIL: [(fn() -> Fault, usize); 5] =
    [(|| Fault::Throttle, 1), (|| Fault::ServerError, 3), (|| Fault::Cut, 1), (|| Fault::LoseAnswer, 1), (|| Fault::Slow(Duration::from_millis(700)), 1)];

fn xz() -> Findings {
    Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0").fixed_in("5.6.1")])
}

/// One image, and the two requests that ask for it.
struct Deployment {
    image: Image,
    /// Refused, and told to the pipeline's topic.
    strict: Asked,
    /// Let through, with logs, an SBOM and a message.
    lenient: Asked,
}

impl Deployment {
    fn texts(&self) -> [&str; 3] {
        [self.image.digest(), self.strict.request["RequestId"].as_str().expect("an id"), self.lenient.request["RequestId"].as_str().expect("an id")]
    }
}

/// A stack with outputs, whose role and places the requests name.
struct Stage<'a> {
    story: &'a Story,
    pipeline: Pipeline,
    stack_id: String,
    properties: Value,
    topic: String,
}

impl<'a> Stage<'a> {
    async fn new(story: &'a Story) -> Self {
        let pipeline = story.pipeline().await;
        story.scans.hurry();
        let topic = story.listen_to_topic(&pipeline.stack.outputs["AlertTopicArn"]).await;
        let first = story.push("payments-api", "1.4.1").await;
        story.scans.registry(Registry::Enhanced);
        story.scans.say(&first.scanned, [Scan::Active(Findings::none())]);
        story.tell(&Event::inspected(&first, &Findings::none())).await;
        story.verdict(&pipeline, &first, "PASS").await;
        let stack = story.deploy_with_outputs("payments", &Gate::on(&first)).await;
        assert_eq!(stack.status, "CREATE_COMPLETE", "{:#?}", story.stack_events("payments").await);
        let requests = story.scans.requests();
        let properties = requests.iter().map(|asked| &asked.request["ResourceProperties"]).find(|properties| properties["sbom"].is_object());
        let properties = properties.expect("a gate with outputs").clone();
        story.drained(pipeline.queue("Scan")).await;
        Self { story, pipeline, stack_id: stack.id, properties, topic }
    }

    /// All functions that run end, and the next events are for new ones: with another time limit a process is of no more use.
    async fn begin_anew(&self) {
        for function in ["on-push", "on-scan", "on-deploy"] {
            let url = format!("{}/2015-03-31/functions/{}/configuration", self.story.direct_origin(), self.pipeline.function(function));
            let change = Bytes::from(json!({ "Timeout": 60 }).to_string());
            let changed = self.story.http.send(&Method::PUT, &url, &signed_as(&self.story.account, "lambda"), change).await.expect("the local AWS answers");
            assert_eq!(changed.status, 200, "{}", changed.text());
        }
    }

    async fn image(&self, tag: &str) -> Deployment {
        let image = self.story.put("apis", Some(tag), &Manifest::image(&format!("{} {tag}", self.story.account))).await;
        let of_stack = |mut request: Value, name: &str| {
            (request["StackId"], request["LogicalResourceId"]) = (json!(self.stack_id), json!(format!("{name}{tag}")));
            request
        };
        let strict = of_stack(Gate::on(&image).enhanced().request(&self.pipeline), "Strict");
        let mut lenient = of_stack(strict.clone(), "Lenient");
        lenient["ResourceProperties"] = self.properties.clone();
        for same in ["repositoryName", "repositoryArn", "imageTag"] {
            lenient["ResourceProperties"][same] = strict["ResourceProperties"][same].clone();
        }
        Deployment { strict: self.story.expect_answer(strict), lenient: self.story.expect_answer(lenient), image }
    }

    /// Pushed, waited for, scanned; refused here and let through there; told, and written down.
    async fn go(&self, all: &[Deployment]) {
        for one in all {
            self.story.scans.say(&one.image.scanned, [Scan::InProgress]);
            self.story.tell(&Event::pushed(&one.image)).await;
        }
        for one in all {
            for asked in [&one.strict, &one.lenient] {
                self.story.invoke_later(&self.pipeline.function("on-deploy"), &asked.request).await;
            }
        }
        let requests = self.pipeline.table("requests");
        let are = async |is: &dyn Fn(&Value) -> bool| {
            let rows = self.story.rows(&requests).await;
            let of =
                |asked: &Asked| rows.iter().find(|row| row["request_id"] == asked.request["RequestId"] && row["sort"] == "request").unwrap_or(&Value::Null);
            all.iter().all(|one| is(of(&one.strict)) && is(of(&one.lenient))).then_some(())
        };
        self.story.until(PATIENCE, || are(&|row| !row["state"].is_null())).await.expect("all of them wait");
        for one in all {
            self.story.scans.say(&one.image.scanned, [Scan::Active(xz())]);
            self.story.tell(&Event::inspected(&one.image, &xz())).await;
        }
        let is_settled = |row: &Value| {
            let outputs: Value = row["outputs"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            let is_written = row["told"].is_null() || ["logs", "sbom", "message"].iter().all(|name| outputs[*name]["is_written"] == true);
            row["state"] == "answered" && row["notice"].is_null() && is_written
        };
        if self.story.until(PATIENCE, || are(&is_settled)).await.is_none() {
            panic!("not all are settled: {:#?}", self.story.rows(&requests).await);
        }
        let answers = self.story.scans.answers();
        for one in all {
            let answer = |asked: &Asked| answers.iter().find(|answer| answer.asked.token == asked.token).expect("an answer");
            let (strict, lenient) = (answer(&one.strict), answer(&one.lenient));
            assert!(!strict.is_success() && strict.reason().contains("CVE-2024-3094"), "{}", strict.answer);
            assert!(lenient.is_success() && lenient.data("Verdict") == "BLOCK" && lenient.data("ImageDigest") == one.image.digest(), "{}", lenient.answer);
        }
    }
}

#[tokio::test]
async fn whatever_fails_once_in_whatever_way_everybody_is_answered_and_told() {
    let story = Story::new().await;
    let stage = Stage::new(&story).await;
    // What is called, as one sees that meets nothing. Who has just begun knows nothing yet, so everything is called.
    stage.begin_anew().await;
    let before = story.scans.all_calls().len();
    let undisturbed = [stage.image("undisturbed").await];
    stage.go(&undisturbed).await;
    let told = "InvokeFunction PutImage CreateRepository Scan";
    let calls: Vec<_> = story.scans.all_calls().split_off(before);
    let mut operations: BTreeMap<&'static str, Option<usize>> = BTreeMap::new();
    for call in calls.iter().filter(|call| !told.contains(&call.operation)) {
        let body = String::from_utf8_lossy(&call.body);
        // By which of the texts of a deployment its calls of this kind are known, if by any.
        let text = undisturbed[0].texts().iter().position(|text| body.contains(text));
        let known = operations.entry(String::leak(call.operation.clone())).or_insert(text);
        *known = known.or(text);
    }
    let names: BTreeSet<&str> = operations.keys().copied().collect();
    for wanted in
        ["BatchGetImage", "DescribeImageScanFindings", "TransactWriteItems", "UpdateItem", "SendMessage", "PutAnswer", "Publish", "AssumeRole", "PutObject"]
    {
        assert!(names.contains(wanted), "{wanted} is not called: {names:?}");
    }
    let mut all = Vec::new();
    for n in 0..WAYS_TO_FAIL.len() {
        all.push(stage.image(&format!("disturbed-{n}")).await);
    }
    // Each of five deployments meets one failure of each operation, each of them another one; so all five of each are met.
    for (n, (operation, text)) in operations.iter().enumerate() {
        for (k, one) in all.iter().enumerate() {
            let rule = story.scans.on(operation);
            let rule = match text {
                Some(text) => rule.with(one.texts()[*text]),
                None => rule,
            };
            let (fault, times) = WAYS_TO_FAIL[(n + k) % WAYS_TO_FAIL.len()];
            rule.times(times).meets(fault());
        }
    }
    stage.begin_anew().await;
    stage.go(&all).await;
    let met: BTreeMap<&str, usize> =
        operations.keys().map(|operation| (*operation, story.scans.calls(operation).iter().filter(|call| call.met.is_some()).count())).collect();
    println!("{} operations, each failing in these many ways: {met:?}", operations.len());
    let unmet: Vec<_> = met.iter().filter(|(_, times)| **times == 0).collect();
    assert!(unmet.is_empty(), "nothing has failed there: {unmet:?}");
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    for text in story.take_messages(&stage.topic).await {
        for one in all.iter().chain(&undisturbed) {
            let kind = serde_json::from_str::<Value>(&text).expect("JSON")["MessageAttributes"]["kind"]["Value"].as_str().unwrap_or_default().to_owned();
            if kind == "deployment-blocked" && text.contains(one.image.digest()) {
                *heard.entry(one.image.tag().to_owned()).or_default() += 1;
            }
        }
    }
    assert!(heard.len() == all.len() + 1 && heard.values().all(|times| (1..=2).contains(times)), "{heard:?}");
    for lane in ["Push", "Scan", "Findings"] {
        assert!(story.take_messages(stage.pipeline.dead_letters(lane)).await.is_empty(), "no dead letters in {lane}");
    }
}

#[tokio::test]
async fn half_an_answer_is_no_answer() {
    let story = Story::new().await;
    let stage = Stage::new(&story).await;
    let bus = story.listen_to_bus("ecr-scan-verifier").await;
    let all = [stage.image("in-part").await];
    let digest = all[0].image.digest();
    // The bus has not taken the event, and does not say why.
    story.scans.on("PutEvents").with(digest).meets(Fault::Says(r#"{"FailedEntryCount":1,"Entries":[{"ErrorCode":"InternalFailure"}]}"#.to_owned()));
    // Two transactions met.
    let conflict = Fault::Error { status: 400, code: "TransactionCanceledException", message: "Transaction cancelled, please refer cancellation reasons" };
    story.scans.on("TransactWriteItems").with(digest).meets(conflict);
    // The shelves of the findings are left unread.
    let key = json!({ "digest": { "S": "findings#00" }, "item": { "S": "x" } });
    let left = json!({ "Responses": {}, "UnprocessedKeys": { stage.pipeline.table("verdicts"): { "Keys": [key] } } });
    story.scans.on("BatchGetItem").with("findings#00").meets(Fault::Says(left.to_string()));
    stage.go(&all).await;
    let events = story.messages(&bus, 1).await;
    assert!(events.iter().any(|event| event.contains(digest)), "{events:?}");
    let shelved = |row: &Value| {
        row["digest"].as_str().is_some_and(|shelf| shelf.starts_with("findings#")) && row["item"].as_str().is_some_and(|item| item.ends_with(digest))
    };
    story.row(&stage.pipeline.table("verdicts"), shelved).await;
}

#[tokio::test]
async fn clocks_that_differ_make_nobody_wait_longer_and_let_nothing_through() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let ahead = |seconds: i64| Timestamp::now() + SignedDuration::from_secs(seconds);
    let image = story.put("payments-api", Some("1.4.1"), &Manifest::image("of tomorrow")).await;
    // They who tell of its push and of its scan are an hour ahead.
    story.tell(&Event::pushed(&image).at(ahead(3600))).await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    story.tell(&Event::scanned(&image, &Findings::none()).at(ahead(3600))).await;
    story.verdict(&pipeline, &image, "PASS").await;
    let signed = |asked: &mut Asked, at: Timestamp| {
        let url = asked.request["ResponseURL"].as_str().expect("a URL");
        let (path, query) = url.split_once('?').expect("a signed URL");
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("X-Amz-Date=")).collect();
        asked.request["ResponseURL"] = json!(format!("{path}?X-Amz-Date={}&{}", at.strftime("%Y%m%dT%H%M%SZ"), rest.join("&")));
    };
    for seconds in [3600, -120, -5400] {
        let mut asked = story.expect_answer(Gate::by_digest(&image).request(&pipeline));
        signed(&mut asked, ahead(seconds));
        story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
        assert_eq!(story.answer_to(&asked).await.data("Verdict"), "PASS", "signed {seconds} s from now");
    }
    // What was read later is bad, though its event is told with an older time.
    let bad = Findings::of([finding("CVE-2024-3094", "CRITICAL")]);
    story.scans.say(&image.scanned, [Scan::Complete(bad.clone())]);
    story.tell(&Event::scanned(&image, &bad).at(ahead(1))).await;
    story.verdict(&pipeline, &image, "BLOCK").await;

    // Nobody waits longer than its gate says, however far ahead the clock is that has signed; and one that is late already is told so.
    let slow = story.push("payments-api", "1.4.2").await;
    story.scans.say(&slow.scanned, [Scan::InProgress]);
    let mut asked = story.expect_answer(Gate::by_digest(&slow).request(&pipeline));
    signed(&mut asked, ahead(3600));
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    let id = asked.request["RequestId"].clone();
    let row = story.row(&pipeline.table("requests"), |row| row["request_id"] == id && row["state"] == "open").await;
    assert!(row["due"].as_i64().expect("a time") <= ahead(840).as_millisecond(), "{row:#}");
    let mut late = story.expect_answer(Gate::by_digest(&slow).request(&pipeline));
    signed(&mut late, ahead(-1200));
    story.invoke_later(&pipeline.function("on-deploy"), &late.request).await;
    let answer = story.answer_to(&late).await;
    assert!(answer.reason().starts_with("ECR image scan timed out after 840 seconds."), "{}", answer.answer);
    // A scan that ends in an hour, if one believes the scanner, has not ended.
    let tomorrow = Findings::none().completed_at(ahead(3600));
    story.scans.say(&slow.scanned, [Scan::Complete(tomorrow.clone())]);
    story.tell(&Event::scanned(&slow, &tomorrow).at(ahead(3600))).await;
    story.drained(pipeline.queue("Scan")).await;
    assert!(story.scans.answers().iter().all(|answer| answer.asked.token != asked.token));
    story.scans.say(&slow.scanned, [Scan::Complete(Findings::none())]);
    story.tell(&Event::scanned(&slow, &Findings::none()).at(ahead(-600))).await;
    assert_eq!(story.answer_to(&asked).await.data("Verdict"), "PASS");
}

fn redrive(story: &Story) -> Command {
    let mut command = Command::new(profile().join("ecr-scan-verifier"));
    command.args(["dead-letters", "--redrive", "--pipeline", PIPELINE]).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN"] {
        command.env_remove(name);
    }
    command.env("AWS_ACCESS_KEY_ID", &story.account).env("AWS_SECRET_ACCESS_KEY", "x").env("AWS_REGION", REGION);
    command.env("AWS_ENDPOINT_URL", story.scans.origin());
    command
}

#[tokio::test]
async fn what_was_given_up_is_brought_back_by_somebody_who_is_killed_over_it_and_everybody_is_answered() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.hurry();
    story.try_at_most(pipeline.queue("Scan"), pipeline.dead_letters("Scan"), 2).await;
    // What is in the dead letters is all that could still answer.
    story.scans.on("SendMessage").with("timer").always().meets(Fault::Says(r#"{"MessageId":"lost"}"#.to_owned()));
    let images = [story.push("payments-api", "1.4.1").await, story.push("payments-api", "1.4.2").await];
    let mut asked = Vec::new();
    for image in &images {
        story.drained(pipeline.queue("Push")).await;
        // The scanner answers nobody any more.
        story.scans.say(&image.scanned, [Scan::InProgress, Scan::Fails(Fault::ServerError)]);
        let one = story.expect_answer(Gate::by_digest(image).request(&pipeline));
        story.invoke_later(&pipeline.function("on-deploy"), &one.request).await;
        let id = one.request["RequestId"].clone();
        story.row(&pipeline.table("requests"), |row| row["request_id"] == id && row["state"] == "open").await;
        story.tell(&Event::scanned(image, &Findings::none())).await;
        asked.push(one);
    }
    let letters = async |wanted: usize| {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let count = async |queue: &str, name: Name| {
            let read = story.sqs().get_queue_attributes().queue_url(queue).attribute_names(name.clone()).send().await.expect("GetQueueAttributes");
            read.attributes.and_then(|attributes| attributes[&name].parse::<usize>().ok()).unwrap_or_default()
        };
        let dead = pipeline.dead_letters("Scan");
        (count(dead, Name::ApproximateNumberOfMessages).await + count(dead, Name::ApproximateNumberOfMessagesNotVisible).await >= wanted).then_some(())
    };
    // For each a look-again and the end of its scan.
    story.until(Duration::from_secs(120), || letters(4)).await.expect("dead letters");
    story.drained(pipeline.queue("Scan")).await;
    assert!(story.scans.answers().is_empty(), "nothing is known of either");

    for image in &images {
        story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    }
    // The first letter has been sent back, and is not taken out yet.
    let held = story.scans.on("DeleteMessage").hold();
    let mut killed = redrive(&story).spawn().expect("the command runs");
    held.reached().await;
    killed.kill().expect("it is killed");
    killed.wait().expect("it is dead");
    drop(held);
    // What it had in its hands is nobody's for a minute; a person does not wait for that.
    let brought_back = async || {
        let mut again = redrive(&story);
        let output = tokio::task::spawn_blocking(move || again.output().expect("the command runs")).await.expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        letters(1).await.is_none().then_some(())
    };
    story.until(Duration::from_secs(120), brought_back).await.expect("all of them are brought back");
    for one in &asked {
        let answer = story.answer_to(one).await;
        assert_eq!((answer.data("Verdict"), answer.times), ("PASS", 1));
    }
    story.drained(pipeline.queue("Scan")).await;
    assert!(letters(1).await.is_none(), "none has come back");
}
