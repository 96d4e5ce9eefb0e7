//! What `verify-signature` says, to a person and to a program.

use ecr_scan_verifier::cli::Format;
use ecr_scan_verifier::cli::verify_signature::said;
use ecr_scan_verifier::domain::signature::key::KeyId;
use ecr_scan_verifier::domain::signature::notation::Scheme;
use ecr_scan_verifier::domain::signature::trust::Rule;
use ecr_scan_verifier::domain::signature::verdict::{By, Format as Of, Reason, Refused, Verdict, Verified};

use crate::world::*;

fn by_key(signer: &str) -> Verified {
    Verified { signer: signer.into(), by: By::Key(KeyId("11".repeat(32))), format: Of::CosignBundle, signed_at: None, expires_at: None }
}

fn by_aws_signer() -> Verified {
    let arn = |rest: &str| format!("arn:aws:signer:eu-west-1:123456789012:/{rest}");
    let by = By::Profile { version_arn: arn("signing-profiles/main/Ab12Cd34Ef"), job_arn: arn("signing-jobs/1") };
    let signer = "AWS Signer for arn:aws:signer:eu-west-1:123456789012:/signing-profiles/main".to_owned();
    Verified { signer, by, format: Of::Notation(Scheme::SigningAuthority), signed_at: Some(at(10)), expires_at: Some(at(20)) }
}

fn refused(signer: &str, reason: Reason) -> Refused {
    Refused { signer: signer.into(), reason }
}

fn verdicts() -> Vec<(Rule, usize, Verdict)> {
    let unreachable = Reason::CouldNotCheck("could not read the public key arn:aws:kms:eu-west-1:123456789012:key/1: timeout".into());
    vec![
        (Rule::AllOf, 2, Verdict::Verified(vec![by_key("the key cosign.pub"), by_aws_signer()])),
        (Rule::AnyOf, 2, Verdict::Verified(vec![by_key("the key cosign.pub")])),
        (Rule::AllOf, 1, Verdict::Refused(vec![refused("the key cosign.pub", Reason::Unsigned { others: 0 })])),
        (
            Rule::AnyOf,
            2,
            Verdict::Refused(vec![
                refused("the key cosign.pub", Reason::WrongKey),
                refused("the key old.pub", Reason::WrongDigest { names: digest("other").to_string() }),
            ]),
        ),
        (Rule::AllOf, 2, Verdict::Refused(vec![refused("the key cosign.pub", Reason::WrongKey), refused("the KMS key 1", unreachable)])),
    ]
}

#[test]
fn a_verdict_reads_as_sentences_and_as_json() {
    let say = |format| {
        let all = verdicts().into_iter().map(|(rule, asked, verdict)| said("payments-api", &digest("app"), rule, asked, &verdict, format));
        all.map(|outcome| format!("exit {}\n{}", outcome.exit, outcome.stdout)).collect::<Vec<_>>().join("\n----\n")
    };
    golden("signatures", &say(Format::Text));
    golden("signatures-json", &say(Format::Json));
}

#[test]
fn what_could_not_be_checked_is_neither_signed_nor_unsigned() {
    let unknown = || refused("b", Reason::CouldNotCheck("timeout".into()));
    for (verdict, exit) in [
        (Verdict::Verified(vec![by_key("a")]), 0),
        (Verdict::Refused(vec![refused("a", Reason::Unsigned { others: 0 })]), 2),
        (Verdict::Refused(vec![refused("a", Reason::WrongKey), refused("b", Reason::Keyless)]), 2),
        (Verdict::Refused(vec![unknown()]), 3),
        (Verdict::Refused(vec![refused("a", Reason::WrongKey), unknown()]), 3),
    ] {
        for format in [Format::Text, Format::Json] {
            assert_eq!(said("app", &digest("app"), Rule::AllOf, 2, &verdict, format).exit, exit, "{verdict:?}");
        }
    }
}
