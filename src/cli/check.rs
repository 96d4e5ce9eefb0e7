//! `ecr-scan-verifier check`: may this image be deployed? Asked of the gate's own function, so that it is judged by the same code,
//! with the same rights, as a deployment would be. Nothing is deployed and nothing recorded.
//!
//! Needs `lambda:InvokeFunction` on the pipeline's on-deploy, and nothing else. Exit 0: it may be deployed; 2: it may not; 3: no
//! verdict yet, also when the time of `--wait` is up; 1: a usage error, or could not look.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::named::Named;
use super::{Format, Outcome};
use crate::aws::functions::{Answered, Functions};
use crate::domain::check::{Checked, Verdict};
use crate::domain::image::ImageRef;
use crate::domain::policy::Policy;
use crate::events::arn::partition_of;

const MAY_NOT_BE_DEPLOYED: u8 = 2;
const NO_VERDICT: u8 = 3;
/// After how long to ask again, time after time; from then on every [`EVERY_S`].
const ASKS_AGAIN_S: [u64; 3] = [2, 5, 10];
const EVERY_S: u64 = 15;

/// What a person asks for besides the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub policy: Policy,
    pub enhanced: bool,
    pub platforms: Vec<String>,
    /// As a template has it.
    pub signatures: Option<Value>,
    /// No scan counts.
    pub signature_only: bool,
}

/// `signatureVerification` as a template has it, from a file.
pub fn signatures(file: &str) -> Result<Value, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(format!("{file} is no object: expected what a template has as `signatureVerification`")),
        Err(error) => Err(format!("{file}: {error}")),
    }
}

/// The question, in the form that the function reads: the properties of a gate.
pub fn question(image: &str, wanted: &Wanted) -> Result<Value, String> {
    let named = Named::parse(image)?;
    let Some(repository) = named.repository else {
        return Err(format!("`{image}` names no repository, and what is true of an image is true in one: give REPOSITORY@sha256:..."));
    };
    let mut asked = Map::new();
    let mut set = |name: &str, value: Value| asked.insert(name.to_owned(), value);
    // A registry that is named has to be the gate's own. It refuses another one, where its own image of that name would pass.
    if let Some((account, region)) = registry(image) {
        set("repositoryArn", format!("arn:{}:ecr:{region}:{account}:repository/{repository}", partition_of(region)).into());
    }
    set("repositoryName", repository.into());
    set(
        "imageTag",
        match named.image {
            ImageRef::Tag(tag) => tag,
            ImageRef::Digest(digest) => digest.to_string(),
        }
        .into(),
    );
    if wanted.enhanced {
        set("scanType", "ENHANCED".into());
    }
    if wanted.signature_only {
        set("scanType", "SIGNATURE_ONLY".into());
    }
    if let Some(signatures) = &wanted.signatures {
        set("signatureVerification", signatures.clone());
    }
    if !wanted.platforms.is_empty() {
        set("platforms", wanted.platforms.clone().into());
    }
    // The names in a policy's text are those of a gate's properties.
    let policy = wanted.policy.canonical();
    let members: Map<String, Value> = policy.strip_prefix("v1:").and_then(|text| serde_json::from_str(text).ok()).expect("a policy's text is JSON");
    asked.extend(members);
    Ok(json!({ "check": asked }))
}

/// Account and region of `ACCOUNT.dkr.ecr.REGION.amazonaws.com/...`.
pub(super) fn registry(image: &str) -> Option<(&str, &str)> {
    let (host, _) = image.split_once('/')?;
    let (account, rest) = host.split_once(".dkr.ecr")?;
    // A registry of FIPS is the same registry.
    let region = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?.split('.').next()?;
    Some((account, region))
}

