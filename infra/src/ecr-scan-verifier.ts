import { CustomResource, Duration, Fn, Stack, Token } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as sns from 'aws-cdk-lib/aws-sns';
import { Construct, IConstruct } from 'constructs';
import { IEcrScanPipeline } from './ecr-scan-pipeline';
import { checkArchitecture } from './internal/binaries';
import { Waiting, checkBlocked } from './internal/blocking';
import {
  checkFindingsMatter,
  checkOnUnscanned,
  checkPipeline,
  checkPlatforms,
  checkRepository,
  checkSbom,
  checkSignatures,
  checkedScanAge,
  checkedTimeout,
} from './internal/checks';
import { isDigest } from './internal/images';
import { ChosenByTheFirst, ImplicitPipeline } from './internal/implicit-pipeline';
import { logGroupName } from './internal/names';
import { Outputs, bindOutputs, hasAny, needsOf } from './internal/outputs';
import { blockingProps, checkNeedsOf, checkPolicy, policyTexts } from './internal/policy';
import { grantsForSigners, signaturesText } from './internal/signatures';
import {
  warnOfDefaultLogGroup,
  warnOfDifferences,
  warnOfMovableTag,
  warnOfPolicy,
  warnOfSignatureOnly,
  warnOfStrictness,
  warnOfUnblocked,
} from './internal/warnings';
import { OnUnscanned } from './on-unscanned';
import { PolicyOptions } from './policy-options';
import { ScanConfig } from './scan-config';
import { ScanLogsOutput } from './scan-logs-output';
import { Severity } from './severity';
import { SignatureVerification, SignatureVerificationBindOutput } from './signature-verification';

/**
 * Choices for a gate.
 */
export interface EcrScanVerifierProps extends PolicyOptions {
  /**
   * The repository that holds the image, in the account and region of the stack.
   */
  readonly repository: ecr.IRepository;

  /**
   * Says whose findings decide: `ScanConfig.basic()` or `ScanConfig.enhanced()`; with `ScanConfig.signatureOnly()` none do.
   */
  readonly scanConfig: ScanConfig;

  /**
   * Chooses the image: a tag, or a digest (`sha256:...`).
   *
   * CloudFormation asks again only when this changes; so a tag that can move raises a warning: `latest`, and any tag in a
   * repository of this app whose tags are mutable. What was verified is what runs when `imageUri` of the verifier is passed
   * on to what runs the image.
   *
   * @default 'latest'
   */
  readonly imageTag?: string;

  /**
   * Blocks on findings of exactly these severities.
   *
   * `[HIGH]` lets a CRITICAL finding pass, and raises a warning; for "at or above" use `severityThreshold`. Give one of
   * the two. `UNDEFINED` (ECR) and `UNTRIAGED` (Inspector) stand for findings without a rating.
   *
   * @default [Severity.CRITICAL], unless `severityThreshold` is given
   */
  readonly severity?: Severity[];

  /**
   * Blocks on findings of this severity or a higher one.
   *
   * Findings without a rating never block under a threshold; they are counted and shown.
   *
   * @default - `severity` decides
   */
  readonly severityThreshold?: Severity;

  /**
   * Lets these findings pass, by CVE id or finding ARN, exactly as written; they stay in the verdict, marked.
   *
   * @default []
   */
  readonly ignoreFindings?: string[];

  /**
   * Fails the deployment when findings block.
   *
   * With `false` the deployment goes on, `blockConstructs` included, and the verdict says BLOCK. An image whose scan is
   * not complete in time is refused either way.
   *
   * @default true
   */
  readonly failOnVulnerability?: boolean;

  /**
   * Decides about an image that the scanner cannot scan, as a distroless one or one made from scratch.
   *
   * It never decides about an image that could not be looked at: a scan that is not complete in time, that failed or that
   * cannot be read is refused, whatever this says.
   *
   * @default OnUnscanned.BLOCK
   */
  readonly onUnscanned?: OnUnscanned;

