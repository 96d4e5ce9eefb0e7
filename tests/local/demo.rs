//! `make demo`: the product at work on the local AWS, told as it happens. It ends well only if everything went as told.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local::events::Event;
use local::images::{Image, Manifest};
use local::pipeline::{Gate, PIPELINE, Pipeline};
use local::scans::{Finding, Findings, Scan, finding};
use local::story::Story;
use local::wire::REGION;
use local::{LocalAws, profile, project, target};
use serde_json::json;

#[allow(dead_code)] // stories and demo share it, and neither uses all of it
#[path = "mod.rs"]
mod local;

// What the proof of the verification makes, and how it is put into a registry.
#[allow(dead_code)]
#[path = "../signatures/making.rs"]
mod making;
#[allow(dead_code)]
#[path = "../signatures/pki.rs"]
mod pki;
#[allow(dead_code)]
#[path = "../stories/signing.rs"]
mod signing;

const ACCOUNT: &str = "123456789012";
const REPOSITORY: &str = "payments-api";
const WIDTH: usize = 80;
/// Where a sentence begins, after time and actor.
const MARGIN: usize = 24;

/// Something did not go as told.
struct Surprise(String);

impl<E: std::fmt::Display> From<E> for Surprise {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

fn main() -> ExitCode {
    // A panic of the harness is a surprise like any other: told once, below, without a backtrace.
    std::panic::set_hook(Box::new(|_| {}));
    let teller = Teller::new();
    let aws = LocalAws::without_iam();
    let mut logs = vec![aws.log(), cdk_log()];
    let told = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let story = Story::in_account(aws, ACCOUNT).await;
            let told = tell(&teller, &story, aws).await;
            if told.is_err() {
                logs.push(story.keep_logs());
            }
            told
        })
    }));
    let told = told.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Surprise(text.unwrap_or_default()))
    });
    if told.is_ok() && std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty()) {
        keep(aws);
    }
    aws.stop();
    match told {
        Ok(()) => {
            teller.end();
            ExitCode::SUCCESS
        }
        Err(Surprise(what)) => {
            println!("\nThis did not go as told:\n");
            quote(&what);
            println!("\nLogs:");
            for log in logs {
                println!("  {}", short(&log));
            }
            ExitCode::FAILURE
        }
    }
}

async fn tell(say: &Teller, story: &Story, aws: &LocalAws) -> Result<(), Surprise> {
    say.line("local AWS", &format!("is up on 127.0.0.1, account {ACCOUNT}, {REGION}"));

    cdk(aws, &["bootstrap", &format!("aws://{ACCOUNT}/{REGION}")])?;
    say.line("cdk", "bootstrap: the account is ready for CDK apps");
    cdk(aws, &["deploy", "ecr-scan-verifier", "--require-approval", "never"])?;
    let stack = story.settled("ecr-scan-verifier").await;
    expect(stack.status == "CREATE_COMPLETE", || format!("the pipeline's stack is {}", stack.status))?;
    let pipeline = Pipeline { stack };
    say.line("cdk", &format!("deployed the pipeline `{PIPELINE}`, the functions as built"));
    println!();

    let mailbox = story.listen_to_topic(&pipeline.stack.outputs["AlertTopicArn"]).await;
    say.line("an operator", "subscribed to the pipeline's alerts");
    println!();

    story.repository(REPOSITORY).await;
    story.scans.frequency(REPOSITORY, "MANUAL");
    let good = push(say, story, "1.4.1").await?;
    let findings = vec![
        finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0"),
        finding("CVE-2023-4911", "HIGH").package("glibc", "2.36"),
        finding("CVE-2022-0563", "LOW").package("util-linux", "2.38.1"),
    ];
    let bad = push(say, story, "1.4.2").await?;
    scan_ends(say, story, &pipeline, &good, Vec::new(), "PASS").await?;
    scan_ends(say, story, &pipeline, &bad, findings, "BLOCK").await?;
    println!();

    let stack = deploy(say, story, "payments-good", &good).await?;
    expect(stack == "CREATE_COMPLETE", || format!("the stack payments-good is {stack}"))?;
    expect(story.released("payments-good").await, || "the resource behind the gate was not made".to_owned())?;
    say.line("CloudFormation", "made what waited for the gate: CREATE_COMPLETE");
    println!();

    let stack = deploy(say, story, "payments-bad", &bad).await?;
    let reason = story.refusal("payments-bad").await.ok_or_else(|| Surprise("the gate of payments-bad did not refuse".to_owned()))?;
    say.line("CloudFormation", "shows its user this, word for word:");
    println!();
    quote(&reason);
    println!();
    for wanted in ["CVE-2024-3094", "CVE-2023-4911", bad.digest()] {
        expect(reason.contains(wanted), || format!("the message does not name {wanted}"))?;
    }
    expect(stack == "ROLLBACK_COMPLETE", || format!("the stack payments-bad is {stack}"))?;
    expect(!story.released("payments-bad").await, || "the resource behind the gate was made".to_owned())?;
    say.line("CloudFormation", "rolled back; what waits for the gate was never made");
    mail(say, story, &mailbox, "deployment-blocked").await?;
    println!();

    who_waits(say, story, &pipeline, aws).await?;
    who_signs(say, story, &pipeline).await?;

    let image = format!("{REPOSITORY}:{}", bad.tag());
    say.line("a developer", &format!("asks: ecr-scan-verifier explain {image}"));
    println!();
    let explained = cli(aws, &["explain", &image, "--pipeline", PIPELINE])?;
    quote(&explained);
    expect(explained.contains(bad.digest()) && explained.contains("CVE-2024-3094"), || "`explain` does not say why".to_owned())?;
    println!();
    a_day_in_the_life(say, story, &pipeline, aws, &good, &mailbox).await?;
    save_answer(story, &bad).await
}

