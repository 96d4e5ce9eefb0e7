import { CustomResource, Duration } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { Construct, IConstruct } from 'constructs';
import { IEcrScanPipeline } from './ecr-scan-pipeline';
import { checkArchitecture } from './internal/binaries';
import { checkBlocked, checkPipeline, checkRepository, checkedTimeout } from './internal/checks';
import { ImplicitPipeline } from './internal/implicit-pipeline';
import { logGroupName } from './internal/names';
import { blockingProps, checkPolicy } from './internal/policy';
import { warnOfArchitectures, warnOfGaps, warnOfMutableTag } from './internal/warnings';
import { ScanConfig } from './scan-config';
import { Severity } from './severity';

/**
 * Choices for a gate.
 */
export interface EcrScanVerifierProps {
  /**
   * The repository that holds the image, in the account and region of the stack.
   */
  readonly repository: ecr.IRepository;

  /**
   * Says whose findings decide: `ScanConfig.basic()` or `ScanConfig.enhanced()`.
   */
  readonly scanConfig: ScanConfig;

  /**
   * Chooses the image: a tag, or a digest (`sha256:...`).
   *
   * CloudFormation asks again only when this changes; so a tag that can move raises a warning.
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
   * Holds these constructs back until the gate has let the image through.
   *
   * Nothing else of the stack waits. With `failOnVulnerability: false` they wait for the answer, but are not kept back
   * by findings.
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
  constructor(scope: Construct, id: string, props: EcrScanVerifierProps) {
    super(scope, id);
    const imageTag = props.imageTag ?? 'latest';
    const architecture = props.architecture ?? lambda.Architecture.ARM_64;
    const blocked = props.blockConstructs ?? [];

    checkArchitecture(architecture);
    const timeout = checkedTimeout(props.pollingTimeout ?? Duration.minutes(14));
    checkPolicy(props);
    checkRepository(this, props.repository);
    if (props.pipeline) {
      checkPipeline(this, props.pipeline);
    }
    blocked.forEach((construct) => checkBlocked(this, construct, { repository: props.repository, pipeline: props.pipeline }));
    warnOfGaps(this, props.severity);
    warnOfMutableTag(this, props.repository, imageTag);

    const scan = props.scanConfig.bind();
    const pipeline = props.pipeline ?? this.implicitPipeline(props.repository, architecture);

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
        suppressErrorOnRollback: String(props.suppressErrorOnRollback ?? true),
        defaultLogGroupName: logGroupName(pipeline.pipelineName, 'on-deploy'),
        pollingTimeoutSeconds: String(timeout),
      },
    });
    gate.node.addDependency(pipeline);
    blocked.forEach((construct) => construct.node.addDependency(this));
  }

  private implicitPipeline(repository: ecr.IRepository, architecture: lambda.Architecture): IEcrScanPipeline {
    const pipeline = ImplicitPipeline.of(this, architecture);
    warnOfArchitectures(this, architecture, pipeline.architecture);
    pipeline.listenTo(repository);
    return pipeline;
  }
}