  /**
   * Looks at these platforms of a multi-architecture image alone: `linux/arm64`, `linux/arm/v7`.
   *
   * Written as `os/architecture` or `os/architecture/variant`, in lower case; without a variant all variants count. Name what
   * is deployed: what is not named may have any findings.
   *
   * @default - every platform of the image counts, and the worst decides
   */
  readonly platforms?: string[];

  /**
   * Takes no scan that is older than this: 1 hour to 365 days.
   *
   * Where the gate may start scans it asks for a new one, and the deployment waits for that; anywhere else it is looked once
   * whether there is a newer one, and refused if not. ECR scans an image once in 24 hours at most.
   *
   * @default - 24 hours where the gate may start scans (`ScanConfig.basic()`), else no limit
   */
  readonly maxScanAge?: Duration;

  /**
   * Asks for a signature, before anything is said about findings.
   *
   * An image whose signatures could not be looked at is refused, whatever `failOnUnsigned` says.
   *
   * @default - signatures are not looked at
   */
  readonly signatureVerification?: SignatureVerification;

  /**
   * Writes findings and summary of the scan to a log group or a bucket, after the deployment has its answer.
   *
   * @default - a summary in the log of the pipeline's functions
   */
  readonly scanLogsOutput?: ScanLogsOutput;

  /**
   * Fails the deployment when its scan logs or its bill of materials cannot be written.
   *
   * With `false` that is a line in the log and a metric, and decides nothing.
   *
   * @default false
   */
  readonly strictOutputs?: boolean;

  /**
   * Tells this topic when the image of a deployment is blocked, or let through by `failOnVulnerability: false`.
   *
   * A message that cannot be sent is tried again, and never decides about a deployment. Rollbacks send none.
   *
   * @default - nobody is told
   */
  readonly vulnsNotificationTopic?: sns.ITopic;

  /**
   * The log group of the functions that answer the gates, for a stack that names no `pipeline`.
   *
   * The verifiers of a stack share their functions: the first one chooses, and a verifier that differs raises a warning.
   * With `pipeline` it has no effect, and raises a warning.
   *
   * @default - a log group for each function, kept for a month
   */
  readonly defaultLogGroup?: logs.ILogGroup;

  /**
   * Holds these constructs back until the gate has let the image through.
   *
   * Nothing else of the stack waits. With `failOnVulnerability: false` they wait for the answer, but are not kept back
   * by findings, and a warning says so. None of them may contain what the gate itself waits for: the repository, the
   * pipeline, or where its outputs go.
   *
   * @default - nothing waits for the gate
   */
  readonly blockConstructs?: IConstruct[];

  /**
   * Answers a rollback with success, whatever the old image's findings are today.
   *
   * With `false` the image that a rollback returns to is judged from the record, and can make the rollback fail.
   *
   * @default true
   */
  readonly suppressErrorOnRollback?: boolean;

  /**
   * How long a deployment waits for the scan of its image: 1 to 3480 seconds.
   *
   * When the time is up the deployment fails with a message that says so; it is never let through. Nothing runs while it
   * waits.
   *
   * @default Duration.minutes(14)
   */
  readonly pollingTimeout?: Duration;

  /**
   * Chooses the binaries of the functions that this stack gets when it names no `pipeline`.
   *
   * `Architecture.ARM_64` or `Architecture.X86_64`. The verifiers of a stack share their functions: the first one
   * chooses, and a verifier that differs raises a warning. With `pipeline` it has no effect.
   *
   * @default Architecture.ARM_64
   */
  readonly architecture?: lambda.Architecture;

  /**
   * Asks this pipeline, which other stacks share.
   *
   * Another pipeline later is a new gate, then the old one is deleted; the image is judged again.
   *
   * @default - one pipeline for this stack's verifiers, which listens to their repositories and goes with the stack
   */
  readonly pipeline?: IEcrScanPipeline;
}

