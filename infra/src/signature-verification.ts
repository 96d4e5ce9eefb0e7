import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import { Needs } from './internal/destinations';

/**
 * What a verification of signatures comes down to, in the words of the gate.
 */
export interface SignatureVerificationBindOutput {
  /**
   * Whose signatures count: `NOTATION` or `COSIGN`.
   */
  readonly type: string;

  /**
   * The ARNs of the signing profiles whose signatures count (Notation).
   *
   * @default - signatures are not checked by signing profile
   */
  readonly trustedIdentities?: string[];

  /**
   * The key that has to have signed, in PEM (Cosign).
   *
   * @default - no key of this kind
   */
  readonly publicKey?: string;

  /**
   * The ARN of the KMS key that has to have signed (Cosign).
   *
   * @default - no key of this kind
   */
  readonly kmsKeyArn?: string;

  /**
   * Whether an image without a signature that counts is refused.
   */
  readonly failOnUnsigned: boolean;
}

/**
 * What every verification of signatures can be told.
 */
export interface VerificationOptions {
  /**
   * Refuses an image that has no signature, or none that counts.
   *
   * With `false` such an image is let through as far as signatures go, and somebody is told. An image whose signatures could
   * not be looked at is refused either way.
   *
   * @default true
   */
  readonly failOnUnsigned?: boolean;
}

/**
 * Choices for signatures made with Notation and AWS Signer.
 */
export interface NotationVerificationOptions extends VerificationOptions {
  /**
   * The ARNs of the signing profiles whose signatures count; at least one.
   */
  readonly trustedIdentities: string[];
}

/**
 * Choices for signatures made with Cosign, checked by a public key.
 */
export interface CosignPublicKeyVerificationOptions extends VerificationOptions {
  /**
   * The public key that has to have signed, in PEM.
   */
  readonly publicKey: string;
}

/**
 * Choices for signatures made with Cosign, checked by a key in KMS.
 */
export interface CosignKmsVerificationOptions extends VerificationOptions {
  /**
   * The key that has to have signed: an asymmetric one, for signing and verifying.
   */
  readonly key: kms.IKey;
}

/**
 * Whose signature an image has to carry.
 *
 * A pipeline whose functions cannot check signatures yet refuses the deployment, and says so.
 */
export abstract class SignatureVerification {
  /**
   * One made with Notation, by a signing profile of AWS Signer.
   */
  public static notation(options: NotationVerificationOptions): SignatureVerification {
    if (options.trustedIdentities.length === 0) {
      throw new Error('trustedIdentities must contain at least one signing profile ARN.');
    }
    return new FixedSignatureVerification({ ...common('NOTATION', options), trustedIdentities: options.trustedIdentities });
  }

  /**
   * One made with Cosign, that this public key confirms.
   */
  public static cosignPublicKey(options: CosignPublicKeyVerificationOptions): SignatureVerification {
    return new FixedSignatureVerification({ ...common('COSIGN', options), publicKey: options.publicKey });
  }

  /**
   * One made with Cosign, that this key in KMS confirms.
   */
  public static cosignKms(options: CosignKmsVerificationOptions): SignatureVerification {
    const needs = { 'key of signatureVerification': options.key };
    return new FixedSignatureVerification({ ...common('COSIGN', options), kmsKeyArn: options.key.keyArn }, needs);
  }

  /**
   * Says whose signatures count; called once, by the verifier.
   *
   * Signatures are checked by the pipeline's functions, whose roles a gate cannot extend: what is granted to the grantee here
   * comes to nothing, and raises a warning.
   */
  public abstract bind(grantee: iam.IGrantable): SignatureVerificationBindOutput;

  /**
   * What has to be there before the gate can ask.
   *
   * @internal
   */
  public _needs(): Needs {
    return {};
  }
}

function common(type: string, options: VerificationOptions): SignatureVerificationBindOutput {
  return { type, failOnUnsigned: options.failOnUnsigned ?? true };
}

class FixedSignatureVerification extends SignatureVerification {
  constructor(private readonly output: SignatureVerificationBindOutput, private readonly needs: Needs = {}) {
    super();
  }

  public override bind(_grantee: iam.IGrantable): SignatureVerificationBindOutput {
    return this.output;
  }

  /** @internal */
  public override _needs(): Needs {
    return this.needs;
  }
}