/// What happens to an image that was deployed clean: a new vulnerability, its end, and news that is lost.
async fn a_day_in_the_life(say: &Teller, story: &Story, pipeline: &Pipeline, aws: &LocalAws, image: &Image, mailbox: &str) -> Result<(), Surprise> {
    let xz = || Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0")]);
    let scanned_again = async |found: &Findings, what: &str, verdict: &str| {
        story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
        // Events may come twice.
        story.tell_all(&[Event::scanned(image, found), Event::scanned(image, found)]).await;
        say.line("ECR", &format!("scanned {} again: {what}", image.tag()));
        story.verdict(pipeline, image, verdict).await;
        say.line("on-scan", &format!("remembered {verdict}"));
    };
    say.line("a day later", &format!("payments-good runs {REPOSITORY}:{}, which was clean", image.tag()));
    scanned_again(&xz(), "CVE-2024-3094 is known by now", "BLOCK").await;
    let alert = mail(say, story, mailbox, "blocked-now").await?;
    println!();
    quote(&alert);
    println!();
    say.line("an operator", "asks: ecr-scan-verifier who-has CVE-2024-3094");
    println!();
    let having = cli(aws, &["who-has", "CVE-2024-3094", "--pipeline", PIPELINE])?;
    quote(&having);
    println!();
    expect(having.contains("payments-good") && having.contains(image.digest()), || "`who-has` does not name the stack".to_owned())?;
    scanned_again(&Findings::none(), "the finding was withdrawn", "PASS").await;
    mail(say, story, mailbox, "cleared").await?;
    println!();

    story.scans.say(&image.scanned, [Scan::Complete(xz())]);
    say.line("ECR", &format!("scanned {} once more: CVE-2024-3094 is back, and its event is lost", image.tag()));
    let sweep = async |kind: &str| {
        let swept = story.invoke(&pipeline.function("on-sweep"), &json!({ "v": 1, "kind": kind })).await;
        swept.map_err(|error| Surprise(format!("on-sweep failed: {error}")))
    };
    sweep("daily").await?;
    sweep("sweep").await?;
    say.line("on-sweep", "at night: walked through what is deployed, and had each image looked at");
    story.verdict(pipeline, image, "BLOCK").await;
    mail(say, story, mailbox, "blocked-now").await?;
    println!();
    say.line("an auditor", "asks: ecr-scan-verifier history payments-good");
    println!();
    let history = cli(aws, &["history", "payments-good", "--pipeline", PIPELINE])?;
    quote(&history);
    println!();
    expect(history.contains("PASS") && history.contains(image.digest()), || "`history` does not show the decision".to_owned())
}

