//! `ecr-scan-verifier`: judge a saved scan, read a saved event, ask whether an image may be deployed, explain what is recorded of it.
#![forbid(unsafe_code)]

use std::io::Read;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ecr_scan_verifier::cli::{self, Outcome};
use ecr_scan_verifier::domain::policy::Policy;

/// A deploy-time image gate for AWS: why is this image let through, or held back?
#[derive(Parser)]
#[command(name = "ecr-scan-verifier", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Judge a saved answer of `aws ecr describe-image-scan-findings` or `aws inspector2 list-findings`, offline.
    ///
    /// Exit code 0: pass. 2: blocked. 3: no verdict, since the scan is not complete and nothing blocks so far. 1: unreadable.
    Judge {
        #[command(flatten)]
        policy: PolicyArgs,
        /// The repository that the image is in, for exemptions that hold in one alone.
        #[arg(long, value_name = "NAME", default_value = "")]
        repository: String,
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// The file, or `-` for standard input.
        file: String,
    },
    /// Say what is understood of a saved event: EventBridge's, CloudFormation's, or a batch from a queue.
    ///
    /// Exit code 0: understood, also when it is of no use here. 1: unreadable.
    ReadEvent {
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// The file, or `-` for standard input.
        file: String,
    },
    /// Everything that is recorded of one image: verdict, evidence, findings, who deploys it and who waits for it.
    ///
    /// Exit code 0: recorded. 3: nothing is recorded of it. 1: could not look.
    #[cfg(feature = "aws")]
    Explain {
        #[command(flatten)]
        pipeline: PipelineArgs,
        /// sha256:..., REPOSITORY@sha256:... or REPOSITORY:TAG
        image: String,
    },
    /// May this image be deployed? Asked of the gate's own function; nothing is deployed, and nothing recorded.
    ///
    /// Without a policy here, findings of severity CRITICAL block, as for a gate without one. Exit code 0: it may be deployed. 2: it
    /// may not. 3: no verdict yet. 1: could not look.
    #[cfg(feature = "aws")]
    Check {
        #[command(flatten)]
        pipeline: PipelineArgs,
        #[command(flatten)]
        policy: PolicyArgs,
        /// Ask again until there is a verdict, for so long: 90s, 10m, 1h.
        #[arg(long, value_name = "DURATION", value_parser = cli::check::duration)]
        wait: Option<std::time::Duration>,
        /// Only a scan by Amazon Inspector counts.
        #[arg(long)]
        enhanced: bool,
        /// Of an index, only the images for this platform count; can be given several times.
        #[arg(long = "platform", value_name = "OS/ARCH")]
        platforms: Vec<String>,
        /// It has to be signed as this JSON file says: what a template has as `signatureVerification`.
        #[arg(long, value_name = "FILE")]
        signature_verification: Option<String>,
        /// Nothing but its signature counts.
        #[arg(long, requires = "signature_verification", conflicts_with = "enhanced")]
        signature_only: bool,
        /// REPOSITORY:TAG or REPOSITORY@sha256:..., with or without the registry
        image: String,
    },
    /// What was decided about one image, or in one stack, newest first: verdict, why, by which policy, and what was known then.
    ///
    /// Exit code 0: there is some. 3: there is none. 1: could not look.
    #[cfg(feature = "aws")]
    History {
        #[command(flatten)]
        pipeline: PipelineArgs,
        /// How many decisions at most.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// sha256:..., REPOSITORY@sha256:..., a stack's name or its ARN
        subject: String,
    },
    /// What the pipeline's queues have given up, and, with --redrive, to have it done again.
    ///
    /// Exit code 0: nothing is there, or all was brought back. 3: there is something. 1: could not look, or not bring it back.
    #[cfg(feature = "aws")]
    DeadLetters {
        #[command(flatten)]
        pipeline: PipelineArgs,
        /// Bring all of them back to the queues that they come from.
        #[arg(long)]
        redrive: bool,
    },
    /// Let one image into one stack once, whatever its scan says: recorded with the reason, and over by itself.
    ///
    /// The pipeline's tables take this only from the role that `breakGlassRole` names. Exit code 0: broken. 3: it is broken for
    /// this image and stack already. 1: not done.
    #[cfg(feature = "aws")]
    BreakGlass {
        #[command(flatten)]
        pipeline: PipelineArgs,
        /// The stack's ARN, as `aws cloudformation describe-stacks` shows it.
        #[arg(long, value_name = "ARN")]
        stack: String,
        /// Why, for whoever reads the history.
        #[arg(long)]
        reason: String,
        /// For how many minutes it can be used.
        #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=1440))]
        minutes: u16,
        /// REPOSITORY@sha256:...
        image: String,
    },
    /// Which images have a finding, and which stacks run them.
    ///
    /// Exit code 0: somebody has it. 3: nobody. 1: could not look.
    #[cfg(feature = "aws")]
    WhoHas {
        #[command(flatten)]
        pipeline: PipelineArgs,
        /// The vulnerability's id, exactly as the scanner writes it.
        id: String,
    },
    /// Is this image signed by those who are named? Its digest is looked at as it is: an index for itself, and not its images.
    ///
    /// Signatures of Cosign (with a key) and of Notation (by AWS Signer) are read from ECR, and judged here. Exit code 0: verified. 2:
    /// not verified. 3: could not check, so it may be signed well or not. 1: could not look.
    #[cfg(feature = "aws")]
    VerifySignature {
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// A public key as a PEM file, such as cosign.pub; can be given several times.
        #[arg(long = "key", value_name = "FILE")]
        keys: Vec<String>,
        /// The ARN of a key in KMS that signs with Cosign; can be given several times.
        #[arg(long = "kms", value_name = "ARN")]
        kms: Vec<String>,
        /// The ARN of a signing profile of AWS Signer, or of one version of it; can be given several times.
        #[arg(long = "signer-profile", value_name = "ARN")]
        profiles: Vec<String>,
        /// Root certificates as a PEM file, in the place of AWS Signer's own.
        #[arg(long = "trusted-root", value_name = "FILE", requires = "profiles")]
        roots: Vec<String>,
        /// One of the signers is enough; otherwise all of them have to have signed.
        #[arg(long)]
        any: bool,
        /// REPOSITORY:TAG or REPOSITORY@sha256:..., with or without the registry
        image: String,
    },
    /// Which deployments wait for a scan: for what, since when and until when.
    ///
    /// Exit code 0, also when nobody waits. 1: could not look.
    #[cfg(feature = "aws")]
    Waiters {
        #[command(flatten)]
        pipeline: PipelineArgs,
    },
}

