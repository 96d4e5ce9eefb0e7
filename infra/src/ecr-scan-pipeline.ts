import { Duration, RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as sns from 'aws-cdk-lib/aws-sns';
import { Construct, IConstruct } from 'constructs';
import { AlarmOptions } from './alarm-options';
import { AlertOn } from './alert-on';
import { checkAlarms, createAlarms } from './internal/alarms';
import { alertsText, checkAlerts } from './internal/alerts';
import { createBackfill } from './internal/backfill';
import { checkArchitecture } from './internal/binaries';
import { checkDailyRescans } from './internal/checks';
import { createDashboard } from './internal/dashboard';
import { checkPipelineName, functionArn } from './internal/names';
import { createParts } from './internal/parts';
import { checkPolicy, policyText } from './internal/policy';
import { stacksArn } from './internal/stacks';
import { warnOfPolicy } from './internal/warnings';
import { everyRepository } from './internal/watched';
import { PolicyOptions } from './policy-options';
import { Severity } from './severity';

/**
 * A pipeline, made here or elsewhere, that gates can ask.
 */
export interface IEcrScanPipeline extends IConstruct {
  /**
   * The name that its functions and tables carry.
   */
  readonly pipelineName: string;

  /**
   * The function that answers the gates: the service token of their custom resources.
   */
  readonly onDeployFunctionArn: string;
}

/**
 * Choices for a pipeline.
 *
 * What blocks here (severities, exemptions and the rest) is what the pipeline's own verdicts say; each gate judges by its
 * own props.
 */
export interface EcrScanPipelineProps extends PolicyOptions {
  /**
   * Names the pipeline: 1 to 32 characters out of `a-z`, `0-9` and `-`.
   *
   * Functions and tables are called `ecr-scan-verifier-<name>-...`, so that other stacks and the command line find them
   * by the name alone. Another name later is another pipeline, with empty tables.
   */
  readonly pipelineName: string;

  /**
   * Judges an image as blocked when a finding has one of exactly these severities.
   *
   * This is what the pipeline's own verdicts say; each gate judges by its own props. Give this or `severityThreshold`.
   *
   * @default [Severity.CRITICAL], unless `severityThreshold` is given
   */
  readonly severity?: Severity[];

  /**
   * Judges an image as blocked when a finding has this severity or a higher one.
   *
   * This is what the pipeline's own verdicts say; each gate judges by its own props. Give this or `severity`.
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
   * Chooses the binaries of the functions: `Architecture.ARM_64` or `Architecture.X86_64`.
   *
   * An architecture whose binaries are not there is refused when the app is synthesized. The context key
   * `ecr-scan-verifier:binaries` names another folder for them (`<architecture>/<function>/bootstrap`; a relative one
   * counts from where the app is started).
   *
   * @default Architecture.ARM_64
   */
  readonly architecture?: lambda.Architecture;

  /**
   * Lets this role break the glass: let one image into one stack once, whatever its scan says, with a reason that is kept.
   *
   * It is granted what `ecr-scan-verifier break-glass` needs, and the table takes such a row from nobody else, not even an
   * administrator.
   *
   * @default - nobody can
   */
  readonly breakGlassRole?: iam.IRole;

  /**
   * Hears alerts: new findings that block an image after its deployment, scans that fail, gates that refuse.
   *
   * on-scan may publish there, and may use the topic's key where the app knows it. Each finding is told once. A topic that
   * is imported without its key, or whose key is another account's, has to let the role of on-scan use the key by itself.
   *
   * @default - nobody, besides the `vulnsNotificationTopic` of each gate
   */
  readonly alertTopic?: sns.ITopic;

  /**
   * Which images alerts are about. Only with `alertTopic`.
   *
   * @default AlertOn.DEPLOYED
   */
  readonly alertOn?: AlertOn;

  /**
   * Raises no alert for a finding below this severity, although the policy objects to it. Only with `alertTopic`.
   *
   * `Severity.UNDEFINED` and `Severity.UNTRIAGED` have no place in the order, and are refused.
   *
   * @default - every finding that blocks is told
   */
  readonly alertSeverity?: Severity;

  /**
   * Gathers the next new findings on an image for so long after an alert about it: 1 minute to 7 days. Only with
   * `alertTopic`.
   *
   * @default - each is told at once
   */
  readonly alertQuietPeriod?: Duration;

  /**
   * Warns so long before an exemption ends that a deployed image needs: 1 to 90 whole days.
   *
   * @default Duration.days(7)
   */
  readonly exemptionWarning?: Duration;

  /**
   * Announces each verdict that changes as an event on the default bus of EventBridge, with the source `ecr-scan-verifier`.
   *
   * @default true
   */
  readonly verdictEvents?: boolean;

  /**
   * Has so many deployed images scanned again in a day, those first whose scan is the oldest: 0 to 100000.
   *
   * Under basic scanning alone: it looks at an image when somebody asks. Inspector scans again by itself.
   *
   * @default 500
   */
  readonly dailyRescans?: number;

  /**
   * Looks for images that were pushed before the pipeline was there, when it is deployed for the first time.
   *
   * Nothing waits for it. Otherwise the sweep finds them within a day.
   *
   * @default true
   */
  readonly backfill?: boolean;

  /**
   * Makes alarms: dead letters, events handled late, deployments that wait too long, functions that fail. `{}` for all the
   * usual.
   *
   * Ten alarms, which cost about a dollar a month.
   *
   * @default - none
   */
  readonly alarms?: AlarmOptions;

  /**
   * Makes a dashboard `ecr-scan-verifier-<name>`: decisions, waiting times, alerts, health.
   *
   * CloudWatch charges three dollars a month for it.
   *
   * @default false
   */
  readonly dashboard?: boolean;

  /**
   * Encrypts tables, queues, bucket and logs with this key.
   *
   * Its policy is extended for EventBridge and CloudWatch Logs; where it is imported and cannot be, a warning says what
   * it has to allow.
   *
   * @default - tables under the AWS managed key, the rest under keys owned by the services
   */
  readonly encryptionKey?: kms.IKey;

  /**
   * Decides what happens to tables, findings and logs when the pipeline is removed.
   *
   * They have fixed names: what is retained has to be imported or deleted before a pipeline of the same name can be made
   * again. With `DESTROY` the bucket must be empty by then.
   *
   * @default RemovalPolicy.RETAIN
   */
  readonly removalPolicy?: RemovalPolicy;
}

/**
 * The reactive part, once an account and region: hears of every push and every finished scan, and remembers the verdicts.
 *
 * Gates of the same account and region ask it: pass it as `pipeline`, in other stacks by `EcrScanPipeline.fromName`.
 */
export class EcrScanPipeline extends Construct implements IEcrScanPipeline {
  /**
   * A pipeline of this account and region that another stack or app has made, by its name alone.
   */
  public static fromName(scope: Construct, id: string, pipelineName: string): IEcrScanPipeline {
    return new NamedPipeline(scope, id, pipelineName);
  }

  public readonly pipelineName: string;
  public readonly onDeployFunctionArn: string;

  constructor(scope: Construct, id: string, props: EcrScanPipelineProps) {
    super(scope, id);
    const architecture = props.architecture ?? lambda.Architecture.ARM_64;
    checkPipelineName(props.pipelineName);
    checkPolicy(props);
    checkAlerts(props);
    checkDailyRescans(props.dailyRescans);
    checkAlarms(props.alarms);
    checkArchitecture(architecture);
    warnOfPolicy(this, props);

    const stack = Stack.of(this);
    this.pipelineName = props.pipelineName;
    this.onDeployFunctionArn = functionArn(stack, props.pipelineName, 'on-deploy');
    const removalPolicy = props.removalPolicy ?? RemovalPolicy.RETAIN;
    const parts = createParts(this, {
      pipelineName: props.pipelineName,
      architecture,
      watched: everyRepository(stack),
      policy: policyText(stack, props),
      stacksArn: stacksArn(stack, 'every'), // gates of any stack may ask
      alertTopic: props.alertTopic,
      alerts: alertsText(stack, props),
      verdictEvents: props.verdictEvents ?? true,
      checksAnySignature: true,
      sweepsRegistry: true,
      dailyRescans: props.dailyRescans ?? 500,
      breakGlassRole: props.breakGlassRole,
      encryptionKey: props.encryptionKey,
      removalPolicy,
      bucketRemovalPolicy: removalPolicy,
    });
    if (props.backfill ?? true) {
      createBackfill(this, props.pipelineName);
    }
    if (props.alarms) {
      createAlarms(this, props.pipelineName, parts, props.alarms);
    }
    if (props.dashboard) {
      createDashboard(this, props.pipelineName, parts);
    }
  }
}

class NamedPipeline extends Construct implements IEcrScanPipeline {
  public readonly onDeployFunctionArn: string;

  constructor(scope: Construct, id: string, public readonly pipelineName: string) {
    super(scope, id);
    checkPipelineName(pipelineName);
    this.onDeployFunctionArn = functionArn(Stack.of(this), pipelineName, 'on-deploy');
  }
}