/**
 * A gate for one image: the deployment goes on when the image's scan is complete and nothing in it blocks.
 */
export class EcrScanVerifier extends Construct {
  /**
   * The digest of the image that was verified (`sha256:...`), known at deployment.
   *
   * What uses it is deployed after the gate has let the image through. Use it in the stack of the verifier: as an export,
   * CloudFormation would not let it change while another stack imports it.
   *
   * CDK takes a value that is only known at deployment for a tag: `fromEcrRepository` and `tagOrDigest` would make
   * `repository:sha256:...` of this, which names no image. Pass `imageUri` on instead.
   */
  public readonly imageDigest: string;

  /**
   * The image that was verified, for what runs it: `<repository URI>@<digest>`.
   *
   * A tag can have moved since; this cannot. Whoever pulls needs a grant of its own, for example
   * `ContainerImage.fromRegistry(verifier.imageUri)` and `repository.grantPull(taskDefinition.obtainExecutionRole())`. What
   * uses it is deployed after the gate has let the image through.
   */
  public readonly imageUri: string;

  /**
   * The same image, with its tag for people and tools that want to read one: `<repository URI>:<tag>@<digest>`.
   *
   * The digest decides what is pulled. Equal to `imageUri` when `imageTag` is a digest; an `imageTag` that is only known at
   * deployment has to be a tag for this.
   */
  public readonly imageUriWithTag: string;

  constructor(scope: Construct, id: string, props: EcrScanVerifierProps) {
    super(scope, id);
    const imageTag = props.imageTag ?? 'latest';
    const architecture = props.architecture ?? lambda.Architecture.ARM_64;
    const blocked = props.blockConstructs ?? [];

    checkArchitecture(architecture);
    const timeout = checkedTimeout(props.pollingTimeout ?? Duration.minutes(14));
    const scan = props.scanConfig.bind();
    // Whoever checks signatures is a function of the pipeline; what somebody else's class grants here reaches nobody.
    const signatures = props.signatureVerification?.bind(new iam.UnknownPrincipal({ resource: this }));
    checkSignatures(this, scan.scanType, signatures);
    checkSbom(scan);
    checkPolicy(props);
    checkNeedsOf(props, scan.scanType);
    checkFindingsMatter(props, scan.scanType);
    checkOnUnscanned(props.onUnscanned);
    checkPlatforms(props.platforms);
    const maxScanAgeSeconds = checkedScanAge(props.maxScanAge);
    checkRepository(this, props.repository);
    if (props.pipeline) {
      checkPipeline(this, props.pipeline);
    }
    const outputs = { scanLogsOutput: props.scanLogsOutput, sbomOutput: scan.sbomOutput, topic: props.vulnsNotificationTopic };
    checkBlocked(this.waiting(props, blocked, outputs));
    warnOfMovableTag(this, props.repository, imageTag);
    if (scan.scanType === 'SIGNATURE_ONLY') {
      warnOfSignatureOnly(this, blocked, props, signatures);
    } else {
      warnOfPolicy(this, props);
      warnOfUnblocked(this, blocked, props.failOnVulnerability, signatures);
    }
    warnOfStrictness(this, props.strictOutputs === true, outputs);

    const pipeline = props.pipeline ?? this.implicitPipeline(props, { architecture, defaultLogGroup: props.defaultLogGroup }, signatures);
    if (props.pipeline) {
      warnOfDefaultLogGroup(this, pipeline.pipelineName, props.defaultLogGroup);
    }
    const bound = hasAny(outputs) ? bindOutputs(this, pipeline, outputs) : undefined;

    // A service token can never be changed on a resource. With the pipeline's name in its id, another pipeline makes
    // another resource: first the new gate asks, then the old one is deleted.
    const gate = new CustomResource(this, `Gate-${pipeline.pipelineName}`, {
      resourceType: 'Custom::EcrScanVerifier',
      serviceToken: pipeline.onDeployFunctionArn,
      // Longer than our own wait, so that people read our message and not "timed out".
      serviceTimeout: Duration.seconds(Math.min(3600, Math.max(420, timeout + 120))),
      // CloudFormation turns every scalar into text on its way: text from the start makes both ends see the same.
      properties: {
        addr: this.node.addr,
        repositoryName: props.repository.repositoryName,
        repositoryArn: props.repository.repositoryArn,
        imageTag,
        scanType: scan.scanType,
        startScan: String(scan.startScan),
        ...blockingProps(props),
        failOnVulnerability: String(props.failOnVulnerability ?? true),
        ignoreFindings: props.ignoreFindings ?? [],
        ...policyTexts(props),
        onUnscanned: props.onUnscanned === OnUnscanned.BLOCK ? undefined : props.onUnscanned,
        platforms: props.platforms,
        maxScanAgeSeconds,
        suppressErrorOnRollback: String(props.suppressErrorOnRollback ?? true),
        signatureVerification: signatures && signaturesText(signatures),
        ...bound?.properties,
        strictOutputs: props.strictOutputs ? 'true' : undefined,
        defaultLogGroupName: this.defaultLogGroupName(pipeline),
        pollingTimeoutSeconds: String(timeout),
      },
    });
    gate.node.addDependency(pipeline);
    // An alias is named by plain text, which makes nobody wait for it.
    Object.values(props.signatureVerification?._needs() ?? {}).forEach((key) => key && gate.node.addDependency(key));
    if (bound) {
      gate.node.addDependency(bound.role);
    }
    blocked.forEach((construct) => construct.node.addDependency(this));

    this.imageDigest = gate.getAttString('ImageDigest');
    this.imageUri = gate.getAttString('ImageUri');
    this.imageUriWithTag = this.withTag(props.repository, imageTag);
  }