#[cfg(feature = "aws")]
#[derive(Args)]
struct PipelineArgs {
    /// The pipeline's name; it names the tables.
    #[arg(long, env = "ECR_SCAN_VERIFIER_PIPELINE")]
    pipeline: String,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args)]
struct PolicyArgs {
    /// Block findings of exactly these severities.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    severity: Option<Vec<String>>,
    /// Block findings of this severity and above.
    #[arg(long, value_name = "S", conflicts_with = "severity")]
    severity_threshold: Option<String>,
    /// A vulnerability id or finding ARN that does not block; can be given several times.
    #[arg(long = "ignore", value_name = "ID")]
    ignore: Vec<String>,
    /// A whole policy as JSON (docs/policy.schema.json), instead of the three above.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["severity", "severity_threshold", "ignore"])]
    policy: Option<String>,
}

impl PolicyArgs {
    fn read(self) -> Result<Policy, String> {
        match self.policy {
            Some(file) => {
                let text = std::fs::read_to_string(&file).map_err(|error| format!("cannot read {file}: {error}"))?;
                Policy::parse(&text).map_err(|error| format!("{file}: {error}"))
            }
            None => Policy::from_words(self.severity.as_deref(), self.severity_threshold.as_deref(), self.ignore).map_err(|error| error.to_string()),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl From<Format> for cli::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(arguments) => run(arguments.command),
        // clap's own exit code for a usage error is 2, which means "blocked" here.
        Err(error) => {
            let asked_for_help = !error.use_stderr();
            let text = error.to_string();
            if asked_for_help { Outcome::said(text, 0) } else { Outcome::failed(text) }
        }
    };
    print(&outcome);
    ExitCode::from(outcome.exit)
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Judge { policy, repository, format, file } => {
            let policy = match policy.read() {
                Ok(policy) => policy,
                Err(error) => return Outcome::failed(format!("judge: {error}\n")),
            };
            with_input("judge", &file, |input| cli::judge::judge_file(input, &policy, &repository, jiff::Timestamp::now(), format.into()))
        }
        Command::ReadEvent { format, file } => with_input("read-event", &file, |input| cli::read_event::read_event(input, matches!(format, Format::Json))),
        #[cfg(feature = "aws")]
        Command::Explain { pipeline, image } => explain(&pipeline, &image),
        #[cfg(feature = "aws")]
        Command::Check { pipeline, policy, wait, enhanced, platforms, signature_verification, signature_only, image } => {
            let policy = match policy.read() {
                Ok(policy) => policy,
                Err(error) => return Outcome::failed(format!("check: {error}\n")),
            };
            let signatures = match signature_verification.map(|file| cli::check::signatures(&file)).transpose() {
                Ok(signatures) => signatures,
                Err(error) => return Outcome::failed(format!("check: --signature-verification: {error}\n")),
            };
            check(&pipeline, &image, cli::check::Wanted { policy, enhanced, platforms, signatures, signature_only }, wait.unwrap_or_default())
        }
        #[cfg(feature = "aws")]
        Command::History { pipeline, limit, subject } => history(&pipeline, &subject, limit.into()),
        #[cfg(feature = "aws")]
        Command::DeadLetters { pipeline, redrive } => dead_letters(&pipeline, redrive),
        #[cfg(feature = "aws")]
        Command::Waiters { pipeline } => waiters(&pipeline),
        #[cfg(feature = "aws")]
        Command::WhoHas { pipeline, id } => who_has(&pipeline, &id),
        #[cfg(feature = "aws")]
        Command::VerifySignature { format, keys, kms, profiles, roots, any, image } => {
            match cli::verify_signature::Asked::read(&image, (&keys, &kms, &profiles, &roots), any, |file| std::fs::read_to_string(file)) {
                Ok(asked) => verify_signature(&asked, format.into()),
                Err(error) => Outcome::failed(format!("verify-signature: {error}\n")),
            }
        }
        #[cfg(feature = "aws")]
        Command::BreakGlass { pipeline, stack, reason, minutes, image } => break_glass(&pipeline, &stack, &reason, minutes, &image),
    }
}

