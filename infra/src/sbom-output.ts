import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as s3 from 'aws-cdk-lib/aws-s3';
import { Needs, below, prefixText } from './internal/destinations';
import { mayUseKey } from './internal/encryption';
import { admitInspector, mayAskForSboms, mayListBelow } from './internal/sbom';

/**
 * The form in which Inspector writes a bill of materials.
 */
export enum SbomFormat {
  /** CycloneDX 1.4, as JSON. */
  CYCLONEDX_1_4 = 'CYCLONEDX_1_4',

  /** SPDX 2.3, as JSON. */
  SPDX_2_3 = 'SPDX_2_3',
}

/**
 * What an SBOM output comes down to, in the words of the gate.
 */
export interface SbomOutputConfig {
  /**
   * The form of the bill of materials.
   */
  readonly format: SbomFormat;

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

  /**
   * The key that Inspector encrypts with.
   */
  readonly kmsKeyArn: string;
}

/**
 * Choices for a bill of materials.
 */
export interface SbomOutputProps {
  /**
   * The bucket that Inspector writes to, in the region of the stack.
   *
   * Its policy is extended for Inspector; where it is imported and cannot be, a warning says what it has to allow.
   */
  readonly bucket: s3.IBucket;

  /**
   * What every key begins with; where it does not end in `/`, one is added.
   *
   * @default - the keys begin with the name of the image
   */
  readonly prefix?: string;

  /**
   * The key that Inspector encrypts with: symmetric, managed by you, in the region of the bucket.
   *
   * Its policy is extended for Inspector; where it is imported and cannot be, a warning says what it has to allow.
   */
  readonly encryptionKey: kms.IKey;
}

/**
 * Has Inspector write a bill of materials of the image, after the deployment has its answer.
 *
 * It takes enhanced scanning, and an image that Inspector scans continuously. Nothing that goes wrong here decides about a
 * deployment, unless `strictOutputs` says so.
 */
export abstract class SbomOutput {
  /**
   * As CycloneDX 1.4.
   */
  public static cycloneDx14(props: SbomOutputProps): SbomOutput {
    return new InspectorSbomOutput(SbomFormat.CYCLONEDX_1_4, props);
  }

  /**
   * As SPDX 2.3.
   */
  public static spdx23(props: SbomOutputProps): SbomOutput {
    return new InspectorSbomOutput(SbomFormat.SPDX_2_3, props);
  }

  /**
   * Grants what asking and fetching take, and says where to; called once, by the verifier, with the role that does both.
   */
  public abstract bind(grantee: iam.IGrantable): SbomOutputConfig;

  /**
   * What has to be there before the gate can ask.
   *
   * @internal
   */
  public _needs(): Needs {
    return {};
  }
}

class InspectorSbomOutput extends SbomOutput {
  constructor(private readonly format: SbomFormat, private readonly props: SbomOutputProps) {
    super();
  }

  public override bind(grantee: iam.IGrantable): SbomOutputConfig {
    const { bucket, prefix, encryptionKey } = this.props;
    mayAskForSboms(grantee);
    mayListBelow(grantee, bucket, prefix);
    // What Inspector has written below a name of its own making is copied to one that can be found again.
    iam.Grant.addToPrincipalOrResource({
      grantee,
      actions: ['s3:GetObject', 's3:PutObject'],
      resourceArns: [below(bucket, prefix)],
      resource: bucket,
    });
    new Set([encryptionKey, bucket.encryptionKey]).forEach((key) => mayUseKey(grantee, key, 's3', ['kms:Decrypt', 'kms:GenerateDataKey']));
    admitInspector(grantee, bucket, encryptionKey);
    return { format: this.format, bucketName: bucket.bucketName, prefix: prefixText(prefix), kmsKeyArn: encryptionKey.keyArn };
  }

  /** @internal */
  public override _needs(): Needs {
    const { bucket, encryptionKey } = this.props;
    return { 'bucket of sbomOutput': bucket, 'encryptionKey of sbomOutput': encryptionKey, 'key of the bucket of sbomOutput': bucket.encryptionKey };
  }
}