/// The one alert that has come since somebody looked, and its text.
async fn mail(say: &Teller, story: &Story, mailbox: &str, kind: &str) -> Result<String, Surprise> {
    let messages = story.messages(mailbox, 1).await;
    let alert: serde_json::Value = serde_json::from_str(messages.first().map_or("", String::as_str))?;
    let text = |name: &str| alert[name].as_str().unwrap_or_default().to_owned();
    let said = alert["MessageAttributes"]["kind"]["Value"].as_str().unwrap_or_default();
    expect(said == kind && messages.len() == 1, || format!("expected one alert `{kind}`, and there are {}: {said}", messages.len()))?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let more = story.take_messages(mailbox).await;
    expect(more.is_empty(), || format!("one alert too many: {more:?}"))?;
    say.line("mail", &text("Subject"));
    Ok(text("Message"))
}

/// Deploy first, scan later; and a scan whose event is lost.
async fn who_waits(say: &Teller, story: &Story, pipeline: &Pipeline, aws: &LocalAws) -> Result<(), Surprise> {
    for (tag, stack, event) in [("1.4.3", "payments-waits", true), ("1.4.4", "payments-lost", false)] {
        let image = push(say, story, tag).await?;
        say.line("CloudFormation", &format!("deploys {REPOSITORY}:{tag} in the stack {stack}, before its scan has ended"));
        let known = story.scans.answers().len();
        story.begin(stack, &Gate::on(&image)).await;
        let open = |row: &serde_json::Value| row["state"] == "open" && row["digest"] == image.digest();
        story.row(&pipeline.table("requests"), open).await;
        say.line("the gate", "parked the request and went away: nothing runs while it waits");
        if event {
            say.line("an operator", "asks: ecr-scan-verifier waiters");
            println!();
            let waiters = cli(aws, &["waiters", "--pipeline", PIPELINE])?;
            quote(&waiters);
            println!();
            expect(waiters.contains(image.digest()) && !waiters.contains("http"), || "`waiters` does not show who waits".to_owned())?;
        }
        story.only_timers_look(pipeline, &image).await;
        let found = Findings::none();
        let began = Instant::now();
        story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
        if event {
            story.tell(&Event::scanned(&image, &found)).await;
            say.line("ECR", &format!("scanned {tag}: no findings"));
        } else {
            say.line("ECR", &format!("scanned {tag}: no findings, and its event is lost"));
        }
        let answered = || async { story.scans.answers().get(known).map(|_| ()) };
        story.until(Duration::from_secs(60), answered).await.ok_or_else(|| Surprise(format!("nobody answered {stack}")))?;
        let by = if event { "on-scan" } else { "a timer" };
        say.line(by, &format!("released it, {} ms after the scan had ended", began.elapsed().as_millis()));
        let status = story.settled(stack).await.status;
        expect(status == "CREATE_COMPLETE", || format!("the stack {stack} is {status}"))?;
        say.line("CloudFormation", "made what waited for the gate: CREATE_COMPLETE");
        println!();
    }
    Ok(())
}

/// A gate that asks for a signature, and a build that signs after its push.
async fn who_signs(say: &Teller, story: &Story, pipeline: &Pipeline) -> Result<(), Surprise> {
    let kms = story.kms();
    let key = kms.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::SignVerify).send().await?;
    let key = key.key_metadata.and_then(|key| key.arn).ok_or("KMS gives the key no ARN")?;
    let image = push(say, story, "1.4.5").await?;
    scan_ends(say, story, pipeline, &image, Vec::new(), "PASS").await?;
    say.line("CloudFormation", &format!("deploys {REPOSITORY}:{} in the stack payments-signed: a key in KMS has to have signed it", image.tag()));
    let known = story.scans.answers().len();
    story.begin("payments-signed", &Gate::on(&image).with("SigningKeyArn", &key)).await;
    story.row(&pipeline.table("requests"), |row| row["state"] == "open" && row["digest"] == image.digest()).await;
    say.line("the gate", "parked the request: what was pushed a moment ago may still be signed");

    let payload = signing::payload(&image);
    let sign = kms.sign().key_id(&key).message_type(MessageType::Raw).signing_algorithm(SigningAlgorithmSpec::EcdsaSha256);
    let signature = sign.message(payload.clone().into_bytes().into()).send().await?.signature.ok_or("KMS does not sign")?;
    let (_, pushed) = signing::put_classic(story, &image, &payload, &STANDARD.encode(signature.as_ref())).await;
    let began = Instant::now();
    story.tell(&Event::pushed(&pushed)).await;
    say.line("the build", "signed it with Cosign's format, and the signature was pushed");
    let answered = || async { story.scans.answers().get(known).map(|_| ()) };
    story.until(Duration::from_secs(60), answered).await.ok_or_else(|| Surprise("nobody answered payments-signed".to_owned()))?;
    say.line("on-scan", &format!("verified it and released it, {} ms after that", began.elapsed().as_millis()));
    let status = story.settled("payments-signed").await.status;
    expect(status == "CREATE_COMPLETE", || format!("the stack payments-signed is {status}"))?;
    println!();
    Ok(())
}