#[cfg(feature = "aws")]
#[tokio::main(flavor = "current_thread")]
async fn waiters(pipeline: &PipelineArgs) -> Outcome {
    cli::waiters::waiters(&connect(pipeline).await, pipeline.format.into()).await
}

#[cfg(feature = "aws")]
#[tokio::main(flavor = "current_thread")]
async fn who_has(pipeline: &PipelineArgs, id: &str) -> Outcome {
    cli::who_has::who_has(&connect(pipeline).await, id, pipeline.format.into()).await
}

#[cfg(feature = "aws")]
#[tokio::main(flavor = "current_thread")]
async fn check(pipeline: &PipelineArgs, image: &str, wanted: cli::check::Wanted, wait: std::time::Duration) -> Outcome {
    use ecr_scan_verifier::aws::{config, functions::Functions};
    let question = match cli::check::question(image, &wanted) {
        Ok(question) => question,
        Err(error) => return Outcome::failed(format!("check: {error}\n")),
    };
    let functions = Functions::new(&config().await);
    cli::check::check(&functions, &pipeline.pipeline, &question, wait, pipeline.format.into(), |state| eprintln!("check: {state}")).await
}

#[cfg(feature = "aws")]
#[tokio::main(flavor = "current_thread")]
async fn history(pipeline: &PipelineArgs, subject: &str, limit: usize) -> Outcome {
    let subject = match cli::history::subject(subject) {
        Ok(subject) => subject,
        Err(error) => return Outcome::failed(format!("history: {error}\n")),
    };
    cli::history::history(&connect(pipeline).await, &subject, limit, pipeline.format.into()).await
}

