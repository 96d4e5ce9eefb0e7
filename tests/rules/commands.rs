//! The commands, as a person runs them: the binary itself, its output and its exit code.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn run(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-scan-verifier"));
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A usage error ends the command before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn judge(arguments: &[&str], input: &Value) -> (i32, Value) {
    let (exit, stdout, stderr) = run(&[&["judge", "--format", "json"], arguments, &["-"]].concat(), &input.to_string());
    (exit, serde_json::from_str(&stdout).unwrap_or(Value::String(stderr)))
}

fn basic(status: &str, findings: Value) -> Value {
    json!({
        "imageScanStatus": {"status": status},
        "imageScanFindings": {"findings": findings, "imageScanCompletedAt": "2026-03-14T09:26:53+01:00", "findingSeverityCounts": {}}
    })
}

fn high() -> Value {
    let attributes = json!([{"key": "package_name", "value": "openssl"}, {"key": "package_version", "value": "3.0.1"}]);
    json!([{"name": "CVE-2026-1", "severity": "HIGH", "attributes": attributes}, {"name": "CVE-2026-2"}])
}

fn inspectors(id: &str, severity: &str, status: &str) -> Value {
    json!({
        "findingArn": format!("arn:aws:inspector2:eu-west-1:123456789012:finding/{id}"),
        "severity": severity,
        "status": status,
        "packageVulnerabilityDetails": {
            "vulnerabilityId": id,
            "vulnerablePackages": [{"name": "xz-utils", "version": "5.6.0", "fixedInVersion": "5.6.1"}, {"name": "other", "version": "1", "fixedInVersion": "NotAvailable"}]
        },
        "resources": [{"type": "AWS_ECR_CONTAINER_IMAGE", "id": "x"}]
    })
}

#[test]
fn the_exit_code_is_the_verdict() {
    let mut page = basic("COMPLETE", json!([]));
    page["nextToken"] = json!("more");
    let mut cut = basic("COMPLETE", json!([]));
    cut["NextToken"] = json!("more, by --max-items");
    let mut counted = basic("COMPLETE", json!([]));
    counted["imageScanFindings"]["findingSeverityCounts"] = json!({"HIGH": 1});
    let mut unfinished = basic("COMPLETE", json!([]));
    unfinished["imageScanFindings"].as_object_mut().unwrap().remove("imageScanCompletedAt");
    let mut page_that_blocks = basic("COMPLETE", high());
    page_that_blocks["nextToken"] = json!("more");
    for (input, exit, verdict, state) in [
        (basic("COMPLETE", json!([])), 0, "PASS", "COMPLETE"),
        (basic("COMPLETE", high()), 2, "BLOCK", "COMPLETE"),
        (basic("ACTIVE", json!([])), 0, "PASS", "COMPLETE"),
        (basic("IN_PROGRESS", json!([])), 3, "PENDING", "RUNNING"),
        (basic("FAILED", json!([])), 3, "UNSCANNED", "FAILED"),
        (basic("UNSUPPORTED_IMAGE", json!([])), 3, "UNSCANNED", "UNSUPPORTED"),
        (basic("SOMETHING_NEW", json!([])), 3, "PENDING", "SOMETHING_NEW"),
        (json!({"imageScanStatus": {"status": "PENDING"}}), 3, "PENDING", "RUNNING"),
        (page, 3, "PENDING", "RUNNING"),
        (cut, 3, "PENDING", "RUNNING"),
        (counted, 3, "PENDING", "COUNTS_DISAGREE"),
        (unfinished, 3, "PENDING", "RUNNING"),
        (page_that_blocks, 2, "BLOCK", "RUNNING"), // incomplete facts can refuse
    ] {
        let (code, report) = judge(&["--severity-threshold", "HIGH"], &input);
        assert_eq!((code, report["verdict"].as_str(), report["scanState"].as_str()), (exit, Some(verdict), Some(state)), "{input}");
    }
}