/// A push by a developer, and what on-push makes of it: nobody else scans this repository, so it asks ECR to.
async fn push(say: &Teller, story: &Story, tag: &str) -> Result<Image, Surprise> {
    let image = story.put(REPOSITORY, Some(tag), &Manifest::image(&format!("{REPOSITORY} {tag}"))).await;
    story.scans.say_after_start(&image.scanned, [Scan::InProgress]);
    story.tell(&Event::pushed(&image)).await;
    say.line("docker push", &format!("{REPOSITORY}:{tag} is {}...", &image.digest()[..19]));
    let asked = || async { story.scans.calls("StartImageScan").into_iter().find(|call| String::from_utf8_lossy(&call.body).contains(image.digest())) };
    story.until(Duration::from_secs(20), asked).await.ok_or_else(|| Surprise("on-push did not ask for a scan".to_owned()))?;
    say.line("on-push", &format!("asked ECR to scan {tag}, because nobody else does"));
    Ok(image)
}

/// ECR finishes a scan and says so; on-scan reads, judges, remembers.
async fn scan_ends(say: &Teller, story: &Story, pipeline: &Pipeline, image: &Image, findings: Vec<Finding>, verdict: &str) -> Result<(), Surprise> {
    let how_many = if findings.is_empty() { "no findings".to_owned() } else { format!("{} findings", findings.len()) };
    let found = Findings::of(findings);
    story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
    let began = Instant::now();
    story.tell(&Event::scanned(image, &found)).await;
    say.line("ECR", &format!("scanned {}: {how_many}", image.tag()));
    story.verdict(pipeline, image, verdict).await;
    say.line("on-scan", &format!("remembered {verdict} by digest, {} ms after the event", began.elapsed().as_millis()));
    Ok(())
}

async fn deploy(say: &Teller, story: &Story, stack: &str, image: &Image) -> Result<String, Surprise> {
    say.line("CloudFormation", &format!("deploys {REPOSITORY}:{} in the stack {stack}", image.tag()));
    let known = story.scans.answers().len();
    story.begin(stack, &Gate::on(image)).await;
    let status = story.settled(stack).await.status;
    let answers = story.scans.answers();
    let answer = answers.get(known).ok_or_else(|| Surprise(format!("the gate of {stack} did not answer; the stack is {status}")))?;
    let word = if answer.is_success() { "allowed" } else { "blocked" };
    // The function has not run before the first stack asks it; and the local AWS looks for its answers every 50 ms.
    let first = if known == 0 { ", its first start included" } else { "" };
    say.line("the gate", &format!("{word} in {} ms{first}", answer.took.as_millis()));
    Ok(status)
}

fn expect(as_told: bool, otherwise: impl FnOnce() -> String) -> Result<(), Surprise> {
    if as_told { Ok(()) } else { Err(Surprise(otherwise())) }
}

fn environment(command: &mut Command, origin: &str) {
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"] {
        command.env_remove(name);
    }
    command.env("AWS_ACCESS_KEY_ID", ACCOUNT).env("AWS_SECRET_ACCESS_KEY", "x").env("AWS_REGION", REGION).env("AWS_DEFAULT_REGION", REGION);
    command.env("AWS_ENDPOINT_URL", origin).env("AWS_EC2_METADATA_DISABLED", "true").env("CDK_DISABLE_CLI_TELEMETRY", "1").stdin(Stdio::null());
}

fn cdk_log() -> PathBuf {
    target().join("logs/demo-cdk.log")
}

/// The pinned CDK CLI, on the app that `make demo` has synthesized.
fn cdk(aws: &LocalAws, arguments: &[&str]) -> Result<(), Surprise> {
    std::fs::create_dir_all(target().join("logs"))?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(cdk_log())?;
    let mut command = Command::new(project().join("infra/node_modules/.bin/cdk"));
    command.args(arguments).args(["--ci", "--no-notices", "--app"]).arg(target().join("demo/cdk.out"));
    environment(&mut command, &aws.direct);
    command.current_dir(target().join("demo")).stdout(log.try_clone()?).stderr(log);
    let status = command.status()?;
    expect(status.success(), || format!("cdk {}: {status}\n{}", arguments.join(" "), local::tail(&cdk_log(), 20)))
}