/// `90s`, `10m` or `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no duration: give seconds, minutes or hours, such as 90s, 10m or 1h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(bad()),
    };
    let number: u64 = if number.bytes().all(|b| b.is_ascii_digit()) { number.parse().map_err(|_| bad())? } else { return Err(bad()) };
    number.checked_mul(seconds).filter(|seconds| *seconds <= 24 * 3600).map(Duration::from_secs).ok_or_else(|| format!("`{text}` is longer than a day"))
}

/// Asks until there is a verdict or the time is up. `tell` hears of each change meanwhile.
pub async fn check(functions: &Functions, pipeline: &str, question: &Value, wait: Duration, format: Format, tell: impl Fn(&str)) -> Outcome {
    let function = format!("ecr-scan-verifier-{pipeline}-on-deploy");
    let until = Instant::now() + wait;
    let mut told = String::new();
    for n in 0.. {
        let (state, ask_again, outcome) = match functions.ask(&function, question).await {
            Err(why) => return Outcome::failed(format!("check: {}\n", why.text)),
            Ok(Answered::Failed { text, may_pass: false }) => return Outcome::failed(format!("check: {function} could not look: {text}\n")),
            Ok(Answered::Failed { text, may_pass: true }) => (text.clone(), 0, Outcome::failed(format!("check: {function} could not look: {text}\n"))),
            Ok(Answered::With(answer)) => match Checked::deserialize_from(&answer) {
                Err(why) => return Outcome::failed(format!("check: {function} answered something else than a verdict ({why}). Is it of this version?\n")),
                Ok(checked) if checked.verdict != Verdict::Pending => return said(&checked, &answer, format),
                Ok(checked) => (second_line(&checked.message), u64::from(checked.retry_after_seconds.unwrap_or(0)), said(&checked, &answer, format)),
            },
        };
        let pause = Duration::from_secs(ASKS_AGAIN_S.get(n).copied().unwrap_or(EVERY_S).max(ask_again));
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return outcome;
        }
        if state != told {
            tell(&state);
            told = state;
        }
        // Once more at the very end: a scan that has just ended is not missed for a few seconds.
        tokio::time::sleep(pause.min(left)).await;
    }
    unreachable!("the loop ends with an answer")
}

/// What it hangs on: the first line only says that it is not judged.
fn second_line(message: &str) -> String {
    message.lines().nth(1).unwrap_or(message).to_owned()
}

fn said(checked: &Checked, answer: &Value, format: Format) -> Outcome {
    let exit = match (checked.may_deploy, checked.verdict) {
        (true, _) => 0,
        (false, Verdict::Pending) => NO_VERDICT,
        (false, _) => MAY_NOT_BE_DEPLOYED,
    };
    Outcome::said(if format == Format::Json { as_json(answer) } else { in_words(checked) }, exit)
}

fn as_json(answer: &Value) -> String {
    serde_json::to_string_pretty(answer).expect("what was read as JSON is JSON") + "\n"
}

fn in_words(checked: &Checked) -> String {
    let may = if checked.may_deploy { "may be deployed" } else { "may not be deployed" };
    let mut lines = vec![format!("{} ({may})", checked.verdict.word())];
    for image in &checked.images {
        lines.push(format!("  {:<9} {} {}", image.verdict.word(), image.digest, image.platform));
    }
    lines.push(checked.message.clone());
    lines.join("\n") + "\n"
}