  private withTag(repository: ecr.IRepository, imageTag: string): string {
    if (isDigest(imageTag)) {
      return this.imageUri;
    }
    if (Token.isUnresolved(imageTag)) {
      return `${repository.repositoryUri}:${imageTag}@${this.imageDigest}`;
    }
    // Puts the tag before the digest, where there is one: a rollback to an image that nobody recorded gives none, and must not
    // fail for it.
    return Fn.join(`:${imageTag}@`, Fn.split('@', this.imageUri));
  }

  private implicitPipeline(
    { repository, signatureVerification }: EcrScanVerifierProps,
    asked: ChosenByTheFirst,
    signatures?: SignatureVerificationBindOutput,
  ): IEcrScanPipeline {
    const pipeline = ImplicitPipeline.of(this, asked);
    warnOfDifferences(this, asked, pipeline.chosen);
    pipeline.listenTo(repository);
    if (signatureVerification && signatures) {
      const aliases = signatureVerification._aliases();
      pipeline.verifySignatures(() => grantsForSigners(Stack.of(this), repository.repositoryArn, signatures, aliases));
    }
    return pipeline;
  }

  private defaultLogGroupName(pipeline: IEcrScanPipeline): string {
    const own = pipeline instanceof ImplicitPipeline ? pipeline.chosen.defaultLogGroup : undefined;
    return own?.logGroupName ?? logGroupName(pipeline.pipelineName, 'on-deploy');
  }

  private waiting(props: EcrScanVerifierProps, blocked: IConstruct[], outputs: Outputs): Waiting {
    const { repository, pipeline, defaultLogGroup } = props;
    const keys = props.signatureVerification?._needs();
    return {
      gate: this,
      blocked,
      needs: { pipeline, repository, ...keys },
      shared: {
        ...(pipeline === undefined && { pipeline: { repository, defaultLogGroup, ...keys } }),
        ...(hasAny(outputs) && { [pipeline ? `role for the outputs to pipeline '${pipeline.pipelineName}'` : 'role for outputs']: needsOf(outputs) }),
      },
    };
  }
}