/// Beside this program's folder, wherever Cargo put both.
fn cli_path() -> PathBuf {
    profile().join("ecr-scan-verifier")
}

fn cli(aws: &LocalAws, arguments: &[&str]) -> Result<String, Surprise> {
    let mut command = Command::new(cli_path());
    command.args(arguments);
    environment(&mut command, aws.plane.origin());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    expect(output.status.success(), || {
        format!("ecr-scan-verifier {}: {}\n{text}{}", arguments.join(" "), output.status, String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(text)
}

/// What `aws ecr describe-image-scan-findings` would have said, for whoever wants to judge it again.
async fn save_answer(story: &Story, image: &Image) -> Result<(), Surprise> {
    let request = json!({ "repositoryName": REPOSITORY, "imageId": { "imageDigest": image.digest() }, "maxResults": 1000 });
    let target_name = "AmazonEC2ContainerRegistry_V20150921.DescribeImageScanFindings";
    let answer = story.http.aws_json(story.scans.origin(), ACCOUNT, "ecr", target_name, &request).await?;
    std::fs::write(saved(), format!("{answer:#}\n"))?;
    Ok(())
}

fn saved() -> PathBuf {
    target().join("demo/payments-api-1.4.2.json")
}

fn keep(aws: &LocalAws) {
    println!("\nThe local AWS stays until Ctrl-C. In another shell:\n");
    for (name, value) in [("AWS_ENDPOINT_URL", aws.plane.origin()), ("AWS_ACCESS_KEY_ID", ACCOUNT), ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_REGION", REGION)] {
        println!("  export {name}={value}");
    }
    println!("  {} explain {REPOSITORY}:1.4.1 --pipeline {PIPELINE}", short(&cli_path()));
    loop {
        std::thread::park();
    }
}

struct Teller {
    began: Instant,
    colour: bool,
}

impl Teller {
    fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        Self { began: Instant::now(), colour }
    }

    /// Elapsed time, actor, sentence; at most 80 columns.
    fn line(&self, actor: &str, sentence: &str) {
        let (on, off) = if self.colour { ("\x1b[36m", "\x1b[0m") } else { ("", "") };
        let time = format!("{:5.1} s", self.began.elapsed().as_secs_f64());
        let mut lines = wrapped(sentence, WIDTH - MARGIN).into_iter();
        println!("{time}  {on}{actor:<15}{off}{}", lines.next().unwrap_or_default());
        for line in lines {
            println!("{:MARGIN$}{line}", "");
        }
    }

    fn end(&self) {
        println!("\nAll went as told, in {:.0} s, and nothing is left running. (Of each answer up to", self.began.elapsed().as_secs_f64());
        println!("50 ms are the local AWS's, which looks every 50 ms.) Try next:\n");
        let cli = short(&cli_path());
        println!("  {cli} judge \\\n      --severity-threshold HIGH {}", short(&saved()));
        println!("  KEEP=1 make demo      # the same, and the local AWS stays until Ctrl-C");
        println!("  make test             # everything that CI runs");
    }
}

/// A path as a person would type it.
fn short(path: &Path) -> String {
    path.strip_prefix(project()).unwrap_or(path).display().to_string()
}

/// Somebody else's words, line by line; what is longer than a line goes on further in.
fn quote(text: &str) {
    for line in text.trim_end().lines() {
        let indent = line.len() - line.trim_start().len();
        for (n, part) in wrapped(line.trim_start(), WIDTH - 10 - indent.min(20)).into_iter().enumerate() {
            let further = if n == 0 { 0 } else { 4 };
            println!("{}", format!("    | {:indent$}{:further$}{part}", "", "").trim_end());
        }
    }
}

/// Breaks at blanks, and within a word only if it is longer than a line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last_mut().expect("there is one");
            let room = width.saturating_sub(line.chars().count() + usize::from(!line.is_empty()));
            if word.len() <= room {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.extend(word);
                break;
            }
            if line.is_empty() {
                line.extend(word.drain(..width));
            }
            lines.push(String::new());
        }
    }
    lines
}