impl Checked {
    /// An answer of a later version has members that we do not know; a verdict that we do not know is none.
    fn deserialize_from(answer: &Value) -> Result<Self, serde_json::Error> {
        serde::Deserialize::deserialize(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_holds_what_a_gate_would() {
        let wanted = |policy: &str| Wanted { policy: Policy::parse(policy).unwrap(), ..Wanted::default() };
        let digest = format!("sha256:{}", "5c".repeat(32));
        let named = json!({ "repositoryName": "team/app", "imageTag": "1.4.2" });
        let with = |more: Value| {
            let mut all = named.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        for (image, wanted, expected) in [
            ("team/app:1.4.2".to_owned(), Wanted::default(), named.clone()),
            (format!("team/app:1.4.2@{digest}"), Wanted::default(), with(json!({ "imageTag": digest }))),
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1.4.2".to_owned(),
                Wanted::default(),
                with(json!({ "repositoryArn": "arn:aws:ecr:eu-west-1:123456789012:repository/team/app" })),
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com/team/app:1.4.2".to_owned(),
                Wanted::default(),
                with(json!({ "repositoryArn": "arn:aws-us-gov:ecr:us-gov-west-1:123456789012:repository/team/app" })),
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/team/app:1.4.2".to_owned(),
                Wanted::default(),
                with(json!({ "repositoryArn": "arn:aws-cn:ecr:cn-north-1:123456789012:repository/team/app" })),
            ),
            ("team/app:1.4.2".to_owned(), wanted(r#"{"severity":["HIGH","CRITICAL"]}"#), with(json!({ "severity": ["CRITICAL", "HIGH"] }))),
            (
                "team/app:1.4.2".to_owned(),
                wanted(r#"{"severityThreshold":"LOW","ignoreFindings":["CVE-1"],"exploit":{"epss":0.1},"maxFindings":{"LOW":3}}"#),
                with(json!({ "severityThreshold": "LOW", "ignoreFindings": ["CVE-1"], "exploit": { "epss": "0.1" }, "maxFindings": { "LOW": 3 } })),
            ),
            (
                "team/app:1.4.2".to_owned(),
                Wanted { enhanced: true, platforms: vec!["linux/arm64".into()], ..Wanted::default() },
                with(json!({ "scanType": "ENHANCED", "platforms": ["linux/arm64"] })),
            ),
        ] {
            let asked = question(&image, &wanted).unwrap();
            assert_eq!(asked, json!({ "check": expected }), "{image}");
            // And it is read as what it was meant to be.
            let crate::events::Event::CheckRequested(check) = crate::events::read(&asked).unwrap() else { panic!("{asked}") };
            assert_eq!(check.gate().unwrap().policy, wanted.policy, "{image}");
        }
        for (image, says) in [(digest.as_str(), "names no repository"), ("team/app", "neither tag nor digest"), ("", "neither tag nor digest")] {
            assert!(question(image, &Wanted::default()).unwrap_err().contains(says), "{image}");
        }
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h", 3600), ("0s", 0), ("24h", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "10", "10 m", "-1s", "+1s", "1.5h", "1d", "25h", "99999999999999999999s", "10µ"] {
            let error = duration(text);
            assert!(error.is_err(), "{text}: {error:?}");
        }
    }

    #[test]
    fn whether_it_may_be_deployed_decides_the_exit_code() {
        let mut answer = json!({
            "schemaVersion": 1, "verdict": "BLOCK", "mayDeploy": false, "image": { "repository": "app", "digest": null, "uri": null },
            "scannedAt": null, "policyHash": null, "counts": {}, "blocking": [], "blockingTotal": 0, "images": [], "message": "app: ...", "later": "x"
        });
        for (verdict, may_deploy, exit) in [
            ("PASS", true, 0),
            ("BLOCK", true, 0),
            ("UNSCANNED", true, 0),
            ("BLOCK", false, 2),
            ("UNSCANNED", false, 2),
            ("REFUSED", false, 2),
            ("PENDING", false, 3),
        ] {
            answer["verdict"] = verdict.into();
            answer["mayDeploy"] = may_deploy.into();
            let outcome = said(&Checked::deserialize_from(&answer).unwrap(), &answer, Format::Text);
            assert_eq!((outcome.exit, outcome.stdout.starts_with(verdict)), (exit, true), "{verdict}");
        }
        answer["verdict"] = "SOMETHING_NEW".into();
        assert!(Checked::deserialize_from(&answer).is_err(), "a verdict that nobody knows is none");
        assert!(Checked::deserialize_from(&Value::Null).is_err());
    }
}