#[test]
fn a_report_has_everything_and_leaves_nothing_out() {
    let findings = json!([
        inspectors("CVE-2024-3094", "CRITICAL", "ACTIVE"),
        inspectors("CVE-1", "HIGH", "SUPPRESSED"),
        inspectors("CVE-2", "HIGH", "CLOSED"),
        inspectors("CVE-3", "HIGH", "ACTIVE"),
        inspectors("CVE-4", "UNTRIAGED", "ACTIVE"),
        inspectors("CVE-5", "LOW", "ACTIVE"),
    ]);
    let input = json!({
        "imageScanStatus": {"status": "ACTIVE", "description": "Continuous scan is selected for image."},
        "imageScanFindings": {"enhancedFindings": findings, "imageScanCompletedAt": 1773480413.5, "findingSeverityCounts": {"CRITICAL": 1}}
    });
    let (exit, report) = judge(&["--severity", "CRITICAL,HIGH", "--ignore", "CVE-3", "--ignore", "CVE-none"], &input);
    let item = |id: &str, severity: &str| json!({"id": id, "severity": severity, "package": "xz-utils", "installedVersion": "5.6.0", "fixedVersion": "5.6.1"});
    let with = |mut item: Value, name: &str, value: &str| {
        item[name] = json!(value);
        item
    };
    assert_eq!(exit, 2);
    assert_eq!(
        report,
        json!({
            "schemaVersion": 1,
            "verdict": "BLOCK",
            "scanState": "COMPLETE",
            "counts": {"CRITICAL": 1, "UNTRIAGED": 1, "LOW": 1},
            "blocking": [item("CVE-2024-3094", "CRITICAL")],
            "ignored": [with(item("CVE-3", "HIGH"), "ignoredBy", "CVE-3")],
            "unusedIgnores": ["CVE-none"],
            "unrated": [item("CVE-4", "UNTRIAGED")],
            "suppressed": [with(item("CVE-1", "HIGH"), "status", "SUPPRESSED"), with(item("CVE-2", "HIGH"), "status", "CLOSED")],
            "evidence": {"source": "ENHANCED", "status": "ACTIVE", "completedAt": "2026-03-14T09:26:53.5Z", "statedCounts": {"CRITICAL": 1}, "reads": 1}
        })
    );
}