#[cfg(feature = "aws")]
#[tokio::main(flavor = "current_thread")]
async fn dead_letters(pipeline: &PipelineArgs, redrive: bool) -> Outcome {
    use ecr_scan_verifier::aws::{config, dead_letters::DeadLetters};
    let letters = DeadLetters::new(&config().await, &pipeline.pipeline);
    cli::dead_letters::dead_letters(&letters, &pipeline.pipeline, redrive, pipeline.format.into()).await
}

#[cfg(feature = "aws")]
#[tokio::main(flavor = "current_thread")]
async fn break_glass(pipeline: &PipelineArgs, stack: &str, reason: &str, minutes: u16, image: &str) -> Outcome {
    let glass = match cli::break_glass::glass(stack, reason, minutes, image, jiff::Timestamp::now()) {
        Ok(glass) => glass,
        Err(error) => return Outcome::failed(format!("break-glass: {error}\n")),
    };
    cli::break_glass::break_glass(&connect(pipeline).await, &glass, pipeline.format.into()).await
}

#[cfg(feature = "aws")]
#[tokio::main(flavor = "current_thread")]
async fn verify_signature(asked: &cli::verify_signature::Asked, format: cli::Format) -> Outcome {
    use ecr_scan_verifier::aws::{config_by, connector::connector, signatures::Signatures};
    let http = connector();
    let config = config_by(&http).await;
    let Some(region) = asked.region().or_else(|| config.region().map(|region| region.as_ref())) else {
        return Outcome::failed("verify-signature: no region is set: set AWS_REGION, or name the image with its registry\n");
    };
    let signatures = Signatures::new(&config, region, http, std::env::var("TEST_DOWNLOAD_ORIGIN").ok());
    cli::verify_signature::verify_signature(&signatures, asked, region, format).await
}

#[cfg(feature = "aws")]
async fn connect(pipeline: &PipelineArgs) -> ecr_scan_verifier::aws::Aws {
    use ecr_scan_verifier::aws::{Aws, Settings};
    Aws::connect(Settings::of_pipeline(&pipeline.pipeline)).await
}

#[cfg(feature = "aws")]
#[tokio::main(flavor = "current_thread")]
async fn explain(pipeline: &PipelineArgs, image: &str) -> Outcome {
    let named = match cli::named::Named::parse(image) {
        Ok(named) => named,
        Err(error) => return Outcome::failed(format!("explain: {error}\n")),
    };
    cli::explain::explain(&connect(pipeline).await, &named, pipeline.format.into()).await
}

fn with_input(command: &str, file: &str, read: impl FnOnce(&[u8]) -> Outcome) -> Outcome {
    let mut input = Vec::new();
    let bytes = if file == "-" { std::io::stdin().read_to_end(&mut input).map(|_| input) } else { std::fs::read(file) };
    match bytes {
        Ok(input) => read(&input),
        Err(error) => Outcome::failed(format!("{command}: cannot read {file}: {error}\n")),
    }
}

fn print(outcome: &Outcome) {
    use std::io::Write;
    // A reader that has gone away (`| head`) is no reason to panic.
    let _ = std::io::stdout().write_all(outcome.stdout.as_bytes());
    let _ = std::io::stderr().write_all(outcome.stderr.as_bytes());
}
