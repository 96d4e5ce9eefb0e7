//! Load: `make load` runs these, `make test` does not. They take minutes, and print what they have measured.
use std::collections::{BTreeMap, HashMap};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::local::answers::Answer;
use crate::local::events::Event;
use crate::local::images::{Image, Manifest};
use crate::local::pipeline::Gate;
use crate::local::profile;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;
use crate::local::wire::{self, Arrived, Http, REGION, Reply};

const IMAGES: usize = 1000;
const REPOSITORIES: usize = 100;
const DEPLOYMENTS: usize = 500;
const STACKS: usize = 20;
/// So many calls of on-deploy at once: a machine of one's own has no more room.
const AT_ONCE: usize = 12;
/// Longer than anybody has to wait here.
const PATIENCE_S: u64 = 3000;

fn is_bad(n: usize) -> bool {
    n.is_multiple_of(5)
}

fn found(n: usize) -> Findings {
    if is_bad(n) { Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0")]) } else { Findings::of([finding("CVE-2022-0563", "LOW")]) }
}

fn gate(image: &Image) -> Gate {
    Gate::by_digest(image).with("PollingTimeoutSeconds", PATIENCE_S).with("ServiceTimeout", 3600).with("StartScan", "false")
}

#[tokio::test]
#[ignore = "minutes: make load"]
async fn five_hundred_deployments_wait_for_a_thousand_scans() {
    let story = Arc::new(Story::new().await);
    let pipeline = story.pipeline().await;
    let began = Instant::now();
    let mut images = Vec::new();
    for n in 0..IMAGES {
        let image = story.put(&format!("fleet-{}", n % REPOSITORIES), Some(&format!("v{n}")), &Manifest::image(&format!("load {n}"))).await;
        story.scans.say(&image.scanned, [Scan::InProgress]);
        images.push(image);
    }
    println!("{IMAGES} images put after {:.0} s", began.elapsed().as_secs_f64());

    let pushes = Instant::now();
    for some in images.chunks(10) {
        story.tell_all(&some.iter().map(Event::pushed).collect::<Vec<_>>()).await;
    }
    let heads = |wanted: fn(&Value) -> bool| {
        let (story, table) = (Arc::clone(&story), pipeline.table("verdicts"));
        move || {
            let (story, table) = (Arc::clone(&story), table.clone());
            async move { (story.rows(&table).await.iter().filter(|row| row["version"].is_number() && wanted(row)).count() >= IMAGES).then_some(()) }
        }
    };
    story.until(Duration::from_secs(900), heads(|row| row["tags"].is_array())).await.expect("every push is remembered");
    println!("{IMAGES} pushes remembered in {:.0} s", pushes.elapsed().as_secs_f64());

    // Twenty real stacks, and the rest sent as CloudFormation sends them.
    let asking = Instant::now();
    for (n, image) in images.iter().enumerate().take(STACKS) {
        story.begin(&format!("stack-{n}"), &gate(image)).await;
    }
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut sent = Vec::new();
    for image in images.iter().take(DEPLOYMENTS).skip(STACKS) {
        let asked = story.expect_answer(gate(image).request(&pipeline));
        let (story, room, function) = (Arc::clone(&story), Arc::clone(&room), pipeline.function("on-deploy"));
        sent.push(tokio::spawn(async move {
            let _room = room.acquire().await.expect("there will be room");
            story.invoke(&function, &asked.request).await.map(|_| asked)
        }));
    }
    let mut asked = Vec::new();
    for one in sent {
        asked.push(one.await.expect("asked").expect("on-deploy returns"));
    }
    let waiting = || async {
        let open = story.rows(&pipeline.table("requests")).await.iter().filter(|row| row["sort"] == "request" && row["state"] == "open").count();
        (open == DEPLOYMENTS).then_some(())
    };
    story.until(Duration::from_secs(300), waiting).await.expect("all of them wait");
    assert!(story.scans.answers().is_empty(), "nobody is answered while nothing is known");
    println!("{DEPLOYMENTS} deployments wait after {:.0} s ({AT_ONCE} at once)", asking.elapsed().as_secs_f64());

    let scans = Instant::now();
    for (n, image) in images.iter().enumerate() {
        story.scans.say(&image.scanned, [Scan::Complete(found(n))]);
    }
    for some in (0..IMAGES).collect::<Vec<_>>().chunks(10) {
        story.tell_all(&some.iter().map(|&n| Event::scanned(&images[n], &found(n))).collect::<Vec<_>>()).await;
    }
    let told_s = scans.elapsed().as_secs_f64();
    let answered = || async { (story.scans.answers().len() >= DEPLOYMENTS).then_some(()) };
    story.until(Duration::from_secs(PATIENCE_S), answered).await.unwrap_or_else(|| panic!("{} of {DEPLOYMENTS} answers", story.scans.answers().len()));
    println!("{IMAGES} ends of scans told in {told_s:.0} s, {DEPLOYMENTS} deployments answered {:.0} s after the first", scans.elapsed().as_secs_f64());
    story.until(Duration::from_secs(900), heads(|row| row["verdict"].is_string() && row["result"].is_object())).await.expect("every scan is judged");
    println!("{IMAGES} images judged after {:.0} s", scans.elapsed().as_secs_f64());

    let number: HashMap<&str, usize> = images.iter().enumerate().map(|(n, image)| (image.digest(), n)).collect();
    let answers = story.scans.answers();
    assert_eq!(answers.len(), DEPLOYMENTS, "one answer each");
    let mut waited: Vec<f64> = answers.iter().map(|answer| answer.took.as_secs_f64()).collect();
    for answer in &answers {
        let n = number[answer.asked.request["ResourceProperties"]["imageTag"].as_str().expect("a digest")];
        let is_right = |answer: &Answer| if is_bad(n) { answer.reason().contains("CVE-2024-3094") } else { answer.data("Verdict") == "PASS" };
        assert!(answer.is_success() != is_bad(n) && is_right(answer), "{}", answer.answer);
    }
    waited.sort_by(f64::total_cmp);
    let oftener = answers.iter().filter(|answer| answer.times > 1).count();
    println!(
        "from the request to its answer: half of them {:.0} s, the last {:.0} s; {oftener} answers were sent twice",
        waited[waited.len() / 2],
        waited[waited.len() - 1]
    );
    for n in 0..STACKS {
        let wanted = if is_bad(n) { "ROLLBACK_COMPLETE" } else { "CREATE_COMPLETE" };
        assert_eq!(story.settled(&format!("stack-{n}")).await.status, wanted);
    }
    let rows = story.rows(&pipeline.table("verdicts")).await;
    for row in rows.iter().filter(|row| row["version"].is_number()) {
        let n = number[row["digest"].as_str().expect("a digest")];
        assert!(row["verdict"].as_str().is_some_and(|verdict| verdict.starts_with(if is_bad(n) { "BLOCK" } else { "PASS" })), "{row:#}");
    }
    for lane in ["Push", "Scan", "Findings"] {
        assert!(story.take_messages(pipeline.dead_letters(lane)).await.is_empty(), "no dead letters in {lane}");
    }
    let calls = story.scans.all_calls();
    let mut by_operation: BTreeMap<&str, usize> = BTreeMap::new();
    calls.iter().for_each(|call| *by_operation.entry(&call.operation).or_default() += 1);
    println!("{} calls of the functions: {by_operation:?}", calls.len());
}

/// Events that one function is handed, ten at a time.
const EVENTS: usize = 100_000;
const WARM: usize = 10_000;
const BATCH: usize = 10;
const FLEET: usize = 50;

/// An operation and what was asked.
type Asked = (String, Bytes);
/// Status, type and body.
type Known = (u16, HeaderValue, Bytes);
type Batches = Box<dyn FnMut() -> Option<Value> + Send>;

/// Lambda's Runtime API and AWS for one process. What it reads the local AWS has answered once, and from then on the answer is known;
/// what it writes is taken and forgotten.
#[derive(Clone)]
struct Around {
    known: Arc<Mutex<HashMap<Asked, Known>>>,
    batches: Arc<Mutex<Batches>>,
    returned: Arc<Mutex<(usize, usize)>>,
    behind: String,
    http: Http,
    arn: String,
}

impl Around {
    async fn handle(self, arrived: Arrived) -> Reply {
        let path = arrived.path().to_owned();
        if path.ends_with("/invocation/next") {
            let next = (self.batches.lock().expect("no panic while locked"))();
            let Some(batch) = next else {
                // Lambda lets a function wait here.
                return std::future::pending().await;
            };
            let mut answer = wire::answer(200, &batch);
            for (name, value) in [
                ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
                ("lambda-runtime-deadline-ms", (Timestamp::now() + SignedDuration::from_secs(120)).as_millisecond().to_string()),
                ("lambda-runtime-invoked-function-arn", self.arn.clone()),
            ] {
                answer.headers_mut().insert(name, HeaderValue::from_str(&value).expect("a header"));
            }
            return Reply::Answer(answer);
        }
        if path.starts_with("/2018-06-01/runtime/") {
            let mut returned = self.returned.lock().expect("no panic while locked");
            let is_good = path.ends_with("/response") && arrived.json()["batchItemFailures"] == json!([]);
            if is_good {
                returned.0 += 1
            } else {
                returned.1 += 1
            }
            return Reply::Answer(wire::answer(202, &json!({})));
        }
        let said = |body: &'static str| Reply::Answer(Response::new(Full::new(Bytes::from(body))));
        match arrived.operation.as_str() {
            "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems" | "ChangeMessageVisibility" => return Reply::Answer(wire::answer(200, &json!({}))),
            "SendMessage" => return Reply::Answer(wire::answer(200, &json!({ "MessageId": "taken" }))),
            "PutEvents" => return Reply::Answer(wire::answer(200, &json!({ "FailedEntryCount": 0, "Entries": [{ "EventId": "taken" }] }))),
            "Publish" => return said("<PublishResponse><PublishResult><MessageId>taken</MessageId></PublishResult></PublishResponse>"),
            _ => {}
        }
        let key = (arrived.operation.clone(), arrived.body.clone());
        let known = self.known.lock().expect("no panic while locked").get(&key).cloned();
        let (status, kind, body) = match known {
            Some(known) => known,
            None => {
                let Reply::Answer(answered) = self.http.pass_on(&arrived, &self.behind).await else { return Reply::Cut };
                let (head, body) = answered.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let kind = head.headers.get(CONTENT_TYPE).cloned().unwrap_or_else(|| HeaderValue::from_static("application/x-amz-json-1.0"));
                let answer = (head.status.as_u16(), kind, body);
                self.known.lock().expect("no panic while locked").insert(key, answer.clone());
                answer
            }
        };
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        Reply::Answer(answer)
    }
}

/// A process that ends with its test.
struct Running(Child);

impl Running {
    fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "minutes: make load"]
async fn on_scan_holds_no_more_after_a_hundred_thousand_events_than_after_ten_thousand() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let mut images = Vec::new();
    for n in 0..FLEET {
        let image = story.put("fleet", Some(&format!("v{n}")), &Manifest::image(&format!("memory {n}"))).await;
        let findings = Findings::of((0..20).map(|f| finding(format!("CVE-2024-{f:04}"), if n % 2 == 0 { "HIGH" } else { "LOW" })));
        story.scans.say(&image.scanned, [Scan::Complete(findings.clone())]);
        story.tell(&Event::scanned(&image, &findings)).await;
        images.push(image);
    }
    for image in &images {
        story.verdict(&pipeline, image, "").await;
    }
    let function = pipeline.function("on-scan");
    let url = format!("{}/2015-03-31/functions/{function}", story.direct_origin());
    let read = story.http.send(&Method::GET, &url, &wire::signed_as(&story.account, "lambda"), Bytes::new()).await.expect("the local AWS answers");
    let configuration = read.json()["Configuration"].clone();

    // News of what was read before, ends of scans that have to be read anew, our own messages, and what is none of its business.
    let account = story.account.clone();
    let queue = format!("arn:aws:sqs:{REGION}:{account}:{}", pipeline.queue("Scan").rsplit('/').next().expect("a name"));
    let mut n = 0;
    let batches = move || {
        (n < EVENTS).then(|| {
            let records: Vec<Value> = (n..n + BATCH)
                .map(|n| {
                    let image = &images[n * 7 % FLEET];
                    let event = Event::scanned(image, &Findings::none());
                    let body = match n % 10 {
                        0 => json!({ "v": 1, "kind": "look-again", "digest": image.digest(), "repository": image.scanned.repository_arn(), "n": 9 }),
                        1 => event.delivered("210987654321", &n.to_string()),
                        2 => event.at(Timestamp::now() + SignedDuration::from_secs(300)).delivered(&account, &n.to_string()),
                        _ => event.at(Timestamp::now() - SignedDuration::from_hours(1)).delivered(&account, &n.to_string()),
                    };
                    json!({
                        "messageId": n.to_string(), "receiptHandle": n.to_string(), "body": body.to_string(), "eventSource": "aws:sqs",
                        "eventSourceARN": queue, "attributes": { "ApproximateReceiveCount": "1" },
                    })
                })
                .collect();
            n += BATCH;
            json!({ "Records": records })
        })
    };
    let around = Around {
        known: Arc::default(),
        batches: Arc::new(Mutex::new(Box::new(batches))),
        returned: Arc::default(),
        behind: story.scans.origin().to_owned(),
        http: Http::new(),
        arn: configuration["FunctionArn"].as_str().expect("an ARN").to_owned(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let serving = around.clone();
    tokio::spawn(wire::serve(listener, move |arrived| serving.clone().handle(arrived)));

    let mut command = Command::new(profile().join("on-scan"));
    command.env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in configuration["Environment"]["Variables"].as_object().expect("an environment") {
        command.env(name, value.as_str().unwrap_or_default());
    }
    command.env("AWS_LAMBDA_RUNTIME_API", &address).env("AWS_ENDPOINT_URL", format!("http://{address}"));
    command.env("AWS_ACCESS_KEY_ID", &story.account).env("AWS_SECRET_ACCESS_KEY", "x").env("AWS_REGION", REGION);
    command.env("AWS_LAMBDA_FUNCTION_NAME", &function).env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512").env("AWS_LAMBDA_FUNCTION_VERSION", "1");
    command.env("AWS_LAMBDA_LOG_STREAM_NAME", "x").env("AWS_LAMBDA_LOG_GROUP_NAME", "x");
    let running = Running(command.spawn().expect("on-scan runs"));
    let began = Instant::now();
    let mut sizes: Vec<(usize, u64)> = Vec::new();
    let mut next = WARM;
    loop {
        let (good, bad) = *around.returned.lock().expect("no panic while locked");
        assert_eq!(bad, 0, "a batch has failed");
        while good * BATCH >= next {
            sizes.push((next, running.resident_kb()));
            println!("after {next} events: {} KB, {:.0} s", sizes[sizes.len() - 1].1, began.elapsed().as_secs_f64());
            next += WARM;
        }
        if good * BATCH >= EVENTS {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(3600), "{} events in an hour", good * BATCH);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (first, last) = (sizes[0].1, sizes[sizes.len() - 1].1);
    println!("{EVENTS} events in {:.0} s; {first} KB after {WARM}, {last} KB at the end", began.elapsed().as_secs_f64());
    assert!(last * 10 <= first * 11, "it grows: {sizes:?}");
}