#[test]
fn a_policy_can_be_a_file() {
    let folder = std::env::temp_dir().join(format!("policy-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let findings = json!([inspectors("CVE-1", "CRITICAL", "ACTIVE"), inspectors("CVE-2", "HIGH", "ACTIVE")]);
    let input = json!({
        "imageScanStatus": {"status": "ACTIVE"},
        "imageScanFindings": {"enhancedFindings": findings, "imageScanCompletedAt": 1773480413.5}
    });
    let exempting = file(
        "exempting.json",
        r#"{"severityThreshold":"HIGH","exemptions":[
        {"id":"CVE-1","reason":"not reachable","until":"2999-12-31","repository":"team/app"},{"id":"CVE-2","reason":"was","until":"2020-12-31"}]}"#,
    );
    let (exit, report) = judge(&["--policy", &exempting, "--repository", "team/app"], &input);
    assert_eq!((exit, report["blocking"][0]["id"].as_str(), report["exempt"][0]["exemptBy"]["reason"].as_str()), (2, Some("CVE-2"), Some("not reachable")));
    assert_eq!(report["endedExemptions"][0]["id"], "CVE-2");
    let (_, report) = judge(&["--policy", &exempting], &input);
    assert_eq!(report["blocking"].as_array().unwrap().len(), 2, "in another repository it excuses nothing");

    let likely = file("likely.json", r#"{"exploit":{"epss":0.1}}"#);
    let mut listed = inspectors("CVE-1", "CRITICAL", "ACTIVE");
    listed["epss"] = json!({"score": 0.02});
    assert_eq!(judge(&["--policy", &likely], &json!({"findings": [listed.clone()]})).0, 3, "unlikely to be exploited, and no proof of a scan");
    listed["epss"]["score"] = json!(0.5);
    let (exit, report) = judge(&["--policy", &likely], &json!({"findings": [listed]}));
    assert_eq!((exit, report["blocking"][0]["epss"].as_str()), (2, Some("0.5")));
    let (exit, stdout, _) = run(&["judge", "--policy", &likely, "-"], &input.to_string());
    assert!(exit == 2 && stdout.contains("nothing here has an EPSS score"), "{stdout}");

    let unfixed = file("unfixed.json", r#"{"ignoreUnfixed":true}"#);
    for (arguments, input, says) in [
        (vec!["--policy", unfixed.as_str()], basic("COMPLETE", json!([])), "`ignoreUnfixed` needs what basic scanning does not say"),
        (vec!["--policy", "/no/such/file"], input.clone(), "cannot read /no/such/file"),
        (vec!["--policy", exempting.as_str(), "--severity", "HIGH"], input.clone(), "cannot be used with"),
    ] {
        let all: Vec<&str> = ["judge"].into_iter().chain(arguments).chain(["-"]).collect();
        let (exit, _, stderr) = run(&all, &input.to_string());
        assert!(exit == 1 && stderr.contains(says), "{stderr}");
    }
}

#[test]
fn an_unrated_finding_blocks_only_when_it_is_named() {
    for (arguments, exit) in [(["--severity-threshold", "INFORMATIONAL"], 0), (["--severity", "UNDEFINED"], 2), (["--severity", "UNTRIAGED"], 0)] {
        let (code, report) = judge(&arguments, &basic("COMPLETE", json!([{"name": "CVE-1"}])));
        assert_eq!((code, report["unrated"][0]["severity"].as_str()), (exit, Some("UNDEFINED")), "{arguments:?}");
    }
}

#[test]
fn a_list_of_findings_proves_no_scan() {
    let machine = json!({"findingArn": "a", "severity": "CRITICAL", "resources": [{"type": "AWS_EC2_INSTANCE", "id": "i-1"}]});
    for (findings, exit) in [
        (json!([]), 3),
        (json!([machine]), 3),
        (json!([machine, inspectors("CVE-1", "CRITICAL", "ACTIVE")]), 2),
        (json!([inspectors("CVE-1", "CRITICAL", "CLOSED")]), 3),
    ] {
        assert_eq!(judge(&[], &json!({"findings": findings})).0, exit, "{findings}");
    }
}

#[test]
fn what_cannot_be_read_is_never_clean_and_names_what_is_wrong() {
    let complete = |body: Value| json!({"imageScanStatus": {"status": "COMPLETE"}, "imageScanFindings": body});
    for (input, names) in [
        ("{", "this is not JSON"),
        ("[]", "neither an answer of"),
        ("{}", "neither an answer of"),
        (r#"{"data":{"imageScanStatus":{"status":"COMPLETE"}}}"#, "inside something else"),
        (r#"{"findings":[],"imageScanCompletedAt":"2026-03-14T09:26:53Z"}"#, "neither an answer of"),
        (r#"{"findings":[{"name":"CVE-1"}]}"#, "`findings[0].resources` is missing"),
        (r#"{"imageScanStatus":{}}"#, "`imageScanStatus.status` is missing"),
        (r#"{"imageScanStatus":{"status":"COMPLETE"}}"#, "`imageScanFindings` is missing"),
        (
            &complete(json!({"imageScanCompletedAt": "2026-03-14T09:26:53Z"})).to_string(),
            "`imageScanFindings.findings` or `imageScanFindings.enhancedFindings` is missing",
        ),
        (&complete(json!({"findings": {}})).to_string(), "`imageScanFindings.findings` is not a list"),
        (&complete(json!({"findings": [{"severity": "HIGH"}]})).to_string(), "`imageScanFindings.findings[0].name` is missing"),
        (&complete(json!({"findings": [{"name": "CVE-1", "severity": 7}]})).to_string(), "`imageScanFindings.findings[0].severity` is not a text"),
        (&complete(json!({"findings": [], "imageScanCompletedAt": "yesterday"})).to_string(), "imageScanCompletedAt` is not a time"),
        (&complete(json!({"findings": [], "findingSeverityCounts": {"HIGH": -1}})).to_string(), "findingSeverityCounts.HIGH` is not a whole number"),
    ] {
        let (exit, stdout, stderr) = run(&["judge", "-"], input);
        assert_eq!((exit, stdout.as_str()), (1, ""), "{input}");
        assert!(stderr.starts_with("judge: ") && stderr.contains(names) && stderr.contains("the AWS CLI"), "{input}: {stderr}");
    }
}

#[test]
fn a_usage_error_is_1_because_2_means_blocked() {
    for arguments in [
        &["judge"][..],
        &["judge", "--severity", "HIGH", "--severity-threshold", "HIGH", "-"],
        &["judge", "--severity", "high", "-"],
        &["judge", "--severity-threshold", "UNDEFINED", "-"],
        &["judge", "no such file"],
        &["judge", "--no-such-flag", "-"],
        &["no-such-command"],
        &[],
    ] {
        let (exit, _, stderr) = run(arguments, &basic("COMPLETE", json!([])).to_string());
        assert_eq!((exit, stderr.is_empty()), (1, false), "{arguments:?}: {stderr}");
    }
    for arguments in [&["--help"][..], &["judge", "--help"], &["--version"]] {
        assert_eq!(run(arguments, "").0, 0, "{arguments:?}");
    }
}

#[test]
fn a_person_reads_what_blocks_and_why() {
    let (_, stdout, _) = run(&["judge", "--severity-threshold", "HIGH", "--ignore", "CVE-none", "-"], &basic("COMPLETE", high()).to_string());
    for line in [
        "BLOCK (severity HIGH or above)",
        "Scan: BASIC, COMPLETE, completed 2026-03-14T08:26:53Z",
        "Findings: HIGH: 1, UNDEFINED: 1",
        "  HIGH          CVE-2026-1  openssl 3.0.1, no fix known",
        "  CVE-none",
    ] {
        assert!(stdout.lines().any(|found| found == line), "{line}\nis not in\n{stdout}");
    }
}

#[cfg(feature = "aws")]
#[test]
fn who_is_to_have_signed_is_named_well_or_nobody_is_asked() {
    let file = |name: &str, text: &str| {
        let file = std::env::temp_dir().join(format!("ecr-scan-verifier-{}-{name}", std::process::id()));
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (private, empty) = (file("cosign.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), file("empty.pem", ""));
    let profile = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/main";
    for (arguments, says) in [
        (vec!["app:1"], "nobody is named whose signature would count: give --key, --kms or --signer-profile"),
        (vec!["--signer-profile", profile, &format!("sha256:{}", "0".repeat(64))], "names no repository"),
        (vec!["--signer-profile", profile, "app"], "neither tag nor digest"),
        (vec!["--key", "no-such-file.pub", "app:1"], "cannot read no-such-file.pub"),
        (vec!["--key", &private, "app:1"], "it is a private key (`PRIVATE KEY`)"),
        (vec!["--kms", "alias/cosign", "app:1"], "`alias/cosign` is no ARN of a KMS key: expected arn:PARTITION:kms:REGION:ACCOUNT:key/ID"),
        (vec!["--signer-profile", profile, "--trusted-root", &empty, "app:1"], "it holds no certificate"),
        (vec!["--trusted-root", &empty, "--kms", "arn:aws:kms:eu-west-1:123456789012:key/1", "app:1"], "--signer-profile <ARN>"),
        (vec!["--signer-profile", "*", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1"], "anybody who may use AWS Signer would do"),
        (vec!["--signer-profile", "main", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1"], "has no ARN of a signing profile (main)"),
        (
            vec!["--signer-profile", profile, "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/app:1"],
            "no root certificate of AWS Signer is known for the partition `aws-cn`",
        ),
    ] {
        let (exit, stdout, stderr) = run(&[&["verify-signature"], arguments.as_slice()].concat(), "");
        assert_eq!((exit, stdout.as_str()), (1, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
    for file in [private, empty] {
        let _ = std::fs::remove_file(file);
    }
}
