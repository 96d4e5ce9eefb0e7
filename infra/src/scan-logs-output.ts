import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as s3 from 'aws-cdk-lib/aws-s3';
import { Needs, below, prefixText } from './internal/destinations';
import { mayUseKey } from './internal/encryption';

/**
 * Where the logs of a scan can go.
 */
export enum ScanLogsOutputType {
  /** To a log group of CloudWatch Logs. */
  CLOUDWATCH_LOGS = 'cloudWatchLogs',

  /** To a bucket. */
  S3 = 's3',
}

/**
 * What the objects and log streams of a scan are named by.
 */
export enum ScanLogsLayout {
  /**
   * By repository and tag, as the image was asked for.
   *
   * Some repositories share a name with others: in a bucket `team/app` and `team_app` do.
   */
  TAG = 'TAG',

  /** By the digest, below the repository's name: no two images share a name. */
  DIGEST = 'DIGEST',
}

/**
 * What an output of scan logs comes down to, in the words of the gate.
 */
export interface ScanLogsOutputOptions {
  /**
   * Where the logs go.
   */
  readonly type: ScanLogsOutputType;

  /**
   * What objects and log streams are named by.
   *
   * @default ScanLogsLayout.TAG
   */
  readonly layout?: ScanLogsLayout;
}

/**
 * What an output to CloudWatch Logs comes down to, in the words of the gate.
 */
export interface CloudWatchLogsOutputOptions extends ScanLogsOutputOptions {
  /**
   * The name of the log group.
   */
  readonly logGroupName: string;
}

/**
 * What an output to a bucket comes down to, in the words of the gate.
 */
export interface S3OutputOptions extends ScanLogsOutputOptions {
  /**
   * The name of the bucket.
   */
  readonly bucketName: string;

  /**
   * What every key begins with; where it does not end in `/`, one is added.
   *
   * @default - the keys begin with the name of the image
   */
  readonly prefix?: string;
}

/**
 * Choices for scan logs in CloudWatch Logs.
 */
export interface CloudWatchLogsOutputProps {
  /**
   * The log group that gets two streams for each image: its findings, and a summary.
   */
  readonly logGroup: logs.ILogGroup;

  /**
   * What the streams are named by.
   *
   * @default ScanLogsLayout.TAG
   */
  readonly layout?: ScanLogsLayout;
}

/**
 * Choices for scan logs in a bucket.
 */
export interface S3OutputProps {
  /**
   * The bucket that gets two objects for each scan that a deployment asked for: the findings, and a summary.
   *
   * Nothing in it is read or deleted. Where it is encrypted with a key that this app only knows by name, the key's
   * policy has to let the role of the outputs use it.
   */
  readonly bucket: s3.IBucket;

  /**
   * What every key begins with; where it does not end in `/`, one is added.
   *
   * @default - the keys begin with the name of the image
   */
  readonly prefix?: string;

  /**
   * What the objects are named by.
   *
   * @default ScanLogsLayout.TAG
   */
  readonly layout?: ScanLogsLayout;
}

/**
 * Where findings and summary of a scan are written for people and tools to read, after the deployment has its answer.
 *
 * Nothing that goes wrong here decides about a deployment, unless `strictOutputs` says so.
 */
export abstract class ScanLogsOutput {
  /**
   * Into log streams of a log group.
   */
  public static cloudWatchLogs(props: CloudWatchLogsOutputProps): ScanLogsOutput {
    return new CloudWatchLogsOutput(props);
  }

  /**
   * Into objects of a bucket.
   */
  public static s3(props: S3OutputProps): ScanLogsOutput {
    return new S3Output(props);
  }

  /**
   * Grants what writing takes, and says where to write; called once, by the verifier, with the role that writes.
   */
  public abstract bind(grantee: iam.IGrantable): ScanLogsOutputOptions;

  /**
   * What has to be there before the gate can ask.
   *
   * @internal
   */
  public _needs(): Needs {
    return {};
  }
}

class CloudWatchLogsOutput extends ScanLogsOutput {
  constructor(private readonly props: CloudWatchLogsOutputProps) {
    super();
  }

  public override bind(grantee: iam.IGrantable): ScanLogsOutputOptions {
    const { logGroup, layout } = this.props;
    logGroup.grantWrite(grantee); // logs:CreateLogStream, logs:PutLogEvents
    const options: CloudWatchLogsOutputOptions = { type: ScanLogsOutputType.CLOUDWATCH_LOGS, logGroupName: logGroup.logGroupName, layout };
    return options;
  }

  /** @internal */
  public override _needs(): Needs {
    return { 'log group of scanLogsOutput': this.props.logGroup };
  }
}

class S3Output extends ScanLogsOutput {
  constructor(private readonly props: S3OutputProps) {
    super();
  }

  public override bind(grantee: iam.IGrantable): ScanLogsOutputOptions {
    const { bucket, layout } = this.props;
    iam.Grant.addToPrincipalOrResource({
      grantee,
      actions: ['s3:PutObject'], // an object is written once, under a key of its own: nothing to look up, nothing to delete
      resourceArns: [below(bucket, this.props.prefix)],
      resource: bucket,
    });
    mayUseKey(grantee, bucket.encryptionKey, 's3', ['kms:Decrypt', 'kms:GenerateDataKey']);
    const options: S3OutputOptions = {
      type: ScanLogsOutputType.S3,
      bucketName: bucket.bucketName,
      prefix: prefixText(this.props.prefix),
      layout,
    };
    return options;
  }

  /** @internal */
  public override _needs(): Needs {
    const { bucket } = this.props;
    return { 'bucket of scanLogsOutput': bucket, 'key of the bucket of scanLogsOutput': bucket.encryptionKey };
  }
}
